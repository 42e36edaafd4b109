"""When a canvas is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class StopRule(Protocol):
    def __call__(self, argmaxes: Sequence[Tensor], entropy: Tensor) -> bool:
        """argmaxes: [C] of every step so far, the latest last; entropy [C] in nats of the latest step."""
        ...


@dataclass(frozen=True)
class StableAndConfident:
    """The argmax has not changed for `stability` steps and the mean entropy is below `confidence` nats."""

    stability: int = 1
    confidence: float = 0.005

    def __call__(self, argmaxes: Sequence[Tensor], entropy: Tensor) -> bool:
        if len(argmaxes) <= self.stability or float(entropy.mean()) >= self.confidence:
            return False
        latest = argmaxes[-1]
        return all(bool((earlier == latest).all()) for earlier in argmaxes[-1 - self.stability : -1])


@dataclass(frozen=True)
class Never:
    """Always use every step."""

    def __call__(self, argmaxes: Sequence[Tensor], entropy: Tensor) -> bool:
        return False
