"""`TrainConfig`: rates and lengths of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from diffusiongemma.errors import InputError

PRECISIONS = ("float32", "bfloat16")
OPTIMISERS = ("adam", "muon")


@dataclass(frozen=True)
class TrainConfig:
    """How a run goes; the rates are the open recipe's. Raises `InputError` for a value out of range.

    The run ends after `steps` or after `budget` seconds, whichever comes first; the schedule follows the nearer end.
    `accumulate` is the number of parts in which a batch is worked off, to save memory; the gradient is the same.
    `ema` 0 keeps no average of the weights. `evaluate_every` 0 evaluates at the end only.
    """

    steps: int | None = 2000
    budget: float | None = None  # seconds
    learning_rate: float = 2e-3
    warmup: int = 100  # steps, but never more than a tenth of the run
    floor: float = 0.1  # the cosine ends at this share of the learning rate
    optimiser: str = "adam"
    betas: tuple[float, float] = (0.95, 0.99)
    clip: float = 1.0
    ema: float = 0.0
    accumulate: int = 1
    precision: str = "float32"  # of the products, "bfloat16" by autocast; weights keep their own
    grad_checkpoint: bool = False
    shard: bool = True  # among several processes; else each holds all weights, which is faster for small models
    compile: bool = False  # the layers
    workers: int = 0  # processes that make batches; 0 for a thread
    seed: int = 0
    save_seconds: float = 120.0
    evaluate_every: int = 0

    def __post_init__(self) -> None:
        if self.steps is None and self.budget is None:
            raise InputError("a run needs an end: give steps or a budget")
        for name, low in (("steps", 1), ("accumulate", 1), ("warmup", 0), ("evaluate_every", 0), ("workers", 0)):
            if getattr(self, name) is not None and getattr(self, name) < low:
                raise InputError(f"{name.replace('_', '-')} is {getattr(self, name)}: give at least {low}")
        for name in ("learning_rate", "clip", "budget"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"{name.replace('_', '-')} is {value}: give a number above 0")
        if not 0 <= self.ema < 1:
            raise InputError(f"ema is {self.ema}: give a number from 0 to below 1")
        if self.optimiser not in OPTIMISERS:
            raise InputError(f"no optimiser {self.optimiser!r}: choose {' or '.join(OPTIMISERS)}")
        if self.precision not in PRECISIONS:
            raise InputError(f"no precision {self.precision!r}: choose {' or '.join(PRECISIONS)}")

    def progress(self, step: int, seconds: float) -> float:
        """How far a run is before step number `step`, counted from 0, after `seconds`: 0 to 1 at its end."""
        by_steps = step / self.steps if self.steps is not None else 0.0
        return max(by_steps, seconds / self.budget if self.budget is not None else 0.0)

    def rate(self, step: int, progress: float) -> float:
        """Share of the learning rate: linear warm-up, and a cosine over the run down to `floor`."""
        warm = max((step + 1) / self.warmup, progress / 0.1) if self.warmup else 1.0
        return min(1.0, warm) * (self.floor + (1 - self.floor) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2)
