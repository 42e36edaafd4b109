"""GGUF's blocks in a layout that is faster where the CPU's kernels do not multiply them, exactly.

That is Q5_K, which some files have for embeddings and attention, on a GPU and where there are no kernels. As bytes with
scales it multiplies like any 8-bit weight. Experts stay blocks, whatever they are in: they are most of a file, and
would nearly double.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from diffusiongemma.weights.packed import Blocks, Groups, Packed

BLOCK = 256  # weights in a block of any K type
SLAB = 1024  # rows at a time


def repacked(weight: Packed) -> Packed:
    """A matrix of Q5_K as groups of 32 in bytes; anything else as it is."""
    if not isinstance(weight, Blocks) or weight.raw.ndim != 2 or weight.kind != "Q5_K":
        return weight
    parts = [_groups(weight[first : first + SLAB]) for first in range(0, weight.shape[0], SLAB)]
    codes, scales, offsets = ([getattr(part, name) for part in parts] for name in ("codes", "scales", "offsets"))
    return Groups("uint8", torch.cat(codes), torch.cat(scales), torch.cat(offsets))


def _groups(weight: Blocks) -> Groups:
    """Scales are read from the blocks; codes follow from them and what the `gguf` package makes of a block."""
    scales, offsets = _scales_and_offsets(weight.raw.unflatten(-1, (weight.shape[-1] // BLOCK, -1)).numpy())
    values = weight.unpack().unflatten(-1, (scales.shape[-1], -1))  # [rows, groups, group]
    codes = ((values - offsets[..., None]) / torch.where(scales == 0, 1, scales)[..., None]).round()
    return Groups("uint8", codes.to(torch.uint8).flatten(-2), scales, offsets)


def _scales_and_offsets(raw: np.ndarray) -> tuple[Tensor, Tensor]:
    """[rows, blocks, 176]: scales of scales and of minima, then eight of each in 6 bits."""
    from gguf.quants import Q4_K

    flat = np.ascontiguousarray(raw[..., 4:16]).reshape(-1, 12)
    scales, minima = (part.reshape(*raw.shape[:2], -1).astype(np.float32) for part in Q4_K.get_scale_min(flat))
    scales, minima = _half(raw[..., 0:2]) * scales, _half(raw[..., 2:4]) * minima
    return torch.from_numpy(scales.reshape(len(raw), -1)), torch.from_numpy(-minima.reshape(len(raw), -1))


def _half(raw: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(raw).view(np.float16).astype(np.float32)
