"""A hole in a text, whose length the model chooses. All the rest comes back character by character."""

from __future__ import annotations

import diffusiongemma as dg

TEXT = "In the morning, Jack sends {}. Jack watches the boats.\n"

model = dg.load("nano")
instruction = 'Change "flowers" to "an invitation". Change nothing else.\n\n' + TEXT.format("flowers")
result = model.infill_text(TEXT.format("<<>>"), instruction=instruction, seed=1)
print(result.text)
print("filled in:", result.fills, "of so many tokens:", result.lengths)
