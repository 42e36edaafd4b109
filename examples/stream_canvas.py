"""A generation as a stream of events: every step of the canvas, then the text."""

from __future__ import annotations

import diffusiongemma as dg

model = dg.load("nano")
prompt = """Change "flowers" to "an invitation". Change nothing else.

In the morning, Jack sends flowers. Jack watches the boats."""

for event in model.stream(prompt, seed=7, verify="never"):
    if isinstance(event, dg.CanvasStep):
        draft = model.tokenizer.decode(event.argmax[:24])  # the most probable tokens, at the first positions
        print(f"step {event.step:2}  {event.accepted.mean():4.0%} accepted  {draft!r}")
    elif isinstance(event, dg.TextDelta):
        print("text:", event.text)
    elif isinstance(event, dg.Finished):
        print(f"{event.result.tokens_per_forward:.1f} tokens per forward pass")
