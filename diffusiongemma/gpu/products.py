"""Products of rows with weights, packed or not, of one matrix or of many experts, by one Triton kernel.

It computes the transposed product: the rows of the weight are what the tensor cores take 64 of, and an expert's few
tokens may be as few as 16. Codes become numbers in registers. The blocks are a matter of the shape alone, so that a
row's result does not depend on the rows beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from diffusiongemma.gpu.forms import FP8, HALVES, PLAIN, Ready
from diffusiongemma.weights.packed import Groups, Packed, Plain, Rows, Stack

KINDS = {"plain": 0, "int8": 1, "uint8": 1, "fp8": 2, "int4": 3, "fp4": 4}
ROW = 0  # the group of a weight with one scale a row


@dataclass(frozen=True)
class Tile:
    """What a program computes at a time: weights' rows, tokens, and inputs in bytes or elements of the codes."""

    outputs: int
    tokens: int
    inputs: int
    warps: int
    stages: int


@triton.jit
def _floats(codes, KIND: tl.constexpr, ZERO: tl.constexpr, dtype: tl.constexpr):
    """Codes of 4 bits, one in a byte -> numbers."""
    if KIND == 4:
        # E2M1: of code eemm below, the magnitude doubled is 0 1 2 3 4 6 8 12.
        exponent, mantissa = ((codes >> 1) & 3).to(tl.int32), (codes & 1).to(tl.int32)
        doubled = tl.where(exponent == 0, mantissa, (2 + mantissa) << tl.maximum(exponent - 1, 0))
        signed = tl.where((codes & 8) != 0, -doubled, doubled)
        return (signed.to(tl.int8).to(tl.float32) * 0.5).to(dtype)
    return (codes.to(tl.int8) - ZERO).to(tl.int8).to(dtype)


@triton.jit
def _spread(scales, outputs, first, groups, inside, COUNT: tl.constexpr, WIDTH: tl.constexpr, OUT: tl.constexpr):
    """One number for each group of inputs -> [OUT, COUNT * WIDTH], the groups from `first` on."""
    group = first + tl.arange(0, COUNT)
    found = tl.load(
        scales + outputs[:, None] * groups + group[None, :], mask=inside[:, None] & (group < groups)[None, :], other=0.0
    ).to(tl.float32)
    return tl.reshape(tl.broadcast_to(found[:, :, None], (OUT, COUNT, WIDTH)), (OUT, COUNT * WIDTH))


def _name(specialisation: Any) -> str:
    """Of the kernel, for profiles."""
    given = specialisation.constants
    return "expert_product" if given["EXPERTS"] else "packed_product"


@triton.jit(repr=_name)
def _product(
    x, x_scales, codes, scales, offsets, out, order, starts, count, size, width, factor,
    KIND: tl.constexpr, ZERO: tl.constexpr, GROUP: tl.constexpr, OFFSETS: tl.constexpr, EIGHT_BITS: tl.constexpr,
    EXPERTS: tl.constexpr, GATHER: tl.constexpr, SCATTER: tl.constexpr, EVEN: tl.constexpr,
    OUT: tl.constexpr, TOKENS: tl.constexpr, IN: tl.constexpr,
):  # fmt: skip
    """out [tokens, size] = x [tokens, width] @ weight [size, width].T. `width` is that of x; codes of 4 bits have half
    as many bytes. GATHER: the number of slots a token has, whose numbers `order` has; SCATTER: rows go to their slots.
    """
    outputs = tl.program_id(0) * OUT + tl.arange(0, OUT)
    inside = outputs < size
    halves: tl.constexpr = KIND >= 3
    stored = width // 2 if halves else width
    groups = width // GROUP if GROUP > 0 else 1
    if EXPERTS:
        expert = tl.program_id(1).to(tl.int64)
        first, last = tl.load(starts + expert), tl.load(starts + expert + 1)
        codes += expert * size * stored
        scales += expert * size * groups
        offsets += expert * size * groups
    else:
        first = tl.program_id(1) * TOKENS
        last = tl.minimum(first + TOKENS, count)
    dtype: tl.constexpr = x.dtype.element_ty
    NONE: tl.constexpr = 0.0 if KIND == 0 or KIND == 2 else 0
    span: tl.constexpr = (GROUP // 2 if halves else GROUP) if GROUP > 0 else IN  # codes that share a scale
    per: tl.constexpr = IN // span if span < IN else 1  # groups at a time
    for start in range(first, last, TOKENS):
        place = start + tl.arange(0, TOKENS)
        there = place < last
        slot = tl.load(order + place, mask=there, other=0) if GATHER > 0 or SCATTER else place
        source = slot // GATHER if GATHER > 0 else place
        acc = tl.zeros([OUT, TOKENS], dtype=tl.float32)
        for k in range(0, stored, IN):
            at = k + tl.arange(0, IN)
            if EVEN:
                code = tl.load(codes + outputs[:, None] * stored + at[None, :], mask=inside[:, None], other=NONE)
                row = tl.load(x + source[:, None] * width + at[None, :], mask=there[:, None], other=0.0)
            else:
                known = (at < stored)[None, :]
                code = tl.load(
                    codes + outputs[:, None] * stored + at[None, :], mask=inside[:, None] & known, other=NONE
                )
                row = tl.load(x + source[:, None] * width + at[None, :], mask=there[:, None] & known, other=0.0)
            if halves:
                odd_at = x + source[:, None] * width + stored + at[None, :]
                if EVEN:
                    odd = tl.load(odd_at, mask=there[:, None], other=0.0)
                else:
                    odd = tl.load(odd_at, mask=there[:, None] & (at < stored)[None, :], other=0.0)
                low = _floats(code & 15, KIND, ZERO, dtype)
                high = _floats(code >> 4, KIND, ZERO, dtype)
                if GROUP > 0:
                    scale = _spread(scales, outputs, k // span, groups, inside, per, IN // per, OUT).to(dtype)
                    low, high = low * scale, high * scale
                    if OFFSETS:
                        offset = _spread(offsets, outputs, k // span, groups, inside, per, IN // per, OUT).to(dtype)
                        low, high = low + offset, high + offset
                acc = tl.dot(low, tl.trans(row), acc, input_precision="ieee")
                acc = tl.dot(high, tl.trans(odd), acc, input_precision="ieee")
            elif EIGHT_BITS or KIND == 0:
                acc = tl.dot(code, tl.trans(row), acc, input_precision="ieee")
            else:
                weight = (code.to(tl.int32) - ZERO).to(dtype) if KIND == 1 and ZERO != 0 else code.to(dtype)
                if GROUP > 0:
                    weight *= _spread(scales, outputs, k // span, groups, inside, per, IN // per, OUT).to(dtype)
                    if OFFSETS:
                        weight += _spread(offsets, outputs, k // span, groups, inside, per, IN // per, OUT).to(dtype)
                acc = tl.dot(weight, tl.trans(row), acc, input_precision="ieee")
        if KIND > 0:
            acc *= factor
        if KIND > 0 and GROUP == 0:
            acc *= tl.load(scales + outputs, mask=inside, other=0.0).to(tl.float32)[:, None]
        if EIGHT_BITS:
            acc *= tl.load(x_scales + source, mask=there, other=0.0)[None, :]
        target = slot if SCATTER else place
        tl.store(
            out + target[None, :].to(tl.int64) * size + outputs[:, None], acc.to(out.dtype.element_ty),
            mask=inside[:, None] & there[None, :],
        )  # fmt: skip


@triton.jit
def _mix(
    shares, codes, scales, out, count, rows, size, factor, KIND: tl.constexpr, SPLITS: tl.constexpr,
    TOKENS: tl.constexpr, ROWS: tl.constexpr, OUT: tl.constexpr,
):  # fmt: skip
    """out [splits, tokens, size] = shares [tokens, rows] @ weight [rows, size], each split over a part of the rows."""
    at, token = tl.program_id(0) * OUT + tl.arange(0, OUT), tl.program_id(1) * TOKENS + tl.arange(0, TOKENS)
    inside, there = at < size, token < count
    dtype: tl.constexpr = shares.dtype.element_ty
    NONE: tl.constexpr = 0.0 if KIND == 0 or KIND == 2 else 0
    part = tl.cdiv(tl.cdiv(rows, ROWS), SPLITS) * ROWS
    first = tl.program_id(2) * part
    acc = tl.zeros([TOKENS, OUT], dtype=tl.float32)
    for start in range(first, tl.minimum(first + part, rows), ROWS):
        row = start + tl.arange(0, ROWS)
        known = row < rows
        share = tl.load(
            shares + token[:, None].to(tl.int64) * rows + row[None, :], mask=there[:, None] & known[None, :], other=0.0
        )
        if KIND > 0:
            share = (share * tl.load(scales + row, mask=known, other=0.0).to(tl.float32)[None, :]).to(dtype)
        code = tl.load(codes + row[:, None] * size + at[None, :], mask=known[:, None] & inside[None, :], other=NONE)
        acc = tl.dot(share, code.to(dtype), acc, input_precision="ieee")
    target = out + (tl.program_id(2).to(tl.int64) * count + token[:, None]) * size + at[None, :]
    tl.store(target, acc * factor, mask=there[:, None] & inside[None, :])


# --- weights as the kernel takes them -------------------------------------------------------------------------------


def as_groups(weight: Packed) -> Groups | Plain:
    """Weights that a file holds in several parts, put together in one. Raises `ValueError` where they differ."""
    if not isinstance(weight, Stack | Rows):
        if isinstance(weight, Groups | Plain):
            return weight
        raise ValueError(f"{type(weight).__name__} has no kernel")
    parts = [as_groups(part) for part in weight.parts]
    join = partial(_joined, torch.stack if isinstance(weight, Stack) else partial(torch.cat, dim=-2))
    if all(isinstance(part, Plain) for part in parts):
        return Plain(join([part.weight for part in parts if isinstance(part, Plain)]))
    groups = [part for part in parts if isinstance(part, Groups)]
    if len(groups) < len(parts) or len({_layout(part) for part in groups}) > 1:
        raise ValueError("parts of several layouts")
    first = groups[0]
    offsets = None if first.offsets is None else join([g.offsets for g in groups if g.offsets is not None])
    return Groups(
        first.kind, join([g.codes for g in groups]), join([g.scales for g in groups]), offsets, first.zero, first.factor
    )


def _joined(join: Callable[..., Tensor], tensors: list[Tensor]) -> Tensor:
    """Not all of torch's operations take E4M3 everywhere; bytes they do take."""
    if tensors[0].dtype != torch.float8_e4m3fn:
        return join(tensors)
    return join([tensor.view(torch.uint8) for tensor in tensors]).view(torch.float8_e4m3fn)


def _layout(weight: Groups) -> tuple[object, ...]:
    width, count = weight.shape[-1], weight.scales.shape[-1]
    return weight.kind, width // count, weight.zero, weight.factor, weight.offsets is None, weight.scales.dtype


class Product:
    """A weight [out, in], or experts' [E, out, in], as the kernel multiplies it. Raises `ValueError` for a layout that
    it does not know. `form` is what its rows are to be made ready in."""

    def __init__(self, weight: Packed | Tensor, eight_bits: bool = True):
        held = Plain(weight) if isinstance(weight, Tensor) else as_groups(weight)
        *self.outer, self.size, self.width = held.shape
        self.zero, self.factor, self.group, offsets = 0, 1.0, ROW, None
        if isinstance(held, Plain):
            self.kind, self.codes = "plain", held.weight.contiguous()
            self.scales = self.codes
        else:
            self.kind, self.zero, self.factor = held.kind, held.zero, held.factor
            self.codes, self.scales, offsets = held.codes.contiguous(), held.scales.contiguous(), held.offsets
            self.group = self._group_of(held)
        self.has_offsets = offsets is not None
        self.offsets = self.scales if offsets is None else offsets.contiguous()
        capability = torch.cuda.get_device_capability(self.codes.device) if self.codes.is_cuda else (9, 0)
        if self.kind == "fp8" and capability < (8, 9):
            raise ValueError("E4M3 on a GPU without it")
        self.eight_bits = eight_bits and self.kind == "fp8" and self.group == ROW and capability >= (9, 0)
        self.form = FP8 if self.eight_bits else HALVES if self.kind in ("int4", "fp4") else PLAIN
        self.row_scales: Tensor | None = None
        if self.eight_bits and not self.outer:
            self.row_scales = (self.scales.float() * self.factor).view(1, -1)

    def _group_of(self, held: Groups) -> int:
        count = held.scales.shape[-1]
        group = self.width // count
        if count == 1 and held.offsets is None:
            return ROW
        if count > 1 and (group & (group - 1) or group < 16):
            raise ValueError(f"groups of {group}")
        if held.offsets is not None and held.factor != 1:
            raise ValueError("offsets beside a factor")
        return group

    def tile(self, tokens: int) -> Tile:
        """For products of about so many tokens, which are those of an expert on average where there are several."""
        return TILES.get((self.kind if not self.eight_bits else "fp8 by fp8", bool(self.outer), tokens > 8), DEFAULT)

    def __call__(self, ready: Ready) -> Tensor:
        """Rows [N, in] -> [N, out]."""
        count = len(ready.rows)
        if self.kind == "plain" and ready.rows.is_cuda:
            return torch.nn.functional.linear(ready.rows, self.codes)
        if self.row_scales is not None and ready.scales is not None and ready.rows.is_cuda and not self.size % 16:
            out = torch._scaled_mm(
                ready.rows, self.codes.mT, ready.scales[:, None], self.row_scales, out_dtype=torch.bfloat16,
                use_fast_accum=True,
            )  # fmt: skip
            return out
        out = self._out(ready, count)
        tile = self.tile(count)
        grid = triton.cdiv(self.size, tile.outputs), triton.cdiv(count, tile.tokens)
        self._launch(grid, tile, ready, out, self.scales, self.scales, count, experts=False, gather=0, scatter=False)
        return out

    def of_experts(self, ready: Ready, order: Tensor, starts: Tensor, gather: int = 0, scatter: bool = False) -> Tensor:
        """Slots sorted by expert, [S] `order` of their numbers and [E + 1] `starts` -> [S, out]. With `gather` slots a
        row of `ready` each slot takes its token's row; otherwise rows are sorted. With `scatter` each result goes to
        the place of its slot."""
        slots = len(order)
        out, tile = self._out(ready, slots), self.tile(slots // self.outer[0])
        grid = triton.cdiv(self.size, tile.outputs), self.outer[0]
        self._launch(grid, tile, ready, out, order, starts, slots, experts=True, gather=gather, scatter=scatter)
        return out

    def mean(self, shares: Tensor) -> Tensor:
        """shares [N, out] -> [N, in] float32: the mean of the weight's rows. Only where `can_mix`."""
        count, (rows, size) = len(shares), self.codes.shape
        tokens = min(128, max(16, triton.next_power_of_2(count)))
        grid = triton.cdiv(size, 128), triton.cdiv(count, tokens)
        splits = max(1, min(64, 264 // (grid[0] * grid[1]), rows // 64))
        out = torch.empty(splits, count, size, dtype=torch.float32, device=shares.device)
        _mix[(*grid, splits)](
            shares, self.codes, self.scales, out, count, rows, size, self.factor, KIND=KINDS[self.kind],
            SPLITS=splits, TOKENS=tokens, ROWS=64, OUT=128, num_warps=8, num_stages=3,
        )  # fmt: skip
        return out.sum(0)

    @property
    def can_mix(self) -> bool:
        return not self.outer and self.kind in ("plain", "int8", "fp8") and self.group == ROW and not self.zero

    def _out(self, ready: Ready, count: int) -> Tensor:
        dtype = ready.rows.dtype
        if ready.scales is not None:
            dtype = torch.float32 if ready.rows.device.type == "cpu" else torch.bfloat16
        return torch.empty(count, self.size, dtype=dtype, device=ready.rows.device)

    def _launch(
        self, grid: tuple[int, int], tile: Tile, ready: Ready, out: Tensor, order: Tensor, starts: Tensor, count: int,
        experts: bool, gather: int, scatter: bool,
    ) -> None:  # fmt: skip
        stored = self.width // 2 if self.form == HALVES else self.width
        _product[grid](
            ready.rows, ready.scale_argument, self.codes, self.scales, self.offsets, out, order, starts, count,
            self.size, self.width, self.factor, KIND=KINDS[self.kind], ZERO=self.zero, GROUP=self.group,
            OFFSETS=self.has_offsets, EIGHT_BITS=self.eight_bits, EXPERTS=experts, GATHER=gather, SCATTER=scatter,
            EVEN=stored % tile.inputs == 0, OUT=tile.outputs, TOKENS=tile.tokens, IN=tile.inputs,
            num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip


DEFAULT = Tile(64, 64, 64, 4, 3)
# By (kind, experts or one matrix, more than 8 tokens or a few).
TILES = {
    ("plain", True, True): Tile(128, 32, 64, 4, 4),
    ("plain", True, False): Tile(64, 16, 128, 4, 4),
    ("fp8 by fp8", True, True): Tile(128, 32, 128, 4, 4),
    ("fp8 by fp8", True, False): Tile(64, 16, 128, 4, 5),
    ("int4", True, True): Tile(128, 32, 32, 4, 4),
    ("int4", True, False): Tile(64, 16, 64, 4, 4),
    ("int4", False, False): Tile(64, 16, 64, 4, 4),
    ("int8", True, True): Tile(128, 32, 64, 4, 4),
    ("int8", False, True): Tile(128, 128, 64, 8, 3),
    ("int8", False, False): Tile(64, 16, 128, 4, 4),
}
