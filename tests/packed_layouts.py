"""A weight in each layout that the kernels for packed weights know."""

from __future__ import annotations

import gguf
import torch
from torch import Tensor

from diffusiongemma.weights.packed import Blocks, Groups, Rows, int4, int8


def random_blocks(kind: str, out: int, width: int) -> Blocks:
    """What `gguf` does not write itself: any bytes, with small numbers where scales stand."""
    weights, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    raw = torch.randint(0, 256, (out, width // weights, size), dtype=torch.uint8)
    for at in {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "Q3_K": (108,)}[kind]:
        raw[..., at : at + 2] = (torch.rand(raw.shape[:2] + (1,)) + 0.5).half().view(torch.uint8)
    return Blocks(kind, raw.flatten(-2))


def blocks(kind: str, weight: Tensor) -> Blocks:
    return Blocks(kind, torch.from_numpy(gguf.quantize(weight.numpy(), gguf.GGMLQuantizationType[kind])))


def nvfp4(out: int, width: int) -> Groups:
    codes = torch.randint(0, 256, (out, width // 2), dtype=torch.uint8)
    return Groups("fp4", codes, torch.rand(out, width // 16).to(torch.float8_e4m3fn), factor=0.37)


def mlx(weight: Tensor, kind: str, zero: int = 0) -> Groups:
    """Unsigned codes with a scale and an offset a group of 64."""
    four = int4(weight, 64, symmetric=False)
    codes = four.codes if kind == "int4" else torch.randint(0, 256, weight.shape, dtype=torch.uint8)
    return Groups(kind, codes, four.scales.half(), four.offsets, zero)


LAYOUTS = {
    "int4, groups of 32": lambda w: int4(w),
    "int4, groups of 16": lambda w: int4(w, 16),
    "int4, groups of 64": lambda w: int4(w, 64),
    "int4 with offsets": lambda w: int4(w, symmetric=False),
    "MLX, 4 bits": lambda w: mlx(w, "int4"),
    "MLX, 8 bits": lambda w: mlx(w, "uint8"),
    "unsigned bytes about 32": lambda w: mlx(w, "uint8", zero=32),
    "unsigned bytes about 200": lambda w: mlx(w, "uint8", zero=200),
    "int8, a scale a row": lambda w: int8(w),
    "int8, groups of 32": lambda w: int8(w, 32),
    "NVFP4": lambda w: nvfp4(*w.shape),
    "Q8_0": lambda w: blocks("Q8_0", w),
    "Q5_0": lambda w: blocks("Q5_0", w),
    "Q4_K": lambda w: random_blocks("Q4_K", *w.shape),
    "Q5_K": lambda w: random_blocks("Q5_K", *w.shape),
    "Q6_K": lambda w: random_blocks("Q6_K", *w.shape),
    "rows below each other": lambda w: Rows((int4(w[:20]), int8(w[20:]))),
}  # fmt: skip
