"""A conversation. The second turn encodes only what the cache lacks."""

from __future__ import annotations

import diffusiongemma as dg

model = dg.load("nano")
chat = model.chat(seed=7)

for question in ("Tell me the color of an emerald.", "Name the color of a lemon."):
    result = chat.send(question)
    print(f"you:   {question}")
    print(f"nano:  {result.text}")
    print(f"       {result.prompt_tokens} prompt tokens, {result.cached_tokens} of them from the cache")
