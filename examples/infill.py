"""A hole in a text, whose length the model chooses. All the rest comes back character by character."""

from __future__ import annotations

import diffusiongemma as dg

TEXT = "After lunch, Anna {} a picture in the garden.\n"

model = dg.load("nano")
instruction = "Rewrite in the past tense.\n\n" + TEXT.format("paints")
result = model.infill_text(TEXT.format("<<>>"), instruction=instruction)
print(result.text)
print("filled in:", result.fills, "of so many tokens:", result.lengths)
