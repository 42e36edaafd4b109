"""The routed-expert product, in three forms of equal result."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusiongemma.kernels.gated import gated
from diffusiongemma.kernels.rows import MULTIPLE

# Up to this ratio of experts held to experts used per token all of them are computed: 0.32 ms against 0.51 ms sorted
# (forward, 96 tokens, hidden 128, 4 experts, top-2, two CPU cores, float32).
DENSE_RATIO = 2


def expert_mlp(x: Tensor, weights: Tensor, experts: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """Weighted sum of each token's chosen experts' gated MLPs.

    x [N, D], weights [N, k], experts [N, k] int64, gate_up [E, 2W, D], down [E, D, W] -> [N, D] in x's dtype.
    A token's result does not depend on which other tokens share the batch.
    """
    if gate_up.shape[0] <= DENSE_RATIO * experts.shape[1]:
        return dense_expert_mlp(x, weights, experts, gate_up, down)
    if _can_group(x, gate_up, down):
        return grouped_expert_mlp(x, weights, experts, gate_up, down)
    return sorted_expert_mlp(x, weights, experts, gate_up, down)


def sorted_expert_mlp(x: Tensor, weights: Tensor, experts: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """Tokens sorted by expert, two matrix products per expert that is hit."""
    ups, downs = gate_up.unbind(), down.unbind()  # at once: the gradient of each by itself would be as large as all
    first, second = (lambda e, rows: F.linear(rows, ups[e])), (lambda e, rows: F.linear(rows, downs[e]))
    return by_expert(x, weights, experts, len(gate_up), first, second)


OneProduct = Callable[[int, Tensor], Tensor]  # an expert's matrix times its rows


def by_expert(x: Tensor, weights: Tensor, experts: Tensor, count: int, gate_up: OneProduct, down: OneProduct) -> Tensor:
    """`expert_mlp` of `count` experts whose products, gate_up [n, D] -> [n, 2W] and down [n, W] -> [n, D], are given.

    A token's experts are summed in float32, in the router's order.
    """
    slots = experts.flatten()
    order = slots.argsort(stable=True)  # [N*k], slots sorted by expert
    counts = torch.bincount(slots, minlength=count)
    sizes = counts + -counts % (MULTIPLE if x.device.type == "cpu" else 1)  # as `filled` has them
    places = (
        torch.arange(len(slots), device=x.device) + (sizes.cumsum(0) - sizes - counts.cumsum(0) + counts)[slots[order]]
    )
    rows = x.new_zeros(int(sizes.sum()), x.shape[1]).index_copy(0, places, x[order // experts.shape[1]])
    gate, up = _products(gate_up, rows, sizes).chunk(2, dim=-1)
    parts = _products(down, gated(gate, up), sizes)[places]
    parts = torch.empty_like(parts).index_copy(0, order, parts).view(*experts.shape, -1)  # [N, k, D]
    out = torch.zeros(x.shape, dtype=torch.float32, device=x.device)
    for part, share in zip(parts.unbind(1), weights.unbind(1), strict=True):
        out = out + part * share[:, None]
    return out.to(x.dtype)


def _products(product: OneProduct, rows: Tensor, sizes: Tensor) -> Tensor:
    parts = enumerate(rows.split(sizes.tolist()))
    return torch.cat([product(expert, part) for expert, part in parts if len(part)])


def grouped_expert_mlp(x: Tensor, weights: Tensor, experts: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """Tokens sorted by expert, one matrix product for all experts: few launches, and nothing waits for the device.

    A token's experts are summed in float32, in the router's order.
    """
    chosen, order = experts.flatten().sort(stable=True)  # [N*k], slots sorted by expert
    # Where each expert's slots end [E]. `bincount` would wait for the device.
    ends = torch.searchsorted(chosen, torch.arange(len(gate_up), device=x.device), right=True, out_int32=True)
    gate, up = torch._grouped_mm(x[order // experts.shape[1]], gate_up.mT, offs=ends).chunk(2, dim=-1)  # [N*k, W]
    parts = torch._grouped_mm(gated(gate, up), down.mT, offs=ends)  # [N*k, D]
    parts = torch.empty_like(parts).index_copy(0, order, parts).view(*experts.shape, -1)  # [N, k, D]
    return (parts * weights[..., None]).sum(1).to(x.dtype)


def _can_group(x: Tensor, gate_up: Tensor, down: Tensor) -> bool:
    """Whether torch has the grouped product for these: bfloat16 in rows of whole 16 bytes, on a GPU with the kernel.

    Not where the experts are trained: their gradients take groups of whole 16 bytes too.
    """
    if x.device.type != "cuda" or {x.dtype, gate_up.dtype, down.dtype} != {torch.bfloat16}:
        return False
    trained = torch.is_grad_enabled() and (gate_up.requires_grad or down.requires_grad)
    aligned = gate_up.shape[2] % 8 == 0 and down.shape[2] % 8 == 0
    return aligned and not trained and torch.cuda.get_device_capability(x.device) >= (9, 0)


def dense_expert_mlp(x: Tensor, weights: Tensor, experts: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """Every expert on every token, unused ones weighted zero: no gather, static shapes."""
    count, dim, width = down.shape
    share = torch.zeros(len(x), count, dtype=weights.dtype, device=x.device).scatter(1, experts, weights)  # [N, E]
    gate, up = F.linear(x, gate_up.reshape(-1, dim)).view(-1, count, 2 * width).chunk(2, dim=-1)  # [N, E, W]
    hidden = gated(gate, up, share)
    return F.linear(hidden.flatten(1), down.transpose(0, 1).reshape(dim, -1)).to(x.dtype)
