"""Muon (Jordan et al. 2024) whose steps are taken for all matrices of a shape at once, in a precision to choose.

torch's own rounds to bfloat16, which a CPU without such products emulates: there it took half of a small model's step.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

_TINY = 1e-7  # below which a gradient counts as zero


class Muon(torch.optim.Muon):
    """torch's optimiser with its settings and its state; only `step` differs, and by rounding alone.

    Raises what torch's raises: ValueError for parameters that are no matrices.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move the weights against their averaged, orthogonalised gradients; those without a gradient stay.

        `closure`, where given, computes the gradients first; what it returns, the loss, is returned.
        """
        loss = torch.enable_grad()(closure)() if closure is not None else None
        for group in self.param_groups:
            alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    alike[weight.shape].append((weight, self._averaged(weight, group)))
            for shape, pairs in alike.items():
                moves = orthogonalised(
                    torch.stack([average for _, average in pairs]), group["ns_coefficients"], group["ns_steps"]
                )
                # As long, per entry, as Adam's steps are ("match_rms_adamw").
                rate = 0.2 * max(shape) ** 0.5 * group["lr"]
                for (weight, _), move in zip(pairs, moves, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(move, alpha=-rate)
        return loss

    def _averaged(self, weight: Tensor, group: dict[str, Any]) -> Tensor:
        """The gradient with its momentum, Nesterov's way."""
        assert weight.grad is not None and group["nesterov"] and group["adjust_lr_fn"] == "match_rms_adamw"
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight.grad)
        average = state["momentum_buffer"].lerp_(weight.grad, 1 - group["momentum"])
        return weight.grad.lerp(average, group["momentum"])


def orthogonalised(matrices: Tensor, coefficients: tuple[float, float, float], steps: int) -> Tensor:
    """matrices [N, A, B] -> about the nearest ones with all singular values alike (between 0.5 and 1.5).

    By Newton and Schulz's iteration x <- ax + (bxxᵀ + c(xxᵀ)²)x, in bfloat16 on a GPU, else in float32.
    """
    a, b, c = coefficients
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x.to(torch.bfloat16 if x.is_cuda else torch.float32)
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=_TINY)
    for _ in range(steps):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)
