"""GGUF files: weights as they lie in the file, configuration, tokenizer and chat template, with no second download."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from diffusiongemma.config import FULL, SLIDING, ModelConfig
from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.errors import CheckpointError, InputError
from diffusiongemma.weights.formats.gguf_file import GGUFFile, StoredTensor
from diffusiongemma.weights.formats.gguf_names import ARCHITECTURE, ROPE_FACTORS, SPLIT_EXPERTS, UNROTATED, release_name
from diffusiongemma.weights.packed import Blocks, Packed, Plain, Rows

PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
DECODING = {  # option: (key, kind)
    "steps": ("diffusion.eb_max_steps", int),
    "t_min": ("diffusion.eb_t_min", float),
    "t_max": ("diffusion.eb_t_max", float),
    "entropy_bound": ("diffusion.eb_entropy_bound", float),
    "stability_threshold": ("diffusion.eb_stability_threshold", int),
    "confidence_threshold": ("diffusion.eb_confidence_threshold", float),
    # Keys of this package, for what others have no key for.
    "max_new_tokens": ("diffusiongemma.max_new_tokens", int),
    "patience": ("diffusiongemma.patience", int),
    "verify": ("diffusiongemma.verify", str),
}
END_TOKENS = "diffusiongemma.eos_token_ids"  # all that end an answer
ENDS = ("<turn|>", "<|tool_response>")  # that the release ends an answer at, beside the end of the text
_ABSENT: Any = object()
_SPLIT = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")


class GGUF:
    """One model in one file or several (`…-00001-of-00003.gguf`), memory-mapped; its tensors by the release's names.

    Raises `CheckpointError` for files that are no GGUF, of another architecture, cut off, or not all there.
    """

    def __init__(self, path: Path):
        self.directory = path
        self.files = [GGUFFile(one) for one in parts_of(path)]
        self.fields = {name: value for file in reversed(self.files) for name, value in file.fields.items()}
        architecture = self.value("general.architecture", str)
        if architecture != ARCHITECTURE:
            raise CheckpointError(f"{path} holds a model of architecture {architecture!r}, expected {ARCHITECTURE!r}")
        found = {name: tensor for file in self.files for name, tensor in file.tensors.items()}
        self._readers = {name: read for tensor in found.values() for name, read in self._known(tensor)}
        self._join_split_experts(found)
        factors = found.get(ROPE_FACTORS)
        self.rope_factors = None if factors is None else cast(Tensor, _weight(factors))
        self.where: dict[str, Path] = dict.fromkeys(self._readers, path)

    def value(self, key: str, kind: type, default: Any = None) -> Any:
        """A key's value. Raises `CheckpointError` where it is missing, without a default, or of another kind."""
        if key not in self.fields:
            if default is None:
                raise CheckpointError(f"{self.directory} has no {key}")
            return default
        value = self.fields[key]
        if kind is float and isinstance(value, (int, float)):
            value = float(str(np.float32(value)))  # 1e-6, not the double that its float32 is
        if not isinstance(value, kind):
            raise CheckpointError(f"{self.directory}: {key} is a {type(value).__name__}, expected {kind.__name__}")
        return value

    def tensor(self, name: str) -> Tensor | Packed:
        return self._readers[name]()

    def stored(self) -> dict[str, int]:
        return {name: tensor.raw.nbytes for file in self.files for name, tensor in file.tensors.items()}

    def _known(self, tensor: Any) -> list[tuple[str, Callable[[], Tensor | Packed]]]:
        if tensor.name == ROPE_FACTORS or tensor.name.partition(".")[2].partition(".")[2] in SPLIT_EXPERTS:
            return []
        name = release_name(tensor.name)
        if name is None:
            raise CheckpointError(f"{self.directory}: tensor {tensor.name} is not part of this architecture")
        return [(name, partial(_weight, tensor))]

    def _join_split_experts(self, found: dict[str, Any]) -> None:
        for name in found:
            base, _, rest = name.partition(f".{SPLIT_EXPERTS[0]}")
            if rest == "" and name.endswith(SPLIT_EXPERTS[0]):
                up = f"{base}.{SPLIT_EXPERTS[1]}"
                if up not in found:
                    raise CheckpointError(f"{self.directory}: tensor {up} is missing beside {name}")
                fused = release_name(f"{base}.ffn_gate_up_exps.weight")
                assert fused is not None
                self._readers[fused] = partial(_fused, found[name], found[up])


def parts_of(path: Path) -> list[Path]:
    """All files of a model of which `path` is one. Raises `CheckpointError` where one is missing."""
    match = _SPLIT.fullmatch(path.name)
    if match is None:
        return [path]
    count = int(match[3])
    paths = [path.with_name(f"{match[1]}-{i:05d}-of-{count:05d}.gguf") for i in range(1, count + 1)]
    if missing := [one for one in paths if not one.exists()]:
        raise CheckpointError(f"{missing[0]} is missing: {path.name} is one of {count} files of a model")
    return paths


def config_of(file: GGUF) -> ModelConfig:
    """The model's shape. Vision is not in such files."""

    def of(key: str, kind: type = int, default: Any = None) -> Any:
        return file.value(f"{ARCHITECTURE}.{key}", kind, default)

    sliding = of("attention.sliding_window_pattern", list)
    heads = of("attention.head_count_kv", list)
    layers = of("block_count")
    if len(sliding) != layers or len(heads) != layers:
        raise CheckpointError(f"{file.directory}: {layers} layers, {len(sliding)} of them said to slide or not")
    end = file.value("tokenizer.ggml.eos_token_id", int, 1)
    return ModelConfig(
        vocab_size=file.tensor("model.decoder.embed_tokens.weight").shape[0],
        hidden_size=of("embedding_length"),
        intermediate_size=of("feed_forward_length"),
        num_attention_heads=of("attention.head_count"),
        num_key_value_heads=_only(file, [h for h, slides in zip(heads, sliding, strict=True) if slides]),
        head_dim=of("attention.key_length_swa"),
        num_global_key_value_heads=_only(file, [h for h, slides in zip(heads, sliding, strict=True) if not slides]),
        global_head_dim=of("attention.key_length"),
        layer_types=tuple(SLIDING if slides else FULL for slides in sliding),
        sliding_window=of("attention.sliding_window"),
        num_experts=of("expert_count"),
        top_k_experts=of("expert_used_count"),
        moe_intermediate_size=of("expert_feed_forward_length"),
        rope_theta=of("rope.freq_base_swa", float),
        global_rope_theta=of("rope.freq_base", float),
        global_partial_rotary_factor=_rotated(file),
        rms_norm_eps=of("attention.layer_norm_rms_epsilon", float),
        final_logit_softcapping=of("final_logit_softcapping", float),
        max_position_embeddings=of("context_length"),
        canvas_length=file.value("diffusion.canvas_length", int),
        pad_token_id=file.value("tokenizer.ggml.padding_token_id", int, 0),
        eos_token_id=end,
        bos_token_id=file.value("tokenizer.ggml.bos_token_id", int, 2),
    )


def decoding_of(file: GGUF) -> Decoding:
    """How to decode; what the file does not say stays as released. Raises `CheckpointError`."""
    said = {option: file.value(key, kind, _ABSENT) for option, (key, kind) in DECODING.items()}
    given = {option: value for option, value in said.items() if value is not _ABSENT}
    ends = {file.value("tokenizer.ggml.eos_token_id", int, 1), *file.value(END_TOKENS, list, [])}
    if END_TOKENS not in file.fields:  # files of others: the turn's end beside the text's
        ends |= {i for i, token in enumerate(file.value("tokenizer.ggml.tokens", list, [])) if token in ENDS}
    try:
        return Decoding.of(**given, eos_token_ids=tuple(sorted(ends)))
    except InputError as error:
        key = DECODING[error.option][0] if error.option in DECODING else "its decoding keys"
        raise CheckpointError(f"{file.directory}: {key}: {error}") from error


def _rotated(file: GGUF) -> float:
    """The share of a global head that is rotated: converters divide the other frequencies by 1e30."""
    if file.rope_factors is None:
        return ModelConfig.global_partial_rotary_factor
    return float((file.rope_factors < UNROTATED).float().mean())


def _only(file: GGUF, heads: list[int]) -> int:
    if len(set(heads)) != 1:
        raise CheckpointError(f"{file.directory}: layers of one kind with {sorted(set(heads))} key-value heads")
    return heads[0]


def _weight(tensor: StoredTensor) -> Tensor | Packed:
    if tensor.kind in PLAIN:
        return tensor.raw.view(PLAIN[tensor.kind]).view(tensor.shape)
    return Blocks(tensor.kind, tensor.raw)


def _fused(gate: StoredTensor, up: StoredTensor) -> Rows:
    return Rows((_part(gate), _part(up)))


def _part(tensor: StoredTensor) -> Packed:
    weight = _weight(tensor)
    return Plain(weight) if isinstance(weight, Tensor) else weight
