"""A share of a packed weight, as it lies: some of its rows and columns, without unpacking."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from diffusiongemma.errors import InputError
from diffusiongemma.weights.packed import Blocks, Groups, Packed, Plain, Rows, Stack

WHOLE = slice(None)


def cut(weight: Packed, rows: slice = WHOLE, columns: slice = WHOLE) -> Packed:
    """Those of the last two axes of a weight [..., out, in], copied, so that nothing holds the whole.

    Raises `InputError` where the columns begin or end within a group that shares a scale.
    """
    if isinstance(weight, Stack):
        return Stack(tuple(cut(part, rows, columns) for part in weight.parts))
    if isinstance(weight, Rows):
        return Rows(tuple(cut(part, within, columns) for part, within in weight.overlaps(rows)))
    first, last, _ = columns.indices(weight.shape[-1])
    if isinstance(weight, Plain):
        return Plain(weight.weight[..., rows, first:last].clone(memory_format=torch.contiguous_format))
    if isinstance(weight, Blocks):
        raw = weight.raw[..., rows, :].unflatten(-1, (-1, weight.block[1]))  # [..., out, blocks, bytes]
        return Blocks(
            weight.kind, _span(raw.movedim(-2, -1), first, last, weight.shape[-1]).movedim(-1, -2).flatten(-2)
        )
    assert isinstance(weight, Groups)
    width = weight.shape[-1]
    offsets = None if weight.offsets is None else _of_groups(weight.offsets[..., rows, :], first, last, width)
    return replace(
        weight,
        codes=_span(weight.codes[..., rows, :], first, last, width),
        scales=_of_groups(weight.scales[..., rows, :], first, last, width),
        offsets=offsets,
    )


def _of_groups(x: Tensor, first: int, last: int, width: int) -> Tensor:
    """Scales or offsets [..., out, groups] of the columns; of a whole row they are those of any part of it."""
    return x.clone(memory_format=torch.contiguous_format) if x.shape[-1] == 1 else _span(x, first, last, width)


def _span(x: Tensor, first: int, last: int, width: int) -> Tensor:
    """Of x [..., n], which stands for `width` columns, what stands for those from `first` to `last`."""
    count = x.shape[-1]
    if first * count % width or last * count % width:
        raise InputError(f"columns {first} to {last} of {width} cut through a group of {width // count} with one scale")
    return x[..., first * count // width : last * count // width].clone(memory_format=torch.contiguous_format)
