"""Quantised safetensors: what compressed-tensors, ModelOpt, AutoRound, GPTQ and MLX write, told apart tensor by tensor.

| beside each other in the file | is |
|---|---|
| `weight_packed` of int32, `weight_scale` | int4, code − 8 (compressed-tensors) |
| `weight_packed` of uint8, `weight_scale`, `weight_global_scale` | FP4, divided by the last (compressed-tensors) |
| `weight` of uint8, `weight_scale`, `weight_scale_2` | FP4, times the last (ModelOpt) |
| `weight` of float8 or int8, `weight_scale` | FP8 or int8 (either) |
| `qweight`, `qzeros`, `scales` | int4 along the input (GPTQ, AutoRound) |
| `weight` of uint32, `scales`, `biases` | MLX's affine 2 to 8 bits |
| `weight_int4` or `weight_uint8`, `weight_scale`, `weight_offset` | this package's, where others have no name |
| `weight_blocks_q4_k` and so on | this package's, GGUF's blocks |

Experts that lie one by one are stacked, gate on top of up, without being moved. Where they lie side by side, as this
package writes them (`packed_files`), they are one tensor.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusiongemma.errors import CheckpointError
from diffusiongemma.weights.packed import Blocks, Groups, Packed, Rows, Stack

Part = Callable[[str], Tensor]  # a tensor of the file, by what follows the common beginning of its name
METHODS = ("compressed-tensors", "modelopt", "auto-round", "gptq")
LAYOUTS = ("dense", "pack-quantized", "nvfp4-pack-quantized", "float-quantized", "int-quantized", "naive-quantized",
           "mixed-precision")  # fmt: skip
INSTEAD = {
    "awq": "compressed-tensors, as in …-AWQ-INT4 repositories that say so in config.json",
    "bitsandbytes": "the released bfloat16 files, which `diffusiongemma quantize` packs",
    "torchao": "the released bfloat16 files, which `diffusiongemma quantize` packs",
}
BLOCKS = "weight_blocks_"
# Says nothing about the weights: ranges of activations, the shape that codes and scales show, GPTQ's plain order.
_BESIDE = ("input_scale", "input_global_scale", "weight_shape", "k_scale", "v_scale")
_EXPERT = re.compile(r"(.*\.experts)\.(\d+)\.(gate_proj|up_proj|down_proj)\.weight")
_SWITCH = re.compile(r"(.*\.experts)\.switch_glu\.(gate_proj|up_proj|down_proj)\.weight")


def is_quantised(config: dict[str, Any]) -> bool:
    """Whether a `config.json` speaks of packed weights. Raises `CheckpointError` for a method that is not read here."""
    block = config.get("quantization_config") or (config.get("text_config") or {}).get("quantization_config")
    if block is None:
        mlx = config.get("quantization")
        mode = mlx.get("mode", "affine") if isinstance(mlx, dict) else "affine"
        if mode != "affine":
            raise CheckpointError(f"config.json: MLX's mode {mode!r} is not read here: use an affine one, or GGUF")
        return isinstance(mlx, dict)
    method = block.get("quant_method")
    if method not in METHODS:
        instead = INSTEAD.get(method, f"one of {', '.join(METHODS)}, MLX or GGUF")
        raise CheckpointError(f"config.json: weights quantised by {method!r} are not read here: use {instead}")
    layout = block.get("format", "dense")
    if method == "compressed-tensors" and layout not in LAYOUTS:
        message = f"compressed-tensors' format {layout!r} is not read here: use pack-quantized"
        raise CheckpointError(f"config.json: {message}")
    return True


class QuantisedShards:
    """A checkpoint directory's tensors by the release's names, like `Shards`, which it reads from."""

    def __init__(self, shards: Any, config: dict[str, Any]):
        self.directory, self._shards = shards.directory, shards
        self._gptq_zero = _gptq_zero(config.get("quantization_config") or {})
        self._mlx = config.get("quantization") or {}
        self._readers: dict[str, Callable[[], Packed]] = {}
        self._find_blocks(names := set(shards.where))
        left = self._find(names)
        self._stack()
        self.where: dict[str, Path] = {name: shards.where[name] for name in left}
        self.where |= dict.fromkeys(self._readers, shards.directory)

    def tensor(self, name: str) -> Tensor | Packed:
        return self._readers[name]() if name in self._readers else self._shards.tensor(name)

    def stored(self) -> dict[str, int]:
        return dict(self._shards.stored())

    def _find(self, names: set[str]) -> set[str]:
        """Note how each packed weight is read -> names of the other tensors."""
        for name in sorted(names):
            base, _, last = name.rpartition(".")
            for marks, read in _RULES:
                if last == marks[0] and all(f"{base}.{mark}" in names for mark in marks[1:]):
                    self._readers[_own_name(base)] = self._reader(base, read)
                    names -= {f"{base}.{part}" for part in (*marks, *_OPTIONAL.get(marks[0], ()))}
                    break
        return {name for name in names if name.rpartition(".")[2] not in _BESIDE}

    def _find_blocks(self, names: set[str]) -> None:
        """Take GGUF's blocks out of the names, noting how they are read."""
        for name in [name for name in names if f".{BLOCKS}" in name]:
            base, _, last = name.rpartition(".")
            kind = last.removeprefix(BLOCKS).upper()
            self._readers[_own_name(base)] = partial(self._blocks, name, kind)
            names.remove(name)

    def _blocks(self, name: str, kind: str) -> Blocks:
        raw = self._shards.tensor(name)
        sizes = block_sizes(kind)
        if sizes is None or raw.dtype != torch.uint8 or raw.shape[-1] % sizes[1]:
            raise CheckpointError(f"{self.directory}: {name} ({raw.dtype}, {list(raw.shape)}) is no rows of {kind}")
        return Blocks(kind, raw)

    def _reader(self, base: str, read: Callable[[QuantisedShards, str, Part], Packed]) -> Callable[[], Packed]:
        def part(last: str) -> Tensor:
            return self._shards.tensor(f"{base}.{last}")

        def checked() -> Packed:
            try:
                return read(self, base, part)
            except (ValueError, RuntimeError, KeyError, IndexError) as error:
                raise CheckpointError(f"{self.directory}: {base} is not what its names promise: {error}") from error

        return checked

    def _stack(self) -> None:
        """Experts one by one, and MLX's gate and up apart, as the release's two fused tensors."""
        found: dict[str, dict[str, dict[int, Callable[[], Packed]]]] = {}
        for name in list(self._readers):
            if match := _EXPERT.fullmatch(name):
                found.setdefault(match[1], {}).setdefault(match[3], {})[int(match[2])] = self._readers.pop(name)
            elif match := _SWITCH.fullmatch(name):
                found.setdefault(match[1], {}).setdefault(match[2], {})[-1] = self._readers.pop(name)
        for base, parts in found.items():
            if missing := {"gate_proj", "up_proj", "down_proj"} - set(parts):
                raise CheckpointError(f"{self.directory}: {base} has no {min(missing)}")
            self._readers[f"{base}.gate_up_proj"] = partial(_gate_over_up, parts)
            self._readers[f"{base}.down_proj"] = partial(_all, parts["down_proj"])


def block_sizes(kind: str) -> tuple[int, int] | None:
    """(weights, bytes) of a block of GGUF's type of this name; None for one that it has not."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    return GGML_QUANT_SIZES[GGMLQuantizationType[kind]] if kind in GGMLQuantizationType.__members__ else None


def _gate_over_up(parts: dict[str, dict[int, Callable[[], Packed]]]) -> Packed:
    gates, ups = parts["gate_proj"], parts["up_proj"]
    if -1 not in gates and sorted(gates) == sorted(ups) == list(range(len(gates))):
        experts = [(gates[i](), ups[i]()) for i in range(len(gates))]
        if (joined := beside([half for pair in experts for half in pair], (len(gates), -1))) is not None:
            return joined
    return Rows((_all(gates), _all(ups)))


def _all(parts: dict[int, Callable[[], Packed]]) -> Packed:
    """All experts of one projection: as they lie in one tensor, or stacked in order."""
    if -1 in parts:
        return parts[-1]()
    if sorted(parts) != list(range(len(parts))):
        raise CheckpointError(f"expert {min(set(range(len(parts))) - set(parts))} is missing among {len(parts)}")
    experts = [parts[i]() for i in range(len(parts))]
    joined = beside(experts, (len(experts), -1))
    return Stack(tuple(experts)) if joined is None else joined


def beside(parts: list[Packed], outer: tuple[int, int]) -> Packed | None:
    """Weights [out, in] that lie side by side in a file, as one [*outer, in]; None where they do not."""
    first = parts[0]
    if isinstance(first, Blocks):
        kinds = {part.kind if isinstance(part, Blocks) else "" for part in parts}
        raw = _beside([part.raw for part in parts if isinstance(part, Blocks)], outer) if len(kinds) == 1 else None
        return None if raw is None else Blocks(first.kind, raw)
    groups = [part for part in parts if isinstance(part, Groups)]
    alike = {(part.kind, part.zero, part.factor, part.offsets is None) for part in groups}
    if not isinstance(first, Groups) or len(groups) < len(parts) or len(alike) > 1:
        return None
    codes, scales = (_beside([getattr(part, name) for part in groups], outer) for name in ("codes", "scales"))
    offsets = [part.offsets for part in groups if part.offsets is not None]
    joined = _beside(offsets, outer) if offsets else None
    if codes is None or scales is None or (offsets and joined is None):
        return None
    return Groups(first.kind, codes, scales, joined, first.zero, first.factor)


def _beside(tensors: list[Tensor], outer: tuple[int, int]) -> Tensor | None:
    """Tensors [out, n] as one view [*outer, n] of the storage in which each begins where the one before ends."""
    first = tensors[0]
    storage, expected = first.untyped_storage().data_ptr(), first.data_ptr()
    for tensor in tensors:
        alike = tensor.shape == first.shape and tensor.dtype == first.dtype and tensor.is_contiguous()
        if not alike or tensor.data_ptr() != expected or tensor.untyped_storage().data_ptr() != storage:
            return None
        expected += tensor.nbytes
    height, width = first.shape
    whole = first.as_strided((len(tensors) * height, width), (width, 1))
    return whole.view(*outer, width)


def _own_name(base: str) -> str:
    """The release's name: fused experts are parameters of their own, everything else is some module's weight."""
    return base if base.endswith((".experts.gate_up_proj", ".experts.down_proj")) else f"{base}.weight"


def _words(_: QuantisedShards, base: str, part: Part) -> Groups:
    codes, scales = part("weight_packed"), part("weight_scale")
    if codes.dtype == torch.int32:
        eight = _width_said(part) == codes.shape[-1] * 4
        kind, zero = ("uint8", 128) if eight else ("int4", 8)
        return _checked(Groups(kind, codes.contiguous().view(torch.uint8), scales, zero=zero))
    if codes.dtype == torch.uint8:
        return _checked(Groups("fp4", codes, scales, factor=1 / float(part("weight_global_scale"))))
    raise ValueError(f"weight_packed of {codes.dtype}, expected int32 (int4) or uint8 (FP4)")


def _width_said(part: Part) -> int | None:
    """Inputs, as the file says beside its words; None where it does not."""
    with suppress(KeyError):
        return int(part("weight_shape")[-1])
    return None


def _modelopt(_: QuantisedShards, base: str, part: Part) -> Groups:
    codes = part("weight")
    if codes.dtype != torch.uint8:
        raise ValueError(f"weight of {codes.dtype} beside a second scale, expected uint8 (FP4)")
    return _checked(Groups("fp4", codes, part("weight_scale"), factor=float(part("weight_scale_2"))))


def _bytes(_: QuantisedShards, base: str, part: Part) -> Groups:
    codes, scales = part("weight"), part("weight_scale")
    if codes.dtype not in (torch.float8_e4m3fn, torch.int8):
        raise ValueError(f"weight of {codes.dtype} beside a scale, expected float8_e4m3fn or int8")
    if scales.numel() == 1:
        scales = scales.reshape(1, 1).expand(*codes.shape[:-1], 1)
    kind = "int8" if codes.dtype == torch.int8 else "fp8"
    return _checked(Groups(kind, codes, scales.reshape(*codes.shape[:-1], -1)))


def _affine(_: QuantisedShards, base: str, part: Part) -> Groups:
    for kind in ("int4", "uint8"):
        with suppress(KeyError):
            return _checked(Groups(kind, part(f"weight_{kind}"), part("weight_scale"), part("weight_offset")))
    raise ValueError("offsets without codes")


def _gptq(shards: QuantisedShards, base: str, part: Part) -> Groups:
    """Eight inputs to a word, words of all outputs side by side: turned round once, nibbles untouched."""
    with suppress(KeyError):
        order = part("g_idx")
        if not torch.equal(order, order.sort().values):
            raise ValueError("its inputs are in an order of their own (desc_act): use a file without")
    words, scales = part("qweight").T.contiguous(), part("scales").T.contiguous()  # [out, in / 8], [out, groups]
    zeros = part("qzeros").contiguous().view(torch.uint8)  # [groups, out / 2], two to a byte
    zeros = torch.stack([zeros & 15, zeros >> 4], dim=-1).flatten(1).T + shards._gptq_zero  # [out, groups]
    packed = Groups("int4", words.view(torch.uint8), scales, zero=8)
    if bool((zeros == 8).all()):
        return _checked(packed)
    offsets = -(zeros.float() * scales.float())
    return _checked(Groups("int4", packed.codes, scales, offsets))


def _gptq_zero(block: dict[str, Any]) -> int:
    """What is to be added to the zeros of the file: the first version of the format stores them less one."""
    return 0 if block.get("checkpoint_format") == "gptq_v2" else 1


def _mlx(shards: QuantisedShards, base: str, part: Part) -> Groups:
    words, scales, biases = part("weight"), part("scales"), part("biases")
    own = shards._mlx.get(base, {}) if isinstance(shards._mlx.get(base, {}), dict) else {}
    group = int(own.get("group_size", shards._mlx.get("group_size", 64)))
    width = scales.shape[-1] * group
    bits = words.shape[-1] * 32 / width
    if words.dtype not in (torch.uint32, torch.int32) or bits not in (2, 3, 4, 5, 6, 8):
        raise ValueError(
            f"weight of {words.dtype} {tuple(words.shape)} and scales {tuple(scales.shape)} in groups of {group}"
        )
    codes = words.contiguous().view(torch.uint8)
    if bits == 4:
        return _checked(Groups("int4", codes, scales, biases))
    return _checked(Groups("uint8", codes if bits == 8 else _spread(codes, int(bits)), scales, biases))


def _spread(packed: Tensor, bits: int) -> Tensor:
    """Codes of 2, 3, 5 or 6 bits, the lowest first, each in a byte of its own."""
    singles = (packed[..., None] >> torch.arange(8, dtype=torch.uint8)) & 1  # [..., bytes, 8]
    codes = singles.flatten(-2).unflatten(-1, (-1, bits))  # [..., in, bits]
    return (codes << torch.arange(bits, dtype=torch.uint8)).sum(-1, dtype=torch.uint8)


def _checked(packed: Groups) -> Groups:
    *outer, width = packed.shape
    for name in ("scales", "offsets"):
        scales = getattr(packed, name)
        if scales is not None and (list(scales.shape[:-1]) != outer or width % scales.shape[-1]):
            raise ValueError(f"{name} {tuple(scales.shape)} do not fit codes for {tuple(packed.shape)}")
    return packed


Rule = Callable[[QuantisedShards, str, Part], Packed]
_RULES: tuple[tuple[tuple[str, ...], Rule], ...] = (
    (("weight_packed", "weight_scale"), _words),
    (("weight", "weight_scale", "weight_scale_2"), _modelopt),
    (("weight", "weight_scale"), _bytes),
    (("qweight", "qzeros", "scales"), _gptq),
    (("weight", "scales", "biases"), _mlx),
    (("weight_int4", "weight_scale", "weight_offset"), _affine),
    (("weight_uint8", "weight_scale", "weight_offset"), _affine),
)
_OPTIONAL = {"weight_packed": ("weight_global_scale",), "qweight": ("g_idx",)}
