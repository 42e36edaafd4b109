"""Output projection, soft-cap and cross-entropy in one, a chunk of rows at a time.

The plain form writes and reads [N, V] float32 logits a dozen times over forward and backward, which on a CPU costs
more than the whole stack of a small model. Here a chunk stays in cache, and its gradient is taken at once.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_ELEMENTS = 1 << 20  # of the logits held at a time, ...
GPU_CHUNK_ELEMENTS = 1 << 26  # ... where launching kernels costs more than memory does


def plain_head_loss(hidden: Tensor, weight: Tensor, targets: Tensor, cap: float) -> Tensor:
    """Mean cross-entropy of cap·tanh(hidden @ weight.T / cap): hidden [N, D], weight [V, D], targets [N] -> []."""
    logits = (F.linear(hidden, weight).float() / cap).tanh() * cap
    return F.cross_entropy(logits, targets)


def head_loss(hidden: Tensor, weight: Tensor, targets: Tensor, cap: float) -> Tensor:
    """`plain_head_loss` without the logits; differentiable once, in `hidden` and `weight`."""
    wanted = [torch.is_grad_enabled() and x.requires_grad for x in (hidden, weight)]
    return _HeadLoss.apply(hidden, weight, targets, cap, wanted)


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, cap: float, wanted: list[bool]) -> Tensor:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        with torch.autocast(device, enabled=False):
            total, grad_hidden, grad_weight = _loss_and_gradients(hidden, weight.to(dtype), targets, cap, wanted)
        ctx.save_for_backward(grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = (None if g is None else g * grads[0] for g in ctx.saved_tensors)
        return grad_hidden, grad_weight, None, None, None


def _loss_and_gradients(
    hidden: Tensor, weight: Tensor, targets: Tensor, cap: float, wanted: list[bool]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """(mean loss, its gradient in hidden [N, D], its float32 gradient in weight [V, D]); None for those unwanted.

    A frozen head must not cost its gradient: at full size that is 3 GB and a third of the work.
    """
    n = len(targets)
    total = torch.zeros((), device=hidden.device)
    grad_hidden = torch.empty_like(hidden) if wanted[0] else None
    grad_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if wanted[1] else None
    size = max(1, (CHUNK_ELEMENTS if hidden.device.type == "cpu" else GPU_CHUNK_ELEMENTS) // weight.shape[0])
    for start in range(0, n, size):
        rows = slice(start, start + size)
        loss, in_hidden, in_weight = of_chunk(
            hidden[rows].to(weight.dtype), weight, targets[rows, None], cap, n, *wanted
        )
        total += loss
        if grad_hidden is not None and in_hidden is not None:
            grad_hidden[rows] = in_hidden
        if grad_weight is not None and in_weight is not None:
            grad_weight += in_weight
    return total / n, grad_hidden, grad_weight


def of_chunk(
    x: Tensor, weight: Tensor, target: Tensor, cap: float, count: int, in_hidden: bool, in_weight: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """(summed loss, its gradients in x [n, D] and weight [V, D] divided by `count`) of some rows."""
    squashed = F.linear(x, weight).float().div_(cap).tanh_()  # tanh(logits / cap)
    # The capped logits lie within ±cap, so the exponentials need no shift to stay finite for cap <= 80.
    weights = (squashed * cap).exp_()
    norm = weights.sum(-1, keepdim=True)
    total = (norm.log() - squashed.gather(1, target) * cap).sum()
    if not (in_hidden or in_weight):
        return total, None, None
    grad = weights.div_(norm).scatter_add_(1, target, torch.full_like(norm, -1.0))  # d loss / d capped
    grad = grad.mul_(squashed.square_().neg_().add_(1)).div_(count).to(weight.dtype)  # through cap * tanh(. / cap)
    return total, grad @ weight if in_hidden else None, grad.T @ x if in_weight else None
