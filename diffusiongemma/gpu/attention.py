"""Attention of canvases, or of one token each, over caches that stay where they are.

What a captured graph must know of the caches is in a table [rows, 6] of int64 for each layer, which may change from
replay to replay: addresses of keys and values, elements from a head to the next, the first token that is seen, the
number of those held, behind which the new ones are written, and one that keeps each layer's part aligned.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from diffusiongemma.gpu.forms import Ready, _write, block


@triton.jit
def _address(table, row, column, like):
    """What a cell of the table points to. Without the hint the compiler would load one number at a time."""
    return tl.multiple_of(tl.load(table + row * 6 + column).to(tl.pointer_type(like.dtype.element_ty)), 16)


@triton.jit
def _head_stride(table, row):
    return tl.multiple_of(tl.load(table + row * 6 + 2), 16)


@triton.jit
def _heads(
    qkv, q_norm, k_norm, cos, sin, q, table, width, eps,
    HEADS: tl.constexpr, KV: tl.constexpr, SHARED: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """A head of a token: queries are normed, rotated and laid into q; keys and values into the cache."""
    token, head = tl.program_id(0), tl.program_id(1)
    at = tl.arange(0, D // 2)
    stride: tl.constexpr = (HEADS + (1 if SHARED else 2) * KV) * D
    start = qkv + token.to(tl.int64) * stride + head * D
    low, high = tl.load(start + at).to(tl.float32), tl.load(start + D // 2 + at).to(tl.float32)
    spread = tl.rsqrt((tl.sum(low * low, 0) + tl.sum(high * high, 0)) / D + eps)
    row, place = token // width, token % width
    dtype: tl.constexpr = qkv.dtype.element_ty
    if head < HEADS + KV:
        norm = q_norm if head < HEADS else k_norm
        one = (low * spread * tl.load(norm + at).to(tl.float32)).to(dtype).to(tl.float32)
        two = (high * spread * tl.load(norm + D // 2 + at).to(tl.float32)).to(dtype).to(tl.float32)
        c = tl.load(cos + token * D + at).to(tl.float32)
        s = tl.load(sin + token * D + at).to(tl.float32)
        turned_low, turned_high = (one * c - two * s).to(dtype), (two * c + one * s).to(dtype)
        if head < HEADS:
            target = q + (token.to(tl.int64) * HEADS + head) * D
            tl.store(target + at, turned_low)
            tl.store(target + D // 2 + at, turned_high)
        else:
            stored = _head_stride(table, row) * (head - HEADS) + (tl.load(table + row * 6 + 4) + place) * D
            keys = _address(table, row, 0, qkv) + stored
            tl.store(keys + at, turned_low)
            tl.store(keys + D // 2 + at, turned_high)
    if head >= HEADS + (0 if SHARED else KV):
        kv = head - HEADS - (0 if SHARED else KV)
        stored = _head_stride(table, row) * kv + (tl.load(table + row * 6 + 4) + place) * D
        values = _address(table, row, 1, qkv) + stored
        tl.store(values + at, (low * spread).to(dtype))
        tl.store(values + D // 2 + at, (high * spread).to(dtype))


@triton.jit
def _attend(
    q, table, out, weights, width, tokens,
    HEADS: tl.constexpr, KV: tl.constexpr, D: tl.constexpr, SPLITS: tl.constexpr,
    QUERIES: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """Queries of one row and key-value head over one part of the keys: out [splits, tokens, heads, D] float32, and the
    logarithms of the sums, weights [splits, tokens, heads]."""
    group: tl.constexpr = HEADS // KV
    row, kv, split = tl.program_id(1) // KV, tl.program_id(1) % KV, tl.program_id(2)
    query = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    there = query < group * width
    head, token = kv * group + query // width, row * width + query % width
    at = tl.arange(0, D)
    mine = (token * HEADS + head).to(tl.int64)
    asked = tl.load(q + mine[:, None] * D + at[None, :], mask=there[:, None], other=0.0)
    first, last = tl.load(table + row * 6 + 3).to(tl.int32), tl.load(table + row * 6 + 4).to(tl.int32) + width
    part = tl.cdiv(tl.cdiv(last - first, KEYS), SPLITS) * KEYS
    first = first + split * part
    last = tl.minimum(last, first + part)
    stride = _head_stride(table, row) * kv
    keys, values = _address(table, row, 0, q) + stride, _address(table, row, 1, q) + stride
    best = tl.full([QUERIES], -1e30, dtype=tl.float32)
    total = tl.zeros([QUERIES], dtype=tl.float32)
    acc = tl.zeros([QUERIES, D], dtype=tl.float32)
    for start in range(first, last, KEYS):
        place = start + tl.arange(0, KEYS)
        known = place < last
        key = tl.load(keys + place[:, None] * D + at[None, :], mask=known[:, None], other=0.0)
        score = tl.dot(asked, tl.trans(key), input_precision="ieee")
        score = tl.where(known[None, :], score, -1e30)
        now = tl.maximum(best, tl.max(score, 1))
        shrink = tl.exp(best - now)
        share = tl.where(known[None, :], tl.exp(score - now[:, None]), 0.0)
        total = total * shrink + tl.sum(share, 1)
        value = tl.load(values + place[:, None] * D + at[None, :], mask=known[:, None], other=0.0)
        acc = tl.dot(share.to(value.dtype), value, acc * shrink[:, None], input_precision="ieee")
        best = now
    acc = acc / tl.maximum(total, 1e-30)[:, None]
    target = split.to(tl.int64) * tokens * HEADS + mine
    tl.store(out + target[:, None] * D + at[None, :], acc, mask=there[:, None])
    tl.store(weights + target, tl.where(total > 0, best + tl.log(tl.maximum(total, 1e-30)), -1e30), mask=there)


@triton.jit
def _combine(
    parts, weights, rows, scales, tokens, width, HEADS: tl.constexpr, D: tl.constexpr, SPLITS: tl.constexpr,
    FORM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    token, at = tl.program_id(0), tl.arange(0, BLOCK)
    inside = at < width
    best = tl.full([BLOCK], -1e30, dtype=tl.float32)
    for split in range(SPLITS):
        weight = tl.load(weights + (split * tokens + token) * HEADS + at // D, mask=inside, other=-1e30)
        best = tl.maximum(best, weight)
    total, acc = tl.zeros([BLOCK], dtype=tl.float32), tl.zeros([BLOCK], dtype=tl.float32)
    for split in range(SPLITS):
        weight = tl.load(weights + (split * tokens + token) * HEADS + at // D, mask=inside, other=-1e30)
        share = tl.exp(weight - best)
        start = (split * tokens + token).to(tl.int64) * width
        acc += share * tl.load(parts + start + at, mask=inside, other=0.0)
        total += share
    _write(rows, scales, token, at, width, acc / total, FORM)


def attend(
    qkv: Tensor, norms: tuple[Tensor, Tensor], rotation: tuple[Tensor, Tensor], table: Tensor, heads: tuple[int, int],
    head_dim: int, width: int, eps: float, form: int,
) -> Ready:  # fmt: skip
    """qkv [N, (heads + key-value heads once or twice) * head_dim] of rows of `width` tokens, table [rows, 6] -> what
    each token attends to, [N, heads * head_dim]. Without a part for values the keys are those."""
    tokens, (count, kv) = len(qkv), heads
    shared = qkv.shape[1] == (count + kv) * head_dim
    q = qkv.new_empty(tokens, count, head_dim)
    _heads[(tokens, qkv.shape[1] // head_dim)](
        qkv, *norms, *rotation, q, table, width, eps, HEADS=count, KV=kv, SHARED=shared, D=head_dim, num_warps=1
    )
    queries = 16 if width * count // kv <= 16 else 64 if head_dim <= 256 else 32
    keys = 64 if head_dim <= 128 else 32
    grid = triton.cdiv(width * count // kv, queries), tokens // width * kv
    splits = max(1, min(16, 264 // (grid[0] * grid[1])))
    parts = torch.empty(splits, tokens, count, head_dim, dtype=torch.float32, device=q.device)
    weights = torch.empty(splits, tokens, count, dtype=torch.float32, device=q.device)
    _attend[(*grid, splits)](
        q, table, parts, weights, width, tokens, HEADS=count, KV=kv, D=head_dim, SPLITS=splits,
        QUERIES=queries, KEYS=keys, num_warps=4 if queries == 16 and head_dim <= 256 else 8, num_stages=2,
    )  # fmt: skip
    across = count * head_dim
    out = Ready.empty(qkv, tokens, across, form)
    _combine[(tokens,)](
        parts, weights, out.rows, out.scale_argument, tokens, across, HEADS=count, D=head_dim, SPLITS=splits,
        FORM=form, BLOCK=block(across), num_warps=8,
    )  # fmt: skip
    return out
