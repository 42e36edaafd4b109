"""`TrainConfig`, rates and lengths of a run, and `DataConfig`, how much a step sees."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from diffusiongemma.errors import InputError

if TYPE_CHECKING:
    import torch

PRECISIONS = ("auto", "float32", "bfloat16")
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
    precision: str = "float32"  # of the products, "bfloat16" by autocast; "auto": that where it is fast
    grad_checkpoint: bool = False
    shard: bool = True  # among several processes; else each holds all weights, which is faster for small models
    compile: bool = False  # the layers
    capture: bool = False  # on a CUDA device, the passes as graphs, each with its backward pass
    workers: int = 0  # processes that make batches; 0 for a thread
    seed: int = 0
    save_seconds: float = 120.0
    evaluate_every: int = 0

    def __post_init__(self) -> None:
        if self.steps is None and self.budget is None:
            raise InputError("a run needs an end: give `steps` or a `budget`")
        require_at_least(self, steps=1, accumulate=1, warmup=0, evaluate_every=0, workers=0)
        for name in ("learning_rate", "clip", "budget"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError("give a number above 0", option=name, got=value)
        if not 0 <= self.ema < 1:
            raise InputError("give a number from 0 to below 1", option="ema", got=self.ema)
        if not 0 <= self.seed < 2**63:
            raise InputError("give a whole number from 0 to 2**63 - 1", option="seed", got=self.seed)
        for name, choices in (("optimiser", OPTIMISERS), ("precision", PRECISIONS)):
            if getattr(self, name) not in choices:
                raise InputError(f"choose {', '.join(choices)}", option=name, got=getattr(self, name))

    def on(self, device: torch.device) -> TrainConfig:
        """The same with "auto" decided: bfloat16 on GPUs and on CPUs that multiply it in hardware."""
        import torch

        if self.precision != "auto":
            return self
        hardware = [getattr(torch.cpu, f"_is_{name}_supported", bool)() for name in ("avx512_bf16", "amx_tile")]
        fast = device.type == "cuda" or (device.type == "cpu" and any(hardware))
        return replace(self, precision="bfloat16" if fast else "float32")

    def progress(self, step: int, seconds: float) -> float:
        """How far a run is before step number `step`, counted from 0, after `seconds`: 0 to 1 at its end."""
        by_steps = step / self.steps if self.steps is not None else 0.0
        return max(by_steps, seconds / self.budget if self.budget is not None else 0.0)

    def rate(self, step: int, progress: float) -> float:
        """Share of the learning rate: linear warm-up, and a cosine over the run down to `floor`."""
        warm = max((step + 1) / self.warmup, progress / 0.1) if self.warmup else 1.0
        return min(1.0, warm) * (self.floor + (1 - self.floor) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2)


@dataclass(frozen=True)
class DataConfig:
    """What a step sees: `batch` examples of at most `max_length` tokens (None: 2,048, or what the model takes).

    `encoder_every` 4 has the encoder learn to predict answers on every fourth step, with four times the weight, and 0
    on none. Raises `InputError` for a value out of range.
    """

    batch: int = 16
    encoder_every: int = 1
    max_length: int | None = None

    def __post_init__(self) -> None:
        require_at_least(self, batch=1, encoder_every=0, max_length=1)

    def encoder_learns(self, step: int) -> bool:
        return self.encoder_every > 0 and step % self.encoder_every == 0


def require_at_least(config: Any, **least: int) -> None:
    """Raises `InputError` for a field below its least value."""
    for name, low in least.items():
        value = getattr(config, name)
        if value is not None and value < low:
            raise InputError(f"give at least {low}", option=name, got=value)
