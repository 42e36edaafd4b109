"""Which experts a token goes to, and the slots sorted by expert, without a word to the host."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from diffusiongemma.gpu.forms import block


@triton.jit
def _choose(scores, expert_scale, shares, chosen, count, K: tl.constexpr, BLOCK: tl.constexpr):
    row, at = tl.program_id(0), tl.arange(0, BLOCK)
    score = tl.load(scores + row * count + at, mask=at < count, other=float("-inf")).to(tl.float32)
    left = tl.exp(score - tl.max(score, 0))
    taken = 0.0
    for _ in tl.static_range(K):
        best = tl.argmax(left, 0)
        taken += tl.max(left, 0)
        left = tl.where(at == best, -1.0, left)
    left = tl.exp(score - tl.max(score, 0))
    for k in tl.static_range(K):
        best = tl.argmax(left, 0)
        share = tl.max(left, 0) / taken * tl.load(expert_scale + best).to(tl.float32)
        tl.store(shares + row * K + k, share)
        tl.store(chosen + row * K + k, best)
        left = tl.where(at == best, -1.0, left)


def choose(scores: Tensor, expert_scale: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """scores [N, E] -> the k best experts' shares, float32 [N, k], and their numbers, int32 [N, k]."""
    count, experts = scores.shape
    shares = torch.empty(count, k, dtype=torch.float32, device=scores.device)
    chosen = torch.empty(count, k, dtype=torch.int32, device=scores.device)
    _choose[(count,)](scores, expert_scale, shares, chosen, experts, K=k, BLOCK=block(experts), num_warps=1)
    return shares, chosen


@triton.jit
def _sort(chosen, order, starts, slots, BLOCK: tl.constexpr):
    expert = tl.program_id(0)
    first = 0
    for start in range(0, slots, BLOCK):
        slot = start + tl.arange(0, BLOCK)
        first += tl.sum((tl.load(chosen + slot, mask=slot < slots, other=1 << 30) < expert).to(tl.int32), 0)
    tl.store(starts + expert, first)
    for start in range(0, slots, BLOCK):
        slot = start + tl.arange(0, BLOCK)
        mine = tl.load(chosen + slot, mask=slot < slots, other=-1) == expert
        rank = tl.cumsum(mine.to(tl.int32), 0)
        tl.store(order + first + rank - 1, slot, mask=mine)
        first += tl.sum(mine.to(tl.int32), 0)
    if expert == tl.num_programs(0) - 1:
        tl.store(starts + expert + 1, first)


def by_expert(chosen: Tensor, experts: int) -> tuple[Tensor, Tensor]:
    """chosen [N, k] -> the numbers of the slots sorted by expert, int32 [N * k], and where each expert's begin and the
    last one's end, int32 [E + 1]."""
    slots = chosen.numel()
    order = torch.empty(slots, dtype=torch.int32, device=chosen.device)
    starts = torch.empty(experts + 1, dtype=torch.int32, device=chosen.device)
    _sort[(experts,)](chosen, order, starts, slots, BLOCK=min(2048, max(16, block(slots))), num_warps=4)
    return order, starts
