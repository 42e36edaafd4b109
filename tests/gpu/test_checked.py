"""Passes by kernels are used where they agree with the modules, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from training import tiny_model

pytest.importorskip("triton")

from diffusiongemma.gpu import SWITCH, accelerate, passes


class Fake:
    """Passes that are the modules' own, and one of them turned aside."""

    def __init__(self, model, aside: str = "", error: Exception | None = None):
        self.model, self.aside, self.error = model, aside, error

    def takes(self, rows) -> bool:
        return True

    def _plainly(self, name: str, compute: Any) -> torch.Tensor:
        self.model.backbone.fast = None
        hidden = compute()
        self.model.backbone.fast = self
        if name != self.aside:
            return hidden
        if self.error is not None:
            raise self.error
        return torch.full_like(hidden, float("nan"))

    def denoise(self, *given):
        return self._plainly("denoise", lambda: self.model.denoise_rows(*given))

    def encode_one(self, *given):
        return self._plainly("encode_one", lambda: self.model.encode_rows(*given))

    def encode(self, *given):
        return self._plainly("encode", lambda: self.model.backbone.encode(*given))


def test_passes_that_agree_are_used():
    model = tiny_model().eval()
    fake = Fake(model)
    assert passes.checked(model, fake) is None and model.backbone.fast is fake


@pytest.mark.parametrize("aside", ["denoise", "encode_one", "encode"])
@pytest.mark.parametrize(
    ("error", "words"), [(None, "do not agree .*cosine nan"), (RuntimeError("no such kernel\nmore"), "no such kernel")]
)
def test_others_are_not(aside, error, words):
    model = tiny_model().eval()
    with pytest.raises(ValueError, match=words):
        raise ValueError(passes.checked(model, Fake(model, aside, error)))
    assert model.backbone.fast is None


def test_they_must_be_asked_for(monkeypatch):
    model = tiny_model()
    monkeypatch.delenv(SWITCH, raising=False)
    assert f"set {SWITCH}=1" in accelerate(model)
    monkeypatch.setenv(SWITCH, "1")
    with pytest.warns(UserWarning, match="plain modules go on, not on a GPU"):
        assert accelerate(model) == "not on a GPU that has them" and model.backbone.fast is None
