"""What a step needs to know of each position, by three passes over the logits [N, V] that the head's product wrote."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from diffusiongemma.gpu.forms import block

CHUNK = 4096  # logits that a program reads at a time


@triton.jit
def _shaped(logits, row, at, size, cap, temperature):
    """Soft-capped logits over the temperature, float32; far below all others behind the last."""
    raw = tl.load(logits + row.to(tl.int64) * size + at, mask=at < size, other=0.0).to(tl.float32) / cap
    return tl.where(at < size, cap * (1 - 2 / (tl.exp(2 * raw) + 1)) / temperature, -1e30)


@triton.jit
def _look(logits, temperatures, best, tokens, sums, moments, size, cap, CHUNK: tl.constexpr):
    row, chunk = tl.program_id(0), tl.program_id(1)
    at = chunk * CHUNK + tl.arange(0, CHUNK)
    shaped = _shaped(logits, row, at, size, cap, tl.load(temperatures + row))
    highest = tl.max(shaped, 0)
    weight = tl.where(at < size, tl.exp(shaped - highest), 0.0)
    place = row * tl.num_programs(1) + chunk
    tl.store(best + place, highest)
    tl.store(tokens + place, chunk * CHUNK + tl.argmax(shaped, 0))
    tl.store(sums + place, tl.sum(weight, 0))
    tl.store(moments + place, tl.sum(weight * tl.where(at < size, shaped - highest, 0.0), 0))


@triton.jit
def _draw(
    logits, temperatures, uniforms, greedy, best, tokens, sums, moments, argmax, drawn, numbers, size, cap, chunks,
    CHUNK: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """numbers [5, N]: entropy, log-probability of the argmax, of the drawn token, highest logit, sum."""
    row, part = tl.program_id(0), tl.arange(0, CHUNKS)
    rows, there = tl.num_programs(0), part < chunks
    top = tl.load(best + row * chunks + part, mask=there, other=-1e30)
    highest, temperature = tl.max(top, 0), tl.load(temperatures + row)
    scale = tl.where(there, tl.exp(top - highest), 0.0)
    held = tl.load(sums + row * chunks + part, mask=there, other=0.0)
    moment = tl.load(moments + row * chunks + part, mask=there, other=0.0)
    total = tl.sum(held * scale, 0)
    mean = tl.sum(scale * (moment + held * tl.where(there, top - highest, 0.0)), 0) / total
    surest = tl.load(tokens + row * chunks + tl.argmax(top, 0))
    # The chunk in which the cumulative probability passes the uniform, then the token in it.
    cumulative = tl.cumsum(held * scale, 0)
    target = tl.load(uniforms + row).to(tl.float32) * total
    chunk = tl.minimum(tl.sum((there & (cumulative <= target)).to(tl.int32), 0), chunks - 1)
    target -= tl.sum(tl.where(part < chunk, held * scale, 0.0), 0)
    at = chunk * CHUNK + tl.arange(0, CHUNK)
    shaped = _shaped(logits, row, at, size, cap, temperature)
    weight = tl.where(at < size, tl.exp(shaped - highest), 0.0)
    cumulative = tl.cumsum(weight, 0)
    target = tl.minimum(target, tl.max(cumulative, 0) * (1 - 1.2e-7))  # off trailing tokens of probability zero
    token = chunk * CHUNK + tl.sum((cumulative <= target).to(tl.int32), 0)
    token = tl.where(tl.load(greedy + row) != 0, surest, tl.minimum(token, size - 1))
    own = tl.load(logits + row.to(tl.int64) * size + token).to(tl.float32) / cap
    own = cap * (1 - 2 / (tl.exp(2 * own) + 1)) / temperature
    tl.store(argmax + row, surest.to(tl.int64))
    tl.store(drawn + row, token.to(tl.int64))
    tl.store(numbers + row, tl.log(total) - mean)
    tl.store(numbers + rows + row, -tl.log(total))
    tl.store(numbers + 2 * rows + row, own - highest - tl.log(total))
    tl.store(numbers + 3 * rows + row, highest)
    tl.store(numbers + 4 * rows + row, total)


@triton.jit
def _weigh(logits, temperatures, numbers, size, cap, CHUNK: tl.constexpr):
    """The logits become probabilities, in their place."""
    row, rows = tl.program_id(0), tl.num_programs(0)
    at = tl.program_id(1) * CHUNK + tl.arange(0, CHUNK)
    shaped = _shaped(logits, row, at, size, cap, tl.load(temperatures + row))
    share = tl.exp(shaped - tl.load(numbers + 3 * rows + row)) / tl.load(numbers + 4 * rows + row)
    tl.store(logits + row.to(tl.int64) * size + at, share.to(logits.dtype.element_ty), mask=at < size)


def look(
    logits: Tensor, temperatures: Tensor, uniforms: Tensor, greedy: Tensor, cap: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Raw logits [N, V], temperatures float32 [N], uniforms [N], greedy [N] -> argmax [N], the drawn token [N], and
    float32 [5, N]: entropy, log-probabilities of the two, and what `weigh` wants."""
    count, size = logits.shape
    chunks = triton.cdiv(size, CHUNK)
    best, sums, moments = torch.empty(3, count, chunks, dtype=torch.float32, device=logits.device).unbind(0)
    tokens = torch.empty(count, chunks, dtype=torch.int32, device=logits.device)
    argmax, drawn = torch.empty(2, count, dtype=torch.int64, device=logits.device).unbind(0)
    numbers = torch.empty(5, count, dtype=torch.float32, device=logits.device)
    _look[(count, chunks)](logits, temperatures, best, tokens, sums, moments, size, cap, CHUNK=CHUNK, num_warps=4)
    _draw[(count,)](
        logits, temperatures, uniforms, greedy, best, tokens, sums, moments, argmax, drawn, numbers, size, cap, chunks,
        CHUNK=CHUNK, CHUNKS=block(chunks), num_warps=4,
    )  # fmt: skip
    return argmax, drawn, numbers


def weigh(logits: Tensor, temperatures: Tensor, numbers: Tensor, cap: float) -> Tensor:
    """The same logits as probabilities under the temperatures, in their place."""
    count, size = logits.shape
    _weigh[(count, triton.cdiv(size, CHUNK))](logits, temperatures, numbers, size, cap, CHUNK=CHUNK, num_warps=4)
    return logits
