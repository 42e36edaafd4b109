"""Weights kept in few bits, in the layouts of the files in circulation, and each with its exact `unpack`.

Two layouts cover them: `Groups`, codes beside scales (compressed-tensors, ModelOpt, AutoRound, MLX and this package's
own files), and `Blocks`, GGUF's, where scales and codes of a few weights lie together. Both are views of what a file
holds; nothing is copied that can be used as it lies. `Stack` and `Rows` put several weights together without moving
them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

# Value of each code of E2M1: sign, two bits of exponent, one of mantissa (OCP microscaling formats, version 1.0).
FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
UNPACKED_BYTES = 64 * 2**20  # of one weight in full precision, held at a time


class Packed(ABC):
    """A weight [..., out, in] in few bits."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """[..., out, in]"""

    @property
    @abstractmethod
    def nbytes(self) -> int: ...

    @abstractmethod
    def unpack(self) -> Tensor:
        """The same weight in float32, exactly."""

    @abstractmethod
    def __getitem__(self, index: int | slice | Tensor) -> Packed:
        """Some of the first axis: an expert, or rows of a matrix."""

    @property
    def bits(self) -> float:
        """Bits a weight, scales counted."""
        return self.nbytes * 8 / prod(self.shape)

    def product(self, x: Tensor) -> Tensor:
        """x [N, in] @ weight.T -> [N, out] in x's dtype, a few rows of the weight unpacked at a time."""
        return torch.cat([F.linear(x, rows.unpack().to(x.dtype)) for _, rows in self.slabs()], dim=-1)

    def mix(self, shares: Tensor) -> Tensor:
        """shares [N, out] @ weight -> [N, in] in their dtype: the mean row under each share, likewise."""
        mean = shares.new_zeros(len(shares), self.shape[-1])
        for first, rows in self.slabs():
            mean += shares[:, first : first + rows.shape[0]] @ rows.unpack().to(shares.dtype)
        return mean

    def slabs(self) -> Iterator[tuple[int, Packed]]:
        """A matrix as rows that may be held unpacked, each with the number of its first."""
        out, width = self.shape
        rows = max(1, UNPACKED_BYTES // (4 * width))
        for first in range(0, out, rows):
            yield first, self if rows >= out else self[first : first + rows]


@dataclass(frozen=True)
class Groups(Packed):
    """Codes with one scale, and perhaps one offset, for each group of inputs: weight = scale · (code − zero) + offset.

    Codes of 4 bits lie two in a byte, the lower half first, so that words of 32 bits in a file are read as their bytes.
    `kind` says what a code means: a whole number ("int4": 0 to 15, "int8": -128 to 127, "uint8": 0 to 255) or a small
    float ("fp4": E2M1, "fp8": E4M3). A group may be a whole row.
    """

    kind: str
    codes: Tensor  # uint8 [..., out, in / 2] for 4 bits, else int8, uint8 or float8_e4m3fn [..., out, in]
    scales: Tensor  # any float [..., out, groups]
    offsets: Tensor | None = None  # any float [..., out, groups]
    zero: int = 0
    factor: float = 1.0  # of all scales

    @property
    def shape(self) -> tuple[int, ...]:
        *outer, width = self.codes.shape
        return (*outer, width * 2 if self.kind in ("int4", "fp4") else width)

    @property
    def nbytes(self) -> int:
        return sum(t.nbytes for t in (self.codes, self.scales, self.offsets) if t is not None)

    def unpack(self) -> Tensor:
        scales = self.scales.float() * self.factor
        groups = self._values().unflatten(-1, (scales.shape[-1], -1)) - self.zero  # [..., out, groups, group]
        weights = groups * scales[..., None]
        if self.offsets is not None:
            weights = weights + self.offsets.float()[..., None]
        return weights.flatten(-2)

    def _values(self) -> Tensor:
        """What the codes mean, float32 [..., out, in]."""
        if self.kind not in ("int4", "fp4"):
            return self.codes.float()
        codes = torch.stack([self.codes & 15, self.codes >> 4], dim=-1).flatten(-2)
        return torch.tensor(FP4, device=codes.device)[codes.long()] if self.kind == "fp4" else codes.float()

    def __getitem__(self, index: int | slice | Tensor) -> Groups:
        offsets = None if self.offsets is None else self.offsets[index]
        # Not every device picks rows of E4M3; bytes they all do.
        codes = self.codes.view(torch.uint8)[index].view(self.codes.dtype)
        return Groups(self.kind, codes, self.scales[index], offsets, self.zero, self.factor)


@dataclass(frozen=True)
class Blocks(Packed):
    """Rows of GGUF's blocks, of any type that the `gguf` package knows by this name, such as "Q4_K"."""

    kind: str
    raw: Tensor  # uint8 [..., out, bytes]

    @property
    def block(self) -> tuple[int, int]:
        """Weights and bytes of one."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        return GGML_QUANT_SIZES[GGMLQuantizationType[self.kind]]

    @property
    def shape(self) -> tuple[int, ...]:
        *outer, size = self.raw.shape
        weights, width = self.block
        return (*outer, size // width * weights)

    @property
    def nbytes(self) -> int:
        return self.raw.nbytes

    def unpack(self) -> Tensor:
        from gguf import GGMLQuantizationType, dequantize

        return torch.from_numpy(dequantize(self.raw.contiguous().cpu().numpy(), GGMLQuantizationType[self.kind])).to(
            self.raw.device
        )

    def __getitem__(self, index: int | slice | Tensor) -> Blocks:
        return Blocks(self.kind, self.raw[index])


@dataclass(frozen=True)
class Plain(Packed):
    """A weight that is not packed, where its neighbours are."""

    weight: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.weight.shape)

    @property
    def nbytes(self) -> int:
        return self.weight.nbytes

    def unpack(self) -> Tensor:
        return self.weight.float()

    def __getitem__(self, index: int | slice | Tensor) -> Plain:
        return Plain(self.weight[index])


@dataclass(frozen=True)
class Stack(Packed):
    """Weights [out, in] of equal shape, as one [n, out, in]: experts that a file holds one by one."""

    parts: tuple[Packed, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.parts), *self.parts[0].shape)

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)

    def unpack(self) -> Tensor:
        return torch.stack([part.unpack() for part in self.parts])

    def __getitem__(self, index: int | slice | Tensor) -> Packed:
        assert not isinstance(index, Tensor)
        return Stack(self.parts[index]) if isinstance(index, slice) else self.parts[index]


@dataclass(frozen=True)
class Rows(Packed):
    """Weights [..., out_i, in] one below the other: an expert's gate on top of its up-projection."""

    parts: tuple[Packed, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        *outer, _, width = self.parts[0].shape
        return (*outer, sum(part.shape[-2] for part in self.parts), width)

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)

    def unpack(self) -> Tensor:
        return torch.cat([part.unpack() for part in self.parts], dim=-2)

    def __getitem__(self, index: int | slice | Tensor) -> Packed:
        assert not isinstance(index, Tensor)
        if len(self.shape) > 2:
            return Rows(tuple(part[index] for part in self.parts))
        if isinstance(index, int):
            index = slice(index, index + 1)
        return Rows(tuple(part[within] for part, within in self.overlaps(index)))

    def overlaps(self, rows: slice) -> list[tuple[Packed, slice]]:
        """The parts that hold some of the rows (the last axis but one), and which of theirs."""
        first, last, _ = rows.indices(self.shape[-2])
        found, start = [], 0
        for part in self.parts:
            stop = start + part.shape[-2]
            if max(first, start) < min(last, stop):
                found.append((part, slice(max(first, start) - start, min(last, stop) - start)))
            start = stop
        return found


# Making packed weights.


def int4(weight: Tensor, group: int = 32, symmetric: bool = True) -> Groups:
    """weight [..., out, in], in divisible by `group`, in 4 bits, scales in bfloat16.

    Symmetric: codes 1 to 15 about 8, so that the largest of a group has the code 1 or 15; that much vLLM reads too.
    Otherwise the group's range is laid on 0 to 15, with an offset.
    """
    groups = weight.float().unflatten(-1, (-1, group))
    low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    reach = torch.maximum(high, -low) / 7 if symmetric else (high - low) / 15
    scales = _nonzero(reach.to(torch.bfloat16))
    start = -8 * scales.float() if symmetric else low.to(torch.bfloat16).float()
    codes = ((groups - start) / scales.float()).round().clamp(1 if symmetric else 0, 15).to(torch.uint8).flatten(-2)
    offsets = None if symmetric else low.to(torch.bfloat16)[..., 0]
    return Groups("int4", codes[..., ::2] | codes[..., 1::2] << 4, scales[..., 0], offsets, 8 if symmetric else 0)


def int8(weight: Tensor, group: int | None = None) -> Groups:
    """weight [..., out, in] in 8 bits, symmetric, with a float32 scale a row or a group of inputs."""
    groups = weight.float().unflatten(-1, (-1, group or weight.shape[-1]))
    scales = _nonzero(groups.abs().amax(-1, keepdim=True) / 127)
    return Groups("int8", (groups / scales).round().to(torch.int8).flatten(-2), scales[..., 0])


def fp8(weight: Tensor) -> Groups:
    """weight [..., out, in] in E4M3 with a float32 scale a row."""
    values = weight.float()
    scales = _nonzero(values.abs().amax(-1, keepdim=True) / torch.finfo(torch.float8_e4m3fn).max)
    return Groups("fp8", (values / scales).to(torch.float8_e4m3fn), scales)


SCHEMES: dict[str, Callable[[Tensor], Groups]] = {"int4": int4, "int8": int8, "fp8": fp8}


def _nonzero(scales: Tensor) -> Tensor:
    """Scales by which zeros can be divided."""
    return torch.where(scales == 0, torch.ones_like(scales), scales)


def stacked(parts: Sequence[Packed]) -> Stack:
    """Raises `ValueError` where shapes differ."""
    if len({part.shape for part in parts}) != 1:
        raise ValueError(f"shapes differ: {sorted({part.shape for part in parts})}")
    return Stack(tuple(parts))
