"""Packed weights as tensors of safetensors files.

Where compressed-tensors has a name for a layout, that is used: `weight_packed` for 4 bits, `weight` beside
`weight_scale` for 8. What it has not gets names of this package's: `weight_blocks_q4_k` for GGUF's blocks,
`weight_int4` or `weight_uint8` beside `weight_offset` for codes with offsets. Experts have a name each, as in files by
others. They lie side by side in order, so that the reader finds all of a layer as one tensor without moving them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusiongemma.weights.formats.quantised import BLOCKS
from diffusiongemma.weights.packed import Blocks, Groups, Packed, Plain, Rows, Stack
from diffusiongemma.weights.schemes import ROLES, role_of

HALVES = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}


# --- names ----------------------------------------------------------------------------------------------------------


def stored(name: str, weight: Tensor | Packed) -> dict[str, Tensor]:
    """The tensors that a file holds for the release's tensor `name`, in the order in which they are to lie."""
    if isinstance(weight, Tensor):
        return {name: weight}
    base, _, leaf = name.rpartition(".")
    if leaf not in HALVES:
        return {f"{base}.{end}": tensor for end, tensor in _parts(weight).items()}
    found: dict[str, dict[str, Tensor]] = {}
    for expert in range(weight.shape[0]):
        for half, part in zip(HALVES[leaf], _halves(weight[expert], len(HALVES[leaf])), strict=True):
            for end, tensor in _parts(part).items():
                found.setdefault(end, {})[f"{base}.{expert}.{half}.{end}"] = tensor
    return {name: tensor for of_one_end in found.values() for name, tensor in of_one_end.items()}


def _halves(weight: Packed, count: int) -> list[Packed]:
    if isinstance(weight, Rows) and len(weight.parts) == count:
        return list(weight.parts)
    height = weight.shape[0] // count
    return [weight[i * height : (i + 1) * height] for i in range(count)]


def _parts(weight: Packed) -> dict[str, Tensor]:
    """A matrix's tensors, by the ends of their names."""
    if isinstance(weight, Plain):
        return {"weight": weight.weight}
    if isinstance(weight, Blocks):
        return {f"{BLOCKS}{weight.kind.lower()}": weight.raw}
    assert isinstance(weight, Groups), "only experts are stacked"
    if weight.offsets is None and weight.kind in _NAMED and weight.zero == _NAMED[weight.kind][0]:
        return _NAMED[weight.kind][1](weight)
    scales = weight.scales if weight.factor == 1 else weight.scales.float() * weight.factor
    offsets = torch.zeros_like(scales) if weight.offsets is None else weight.offsets
    if weight.zero:
        offsets = offsets.float() - scales.float() * weight.zero
    return {f"weight_{weight.kind}": weight.codes, "weight_scale": scales, "weight_offset": offsets}


def _words(weight: Groups) -> dict[str, Tensor]:
    codes = weight.codes.contiguous().view(torch.int32)
    return {"weight_packed": codes, "weight_scale": _scales(weight), "weight_shape": torch.tensor(weight.shape)}


def _bytes(weight: Groups) -> dict[str, Tensor]:
    return {"weight": weight.codes, "weight_scale": _scales(weight)}


def _fp4(weight: Groups) -> dict[str, Tensor]:
    """By the name whose number says the factor exactly: multiplied by it, or divided."""
    if float(np.float32(weight.factor)) == weight.factor:
        return {"weight": weight.codes, "weight_scale": weight.scales, "weight_scale_2": torch.tensor(weight.factor)}
    divisor = torch.tensor([1 / weight.factor])
    return {"weight_packed": weight.codes, "weight_scale": weight.scales, "weight_global_scale": divisor}


def _scales(weight: Groups) -> Tensor:
    return weight.scales if weight.factor == 1 else weight.scales.float() * weight.factor


_NAMED = {"int4": (8, _words), "int8": (0, _bytes), "fp8": (0, _bytes), "fp4": (0, _fp4)}  # kind: (zero, tensors)


# --- config.json ----------------------------------------------------------------------------------------------------


Layout = tuple[str, int]  # kind, and inputs that share a scale: 0 for a whole row


def layouts_of(weights: Mapping[str, Packed]) -> dict[str, Layout]:
    """The layout of each weight, by the first of its parts."""
    return {name: layout_of(weight) for name, weight in weights.items()}


def layout_of(weight: Packed) -> Layout:
    while isinstance(weight, (Stack, Rows)):
        weight = weight.parts[0]
    if not isinstance(weight, Groups):
        return (weight.kind if isinstance(weight, Blocks) else "full"), 0
    count = weight.scales.shape[-1]
    return weight.kind, 0 if count == 1 else weight.shape[-1] // count


def described(layouts: Mapping[str, Layout]) -> dict[str, Any]:
    """The `quantization_config` of a directory whose packed weights, by their names in the release, have these."""
    names: dict[Layout, set[str]] = {}
    for name, layout in layouts.items():
        names.setdefault(layout, set()).add(name)
    groups = [_group(*layout, sorted(_targets(names[layout], layouts))) for layout in names]
    formats = {group["format"] for group in groups}
    return {
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
        "format": formats.pop() if len(formats) == 1 else "mixed-precision",
        "config_groups": {f"group_{i}": group for i, group in enumerate(groups)},
        "ignore": ["lm_head", "re:.*router.*", "re:.*vision_tower.*", "re:.*embed_vision.*"],
    }


FORMATS = {"int4": "pack-quantized", "int8": "int-quantized", "fp8": "float-quantized", "fp4": "nvfp4-pack-quantized"}


def _group(kind: str, size: int, targets: list[str]) -> dict[str, Any]:
    few = kind in ("int4", "fp4") or kind.startswith(("Q4", "IQ4"))
    weights = {"num_bits": 4 if few else 8, "type": "float" if kind in ("fp4", "fp8") else "int", "symmetric": True}
    return {
        "targets": targets,
        "weights": weights | {"strategy": "group" if size else "channel", "group_size": size or None},
        # Engines that multiply in 8 bits round what comes in, too; here it is a matter of the kernels at hand.
        "input_activations": None if size else weights | {"strategy": "token", "dynamic": True},
        "format": FORMATS.get(kind, "dense"),
    }


def _targets(names: set[str], layouts: Mapping[str, Layout]) -> set[str]:
    """Patterns of whole roles where all of a role are alike, else of single weights."""
    whole = {role for role in ROLES if {name for name in layouts if role_of(name) == role} <= names}
    return {_pattern(name, role_of(name), whole) for name in names}


def _pattern(name: str, role: str | None, whole: set[str]) -> str:
    if role is None or role not in whole:
        return "re:" + re.escape(re.sub(r"\.weight$|\.gate_up_proj$", "", name))
    return r"re:.*\.experts\..*" if role == "experts" else "re:.*" + ROLES[role].removesuffix(r"\.weight")
