"""GGUF's blocks as groups, exactly, where that is faster than blocks and not much larger.

Q6_K and Q5_K are what popular files have for embeddings and a few attention weights. As bytes with scales they multiply
like any 8-bit weight. Experts stay blocks, whatever they are in: they are most of a file, and would grow by half.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from diffusiongemma.weights.packed import Blocks, Groups, Packed

BLOCK = 256  # weights in a block of any K type
SLAB = 1024  # rows at a time


def repacked(weight: Packed) -> Packed:
    """A matrix of Q6_K or Q5_K as groups of 16 or 32 in bytes; anything else as it is."""
    if not isinstance(weight, Blocks) or weight.raw.ndim != 2 or weight.kind not in _SCALES:
        return weight
    parts = [_groups(weight[first : first + SLAB]) for first in range(0, weight.shape[0], SLAB)]
    offsets = [part.offsets for part in parts if part.offsets is not None]
    return Groups(
        parts[0].kind,
        torch.cat([part.codes for part in parts]),
        torch.cat([part.scales for part in parts]),
        torch.cat(offsets) if offsets else None,
    )


def _groups(weight: Blocks) -> Groups:
    """Scales are read from the blocks; codes follow from them and what the `gguf` package makes of a block."""
    scales, offsets = _SCALES[weight.kind](weight.raw.unflatten(-1, (weight.shape[-1] // BLOCK, -1)).numpy())
    values = weight.unpack().unflatten(-1, (scales.shape[-1], -1))  # [rows, groups, group]
    start = 0.0 if offsets is None else offsets[..., None]
    codes = ((values - start) / torch.where(scales == 0, 1, scales)[..., None]).round()
    kind = "int8" if offsets is None else "uint8"
    return Groups(kind, codes.to(torch.int8 if offsets is None else torch.uint8).flatten(-2), scales, offsets)


def _q6_k(raw: np.ndarray) -> tuple[Tensor, None]:
    """[rows, blocks, 210]: 192 bytes of codes, 16 scales, and a scale of those."""
    scales = raw[..., 192:208].view(np.int8).astype(np.float32)
    return torch.from_numpy((_half(raw[..., 208:210]) * scales).reshape(len(raw), -1)), None


def _q5_k(raw: np.ndarray) -> tuple[Tensor, Tensor]:
    """[rows, blocks, 176]: scales of scales and of minima, then eight of each in 6 bits."""
    from gguf.quants import Q4_K

    flat = np.ascontiguousarray(raw[..., 4:16]).reshape(-1, 12)
    scales, minima = (part.reshape(*raw.shape[:2], -1).astype(np.float32) for part in Q4_K.get_scale_min(flat))
    scales, minima = _half(raw[..., 0:2]) * scales, _half(raw[..., 2:4]) * minima
    return torch.from_numpy(scales.reshape(len(raw), -1)), torch.from_numpy(-minima.reshape(len(raw), -1))


def _half(raw: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(raw).view(np.float16).astype(np.float32)


_SCALES = {"Q6_K": _q6_k, "Q5_K": _q5_k}
