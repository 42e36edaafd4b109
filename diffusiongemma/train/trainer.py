"""The training loop: a step is one batch, a run is a wall-clock budget or a number of steps."""

from __future__ import annotations

import ctypes
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from diffusiongemma.config import ModelConfig
from diffusiongemma.model.model import Model
from diffusiongemma.train.objective import Batch, Draw, Objective, loss


@dataclass(frozen=True)
class TrainConfig:
    """Rates and lengths of a run. Without `budget` the schedule follows `steps`, else the clock."""

    steps: int = 2000
    budget: float | None = None  # seconds
    learning_rate: float = 2e-3
    warmup: int = 100
    floor: float = 0.1  # the cosine ends at this share of the learning rate
    betas: tuple[float, float] = (0.95, 0.99)
    clip: float = 1.0
    ema: float = 0.998
    seed: int = 0
    log_every: int = 25
    save_every: int = 500


def initialise(model: Model, seed: int) -> None:
    """Random weights for training from nothing: normal, scaled by fan-in; outputs of branches start small."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("backbone.embed"):
                # Scaled by sqrt(hidden) on the way in, this gives unit variance; on the way out, logits of order one.
                parameter.normal_(0, parameter.shape[-1] ** -0.5, generator=generator)
            elif parameter.ndim >= 2:
                parameter.normal_(0, parameter.shape[-1] ** -0.5, generator=generator)


def optimisers(model: Model, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the stack, Adam for embeddings, experts, norms and scales."""
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    matrices = [p for n, p in trained if p.ndim == 2 and n.startswith(("backbone.layers", "backbone.self_cond"))]
    ids = {id(p) for p in matrices}
    others = [p for _, p in trained if id(p) not in ids]
    return [
        torch.optim.Muon(matrices, lr=config.learning_rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
        torch.optim.Adam(others, lr=config.learning_rate, betas=config.betas),
    ]


def schedule(step: int, progress: float, config: TrainConfig) -> float:
    """Share of the learning rate: linear warm-up, then a cosine over `progress` 0..1 down to `floor`."""
    cosine = config.floor + (1 - config.floor) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2
    return min(1.0, (step + 1) / config.warmup) * cosine


class Average:
    """Exponential moving average of the weights; what is saved and evaluated."""

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.weights = {n: p.detach().clone() for n, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        parameters = dict(model.named_parameters())
        torch._foreach_lerp_(list(self.weights.values()), [parameters[n] for n in self.weights], 1 - decay)

    def state(self, model: nn.Module) -> dict[str, Tensor]:
        return model.state_dict() | self.weights


def train(
    model: Model,
    batches: Iterator[tuple[Batch, Objective]],
    config: TrainConfig,
    report: Callable[[dict[str, float]], None] = lambda _: None,
    checkpoint: Callable[[dict[str, Tensor], int], None] = lambda state, step: None,
) -> Average:
    """Train in place; returns the averaged weights. Raises `FloatingPointError` when the loss is not finite."""
    keep_freed_memory()
    model.train().requires_grad_(True)
    generator = torch.Generator().manual_seed(config.seed)
    steppers = optimisers(model, config)
    average = Average(model, config.ema)
    started, window = time.monotonic(), []
    for step in range(config.steps):
        elapsed = time.monotonic() - started
        progress = elapsed / config.budget if config.budget else step / config.steps
        if progress >= 1:
            break
        batch, objective = next(batches)
        window.append(_step(model, batch, objective, generator, steppers, schedule(step, progress, config), config))
        average.update(model, step)
        if (step + 1) % config.log_every == 0:
            report({"step": step + 1, "seconds": elapsed, "progress": progress, **_means(window)})
            window.clear()
        if (step + 1) % config.save_every == 0:
            checkpoint(average.state(model), step + 1)
    checkpoint(average.state(model), step + 1)
    return average


def _step(
    model: Model, batch: Batch, objective: Objective, generator: torch.Generator,
    steppers: list[torch.optim.Optimizer], rate: float, config: TrainConfig,
) -> dict[str, float]:  # fmt: skip
    size, width = batch.canvas.shape
    draw = Draw.sample(size, width, model.config.vocab_size, objective, generator)
    with torch.autocast(batch.ids.device.type, torch.bfloat16):
        result = loss(model, batch, draw, objective)
    result.total.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
    if not torch.isfinite(norm):
        raise FloatingPointError("the loss is no longer a finite number: lower the learning rate")
    for stepper in steppers:
        for group in stepper.param_groups:
            group["lr"] = config.learning_rate * rate
        stepper.step()
        stepper.zero_grad(set_to_none=True)
    metrics = {"denoise": float(result.denoise.detach()), "norm": float(norm)}
    return metrics | ({"encoder": float(result.encoder.detach())} if objective.encoder_weight else {})


def _means(window: list[dict[str, float]]) -> dict[str, float]:
    names = {name for metrics in window for name in metrics}
    return {n: sum(m[n] for m in window if n in m) / sum(n in m for m in window) for n in sorted(names)}


def keep_freed_memory() -> None:
    """Have glibc reuse large blocks instead of returning them to the system after every tensor.

    Measured on two cores, 2M parameters, batch 64: 13.6 examples a second without, 32.2 with.
    """
    if os.name == "posix" and hasattr(ctypes.CDLL(None), "mallopt"):
        libc = ctypes.CDLL(None)
        m_trim_threshold, m_mmap_threshold, never = -1, -3, 2**31 - 1
        libc.mallopt(m_mmap_threshold, never)
        libc.mallopt(m_trim_threshold, never)


def save_state(model_config: ModelConfig, state: dict[str, Tensor], path: Path) -> None:
    """Write weights under their file names, atomically."""
    from safetensors.torch import save_file

    from diffusiongemma.weights.checkpoint import file_name

    partial = path.with_suffix(".partial")
    save_file({file_name(n): t.to(torch.bfloat16).contiguous() for n, t in state.items()}, partial, {"format": "pt"})
    os.replace(partial, path)
