"""Initial weights, optimisers, and the moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from diffusiongemma.train.config import TrainConfig
from diffusiongemma.train.muon import Muon
from diffusiongemma.train.parallel import local_shard


def initialise(model: nn.Module, seed: int) -> None:
    """Random weights for training from nothing: normal, scaled by fan-in.

    Scaled by sqrt(hidden) on the way in, embeddings get unit variance; on the way out, logits of order one.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0, parameter.shape[-1] ** -0.5, generator=generator)


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def slow_down(parameter: torch.Tensor, share: float, muon: bool = False) -> None:
    """Let it learn at that share of the learning rate, by Adam, or a matrix by Muon."""
    parameter.share_of_rate, parameter.slow_by_muon = share, muon  # type: ignore[attr-defined]


def optimisers(model: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Adam for all; or Muon for the matrices of the stack and Adam for embeddings, experts, norms and scales.

    What is slowed down is left to Adam unless it says otherwise: Muon moves a matrix as far in directions that are to
    stay as in others.
    """
    trained = trained_parameters(model)
    slow = {n: share for n, p in trained.items() if (share := getattr(p, "share_of_rate", 1.0)) != 1.0}
    matrices = {}
    if config.optimiser == "muon":
        stack = ("backbone.layers", "backbone.self_cond")
        matrices = {n: p for n, p in trained.items() if p.ndim == 2 and n.startswith(stack)}
        matrices = {n: p for n, p in matrices.items() if n not in slow or getattr(p, "slow_by_muon", False)}
    by_muon: dict[float, list[nn.Parameter]] = {}
    others: dict[float, list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        (by_muon if name in matrices else others).setdefault(slow.get(name, 1.0), []).append(parameter)
    made: list[torch.optim.Optimizer] = []
    if by_muon:
        groups = [{"params": some, "share": share} for share, some in by_muon.items()]
        made.append(Muon(groups, lr=config.learning_rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"))
    if others:
        groups = [{"params": some, "share": share} for share, some in others.items()]
        made.append(torch.optim.Adam(groups, lr=config.learning_rate, betas=config.betas))
    return made


class Average:
    """Exponential moving average of the trained weights: what is evaluated and exported. Decay 0 keeps none."""

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.weights = {n: p.detach().clone() for n, p in trained_parameters(model).items()} if decay else {}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        if not self.weights:
            return
        decay = min(self.decay, (1 + step) / (10 + step))  # early on, forget the beginning faster
        parameters = trained_parameters(model)
        new = [local_shard(parameters[n]) for n in self.weights]
        torch._foreach_lerp_([local_shard(w) for w in self.weights.values()], new, 1 - decay)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """The averaged weights in the model for a while. Values are copied, so that shards stay where they are."""
        parameters = trained_parameters(model)
        saved = {n: local_shard(parameters[n]).detach().clone() for n in self.weights}
        self.settle(model)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weight in saved.items():
                    local_shard(parameters[name]).copy_(weight)

    @torch.no_grad()
    def settle(self, model: nn.Module) -> None:
        """Leave the averaged weights in the model."""
        parameters = trained_parameters(model)
        for name, weight in self.weights.items():
            local_shard(parameters[name]).copy_(local_shard(weight))
