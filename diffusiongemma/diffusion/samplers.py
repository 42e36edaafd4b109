"""Which predictions a step keeps. A sampler is a frozen dataclass; a new one is one class and one test.

Canvases [..., C] come one at a time or several of one width, which training takes on at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from diffusiongemma.diffusion.noise import ANCESTRAL, RENOISE, GivenNoise, Noise, NoiseOfSeveral
from diffusiongemma.diffusion.readout import Prediction


@dataclass(frozen=True)
class StepContext:
    """Where in the schedule a canvas is, and its random numbers; of several canvases [n, C], each for itself."""

    noise: Noise | NoiseOfSeveral | GivenNoise
    step: Any  # 1 is the first; of several float64 [n, 1]
    steps: int
    vocab_size: int

    @property
    def level(self) -> Any:
        """Noise level of the canvas the model has just read: 1 at the first step."""
        return 1 - (self.step - 1) / self.steps

    @property
    def next_level(self) -> Any:
        return 1 - self.step / self.steps


class Sampler(Protocol):
    def __call__(self, canvas: Tensor, prediction: Prediction, context: StepContext) -> tuple[Tensor, Tensor]:
        """canvas [..., C] as the model read it -> (the next canvas, which positions were accepted), [..., C] both."""
        ...


def _renoise(prediction: Prediction, accepted: Tensor, context: StepContext) -> tuple[Tensor, Tensor]:
    """Keep the sampled token where accepted; everywhere else a fresh random one."""
    fresh = context.noise.tokens(context.step, RENOISE, accepted.shape[-1], context.vocab_size).to(accepted.device)
    return torch.where(accepted, prediction.sampled, fresh), accepted


@dataclass(frozen=True)
class EntropyBound:
    """Accept positions in order of entropy while the sum of the *other* accepted entropies is within `bound` nats.

    That sum bounds the mutual information the step ignores by sampling positions apart (arXiv 2505.24857).
    """

    bound: float = 0.1

    def __call__(self, canvas: Tensor, prediction: Prediction, context: StepContext) -> tuple[Tensor, Tensor]:
        entropy, order = prediction.entropy.sort()
        keep = entropy.cumsum(-1) - entropy <= self.bound
        return _renoise(prediction, torch.zeros_like(keep).scatter(-1, order, keep), context)


@dataclass(frozen=True)
class Confidence:
    """Accept positions whose most probable token has at least probability `threshold`, and always the surest one."""

    threshold: float = 0.9

    def __call__(self, canvas: Tensor, prediction: Prediction, context: StepContext) -> tuple[Tensor, Tensor]:
        accepted = prediction.logprob >= math.log(self.threshold)
        surest = prediction.logprob.argmax(-1, keepdim=True)
        return _renoise(prediction, accepted.scatter(-1, surest, True), context)


@dataclass(frozen=True)
class FixedK:
    """After step i keep the i·k surest positions; `k` None spreads the canvas evenly over the steps."""

    k: int | None = None

    def __call__(self, canvas: Tensor, prediction: Prediction, context: StepContext) -> tuple[Tensor, Tensor]:
        width = canvas.shape[-1]
        count = -(-width * context.step // context.steps) if self.k is None else self.k * context.step
        surest_first = prediction.logprob.argsort(dim=-1, descending=True, stable=True)
        within = (torch.arange(width, device=canvas.device) < count).expand_as(surest_first)
        return _renoise(prediction, torch.zeros_like(within).scatter(-1, surest_first, within), context)


@dataclass(frozen=True)
class Ancestral:
    """Exact reverse step of uniform-state diffusion.

    A model trained by cross-entropy predicts p(x | z), the clean token given the whole noisy canvas *including* its
    own position, so p(z' | z) = sum over x of p(x | z) q(z' | z, x): draw x, then the next token from the forward
    process's posterior between the two noise levels.
    """

    def __call__(self, canvas: Tensor, prediction: Prediction, context: StepContext) -> tuple[Tensor, Tensor]:
        size, width = context.vocab_size, canvas.shape[-1]
        stay, move = _posterior_weights(context.level, context.next_level, size)
        clean = prediction.sampled
        # Unnormalised q(z' | z, x): the likelihood of z from z' times the probability of z' from x.
        weight_clean = torch.where(clean == canvas, stay.from_same * move.to_clean, stay.from_other * move.to_clean)
        weight_old = torch.where(clean == canvas, 0.0, stay.from_same * move.to_other)
        others = torch.where(clean == canvas, size - 1, size - 2)
        total = weight_clean + weight_old + others * stay.from_other * move.to_other
        u = context.noise.uniforms(context.step, ANCESTRAL, width).to(canvas.device) * total
        fresh = _avoiding(context.noise.uniforms(context.step, RENOISE, width).to(canvas.device), clean, canvas, size)
        following = torch.where(u < weight_clean, clean, torch.where(u < weight_clean + weight_old, canvas, fresh))
        return following, following == clean


@dataclass(frozen=True)
class _Likelihood:
    from_same: Any  # probability of the noisy token when the next one equals it
    from_other: Any


@dataclass(frozen=True)
class _Prior:
    to_clean: Any  # probability that the next token is the clean one
    to_other: Any


def _posterior_weights(level: Any, next_level: Any, size: int) -> tuple[_Likelihood, _Prior]:
    # A token is uniform with probability `level`, so it survives from next_level, below 1, with this probability.
    survive = (1 - level) / (1 - next_level)
    likelihood = _Likelihood(survive + (1 - survive) / size, (1 - survive) / size)
    return likelihood, _Prior(1 - next_level + next_level / size, next_level / size)


def _avoiding(uniforms: Tensor, clean: Tensor, canvas: Tensor, size: int) -> Tensor:
    """Tokens drawn uniformly from those that are neither `clean` nor `canvas`."""
    low, high = torch.minimum(clean, canvas), torch.maximum(clean, canvas)
    index = (uniforms * (size - torch.where(low == high, 1, 2))).long()
    index = index + (index >= low).long()
    return torch.where(low == high, index, index + (index >= high).long())


SAMPLERS = {"entropy-bound": EntropyBound, "confidence": Confidence, "fixed-k": FixedK, "ancestral": Ancestral}
