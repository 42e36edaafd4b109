"""A text changed by an instruction, starting from the text itself at a noise level."""

from __future__ import annotations

import diffusiongemma as dg

model = dg.load("nano")
text = "In the morning, Jack sends flowers. Jack watches the boats."

result = model.edit(text, "Change the name Jack to Anna.", strength=0.7, seed=7)
print(result.text)
for kind, words in result.diff:  # "same", "delete" or "insert"
    if kind != "same":
        print(f"{kind}: {words!r}")
