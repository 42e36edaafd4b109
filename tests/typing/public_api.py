"""A program that uses the public API, for `mypy` (pyproject.toml: strict): it is checked, never run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_type

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import diffusiongemma as dg
from diffusiongemma.diffusion.samplers import Confidence
from diffusiongemma.engine.session import Session
from diffusiongemma.model.cache import KVCache

model = dg.load("nano", device="cpu", dtype=torch.float32)
assert_type(model, dg.DiffusionGemma)

# One prompt gives a result, a list of them a list.
assert_type(model.generate("Hello", seed=7, sampler=Confidence(0.9), json_schema={"type": "object"}), dg.Result)
assert_type(model.generate([{"role": "user", "content": "Hello"}], think=True), dg.Result)
assert_type(model.generate([2, 105, 7], raw=True), dg.Result)
assert_type(model.generate(torch.tensor([2, 105, 7])), dg.Result)
assert_type(model.generate(["one", "two"], seed=[1, 2], steps=[8, 48], mode="ar"), list[dg.Result])
assert_type(model.generate([[2, 105], [2, 106]], temperature=[0.5, 1.0], max_batch=2), list[dg.Result])
conversations = [[{"role": "user", "content": "one"}], [{"role": "user", "content": "two"}]]
assert_type(model.generate(conversations), list[dg.Result])

model.generate("Hello", stepz=8)  # type: ignore[call-overload]
model.generate("Hello", seed="seven")  # type: ignore[call-overload]
model.generate("Hello", seed=[1, 2])  # type: ignore[call-overload]
model.generate(7)  # type: ignore[call-overload]
dg.no_such_name  # type: ignore[attr-defined]  # noqa: B018

events = model.stream("Hello", frames=False, logit_bias={5: 2.0}, pins={0: "The"})
assert_type(events, Iterator[dg.CanvasStep | dg.CanvasCommitted | dg.TextDelta | dg.Finished])
for event in events:
    if isinstance(event, dg.CanvasStep):
        assert_type(event.entropy, NDArray[np.float32])
    if isinstance(event, dg.Finished):
        assert_type(event.result.tokens_per_forward, float)

model.request("Hello", id=1, regex="a+", frames=True)
model.request("Hello", regexp="a+")  # type: ignore[call-arg]

chat = model.chat("Be brief.", seed=1)
assert_type(chat, Session)
assert_type(chat.send("Hello", think=True), dg.Result)

assert_type(model.infill("Dear Ann,\n", "\nBob", length=(1, 6), seed=1), dg.InfillResult)
assert_type(model.infill_text("a <<>> b").fills, tuple[str, ...])
edited = model.edit("I has a dog.", "Correct it.", spans=[(2, 5)], strength=0.5, steps=8)
assert_type(edited, dg.EditResult)
model.edit("I has a dog.", json_schema={})  # type: ignore[call-arg]

decision = model.decide({"a": 1}, {"q": {"type": "noul", "instructions": "?"}}, samples=2)
assert_type(decision, dg.Decision)
assert_type(decision.answers["q"].value, float | str)

cache = model.encode(torch.tensor([[2, 105]]))
assert_type(cache, KVCache)
assert_type(model.denoise(torch.zeros(1, 96, dtype=torch.long), cache), Tensor)

try:
    model.generate("Hello", steps=0)
except dg.InputError as error:
    assert_type(error.option, str | None)
