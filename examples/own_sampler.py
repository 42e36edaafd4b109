"""A sampler of your own: a frozen dataclass that can be called, passed in as a value."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import diffusiongemma as dg
from diffusiongemma.diffusion.noise import RENOISE
from diffusiongemma.diffusion.readout import Prediction
from diffusiongemma.diffusion.samplers import StepContext


@dataclass(frozen=True)
class SurestShare:
    """Keep the surest positions, always the same share of them; the others become noise again."""

    share: float = 0.9

    def __call__(self, canvas: Tensor, prediction: Prediction, context: StepContext) -> tuple[Tensor, Tensor]:
        keep = torch.arange(canvas.shape[-1], device=canvas.device) < self.share * canvas.shape[-1]
        surest_first = prediction.logprob.argsort(dim=-1, descending=True)
        accepted = torch.zeros_like(keep).scatter(-1, surest_first, keep)
        noise = context.noise.tokens(context.step, RENOISE, canvas.shape[-1], context.vocab_size)
        return torch.where(accepted, prediction.sampled, noise.to(canvas.device)), accepted


model = dg.load("nano")
result = model.generate("Tell me the color of an emerald.", sampler=SurestShare(0.8), seed=7)
print(result.text, "in", result.steps[0], "steps")
