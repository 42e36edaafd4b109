"""Leaving a generation's path at one step: the same up to there, another seed or sampler from there on.

Exact, because a step depends on nothing but the request and its counter-based random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.diffusion.noise import Noise
from diffusiongemma.diffusion.readout import Prediction
from diffusiongemma.diffusion.samplers import Sampler, StepContext
from diffusiongemma.errors import InputError


@dataclass(frozen=True)
class Branch:
    """Follow the request's own seed and sampler through `step` steps of canvas `canvas` (from 0), then `seed` and
    `sampler`; None keeps the request's own. Raises `InputError` for numbers out of range."""

    canvas: int
    step: int
    seed: int | None = None
    sampler: Any = None

    def __post_init__(self) -> None:
        if self.canvas < 0 or self.step < 0:
            raise InputError("canvas and step are counted from 0: give numbers of at least 0", option="branch")
        if self.seed is not None and not 0 <= self.seed < 2**64:
            raise InputError(f"its seed is {self.seed!r}: give a whole number from 0 to 2**64 - 1", option="branch")

    def noise(self, seed: int, canvas: int) -> Noise:
        """The random numbers of one canvas."""
        other = seed if self.seed is None else self.seed
        if canvas == self.canvas:
            return _BranchedNoise(seed, canvas, other, self.step)
        return Noise(seed if canvas < self.canvas else other, canvas)

    def decoding(self, decoding: Decoding, canvas: int) -> Decoding:
        """The rules of one canvas."""
        if self.sampler is None or canvas < self.canvas:
            return decoding
        step = self.step if canvas == self.canvas else 0
        return replace(decoding, sampler=_Switch(decoding.sampler, self.sampler, step))


@dataclass(frozen=True)
class _BranchedNoise(Noise):
    other_seed: int
    last_step: int

    def uniforms(self, step: int, stream: int, n: int) -> Tensor:
        seed = self.seed if step <= self.last_step else self.other_seed
        return Noise(seed, self.canvas).uniforms(step, stream, n)


@dataclass(frozen=True)
class _Switch:
    before: Sampler
    after: Sampler
    last_step: int

    def __call__(self, canvas: Tensor, prediction: Prediction, context: StepContext) -> tuple[Tensor, Tensor]:
        sampler = self.before if context.step <= self.last_step else self.after
        return sampler(canvas, prediction, context)
