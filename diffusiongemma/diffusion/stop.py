"""When a canvas is done: one [C], or each of several [n, C] of one width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class StopRule(Protocol):
    def __call__(self, argmaxes: Sequence[Tensor], entropy: Tensor) -> Tensor:
        """argmaxes: [..., C] of every step so far, the latest last; entropy [..., C] in nats of the latest step ->
        [...] bool."""
        ...


@dataclass(frozen=True)
class StableAndConfident:
    """The argmax has not changed for `stability` steps and the mean entropy is below `confidence` nats."""

    stability: int = 1
    confidence: float = 0.005

    def __call__(self, argmaxes: Sequence[Tensor], entropy: Tensor) -> Tensor:
        done = entropy.mean(-1) < self.confidence
        if len(argmaxes) <= self.stability:
            return torch.zeros_like(done)
        for earlier in argmaxes[-1 - self.stability : -1]:
            done = done & (earlier == argmaxes[-1]).all(-1)
        return done


@dataclass(frozen=True)
class Never:
    """Always use every step."""

    def __call__(self, argmaxes: Sequence[Tensor], entropy: Tensor) -> Tensor:
        return torch.zeros_like(entropy[..., 0], dtype=torch.bool)
