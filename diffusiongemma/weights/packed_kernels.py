"""Products of packed weights with activations of 8 bits (with AMX bfloat16) on a CPU, by the library of
`kernels.native`."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from ctypes import c_float, c_int, c_int64
from math import prod
from typing import Any

import torch
from torch import Tensor

from diffusiongemma.kernels.native import Weight, address, loaded_library
from diffusiongemma.weights.packed import Blocks, Groups, Packed, Plain, Rows, Stack, int8

KINDS = {"int4": 0, "uint8": 1, "int8": 2, "fp4": 3, "Q4_K": 4, "Q5_0": 5, "Q6_K": 6, "Q8_0": 7, "Q5_K": 8}
FLOATS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.float8_e4m3fn: 3}
GROUP = 32  # inputs that share a scale in a copy
LEFT_OUT = 1e-6  # of a mean's shares, at most


def can_multiply(weight: Packed) -> bool:
    """Whether the kernels know this layout and width. Experts [E, out, in] must be of one layout, as activations are
    rounded once for all of them."""
    parts = list(_parts(weight))
    return all(map(_is_known, parts)) and (len(weight.shape) < 3 or len(set(map(_rounding, parts))) == 1)


def in_known_layout(weight: Packed) -> Packed | None:
    """A copy in codes of 8 bits with a scale for 32 inputs, for what the kernels do not know (FP8, experts in Q3_K).

    It is off by half a hundredth, as activations are. None where rows do not divide into groups, or are not packed.
    """
    if isinstance(weight, Plain) or weight.shape[-1] % GROUP:
        return None
    if len(weight.shape) > 2:
        return Stack(tuple(_in_bytes(weight[i]) for i in range(weight.shape[0])))
    return _in_bytes(weight)


def _in_bytes(weight: Packed) -> Groups:
    parts = [int8(rows.unpack(), GROUP) for _, rows in weight.slabs()]
    return Groups("int8", torch.cat([part.codes for part in parts]), torch.cat([part.scales for part in parts]))


def bytes_in_known_layout(weight: Packed) -> int:
    return prod(weight.shape) * (GROUP + 4) // GROUP


def _parts(weight: Packed) -> Iterator[Packed]:
    """The weights that a weight is put together from; itself if it is one."""
    if isinstance(weight, (Stack, Rows)):
        for part in weight.parts:
            yield from _parts(part)
    else:
        yield weight


def _is_known(weight: Packed) -> bool:
    if not isinstance(weight, (Groups, Blocks)) or weight.kind not in KINDS or weight.shape[-1] % 16:
        return False
    if isinstance(weight, Blocks):
        return _is_readable(weight.raw)
    floats = [weight.scales] if weight.offsets is None else [weight.scales, weight.offsets]
    return (
        _group(weight) % 16 == 0
        and all(x.dtype in FLOATS for x in floats)
        and all(map(_is_readable, [weight.codes, *floats]))
    )


def _is_readable(tensor: Tensor) -> bool:
    """Whether the library can read it by its address."""
    return tensor.is_contiguous() and tensor.device.type == "cpu"


def _rounding(weight: Packed) -> tuple[Any, ...]:
    """What decides how the activations that it is multiplied with are rounded."""
    assert isinstance(weight, (Groups, Blocks))
    return (weight.kind,) if isinstance(weight, Blocks) else (weight.kind, weight.zero, _group(weight))


def _group(weight: Groups) -> int:
    return weight.shape[-1] // weight.scales.shape[-1]


class Product:
    """x [N, in] -> [N, out] in x's dtype. It holds the weight, whose memory the library reads. `fine` rounds x to twice
    8 bits, for twice the work."""

    def __init__(self, weight: Packed, fine: bool = False):
        self.packed, self.out, self.fine = weight, weight.shape[-2], fine
        parts = _described(weight)
        self.parts = (Weight * len(parts))(*parts)

    def __deepcopy__(self, memo: dict[int, Any]) -> Product:
        return self  # weights are shared, whoever multiplies by them

    def __call__(self, x: Tensor) -> Tensor:
        rows = x.float().contiguous()
        out = torch.empty(len(x), self.out)
        sizes = (c_int64(len(x)), address(out), c_int64(self.out), c_int(self.fine))
        loaded_library().packed_product(self.parts, c_int(len(self.parts)), address(rows), *sizes)
        return out.to(x.dtype)

    def mean(self, shares: Tensor) -> Tensor:
        """shares [N, out] >= 0 -> [N, in] float32: the mean row, but for `LEFT_OUT` of the shares' sum."""
        assert len(self.parts) == 1
        shares = shares.float().contiguous()
        out = torch.empty(len(shares), self.packed.shape[-1])
        loaded_library().packed_mean(self.parts, address(shares), c_int64(len(shares)), c_float(LEFT_OUT), address(out))
        return out


class Experts:
    """The routed experts of a layer in one call: gate_up [E, 2W, D] and down [E, D, W]."""

    def __init__(self, gate_up: Packed, down: Packed):
        self.packed = gate_up, down
        self.count = gate_up.shape[0]
        self.gate_up, self.down = (_array(weight, self.count) for weight in self.packed)

    def __deepcopy__(self, memo: dict[int, Any]) -> Experts:
        return self

    def __call__(self, x: Tensor, weights: Tensor, experts: Tensor) -> Tensor:
        """x [N, D], weights [N, k], experts [N, k] -> [N, D] in x's dtype."""
        rows, shares, chosen = x.float().contiguous(), weights.float().contiguous(), experts.contiguous()
        out = torch.empty_like(rows)
        segments = [c_int(len(array) // self.count) for array in (self.gate_up, self.down)]
        loaded_library().packed_experts(
            self.gate_up, segments[0], self.down, segments[1], c_int(self.count),
            address(rows), address(chosen), address(shares),
            c_int64(len(x)), c_int(experts.shape[1]), address(out),
        )  # fmt: skip
        return out.to(x.dtype)


def _array(weight: Packed, experts: int) -> ctypes.Array[Weight]:
    parts = [part for expert in range(experts) for part in _described(weight[expert])]
    return (Weight * len(parts))(*parts)


def _described(weight: Packed) -> list[Weight]:
    """A matrix as the library knows it: segments of rows one below the other."""
    if isinstance(weight, Rows):
        return [segment for part in weight.parts for segment in _described(part)]
    out, width = weight.shape
    if isinstance(weight, Blocks):
        return [Weight(KINDS[weight.kind], 0, 0, 0, out, width, 0, 1.0, weight.raw.data_ptr(), None, None)]
    assert isinstance(weight, Groups)
    offsets = weight.offsets
    return [
        Weight(
            KINDS[weight.kind],
            FLOATS[weight.scales.dtype],
            0 if offsets is None else FLOATS[offsets.dtype],
            weight.zero,
            out,
            width,
            _group(weight),
            weight.factor,
            weight.codes.data_ptr(),
            weight.scales.data_ptr(),
            None if offsets is None else offsets.data_ptr(),
        )
    ]
