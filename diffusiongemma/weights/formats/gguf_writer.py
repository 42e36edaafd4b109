"""`diffusiongemma export --gguf`: a model as one GGUF file that this package and llama.cpp's forks read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusiongemma.config import ModelConfig
from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.errors import InputError, UserError
from diffusiongemma.model.model import Model
from diffusiongemma.weights.checkpoint import VISION, file_name
from diffusiongemma.weights.formats.gguf import DECODING, END_TOKENS
from diffusiongemma.weights.formats.gguf_names import ARCHITECTURE, ROPE_FACTORS, UNROTATED, gguf_name
from diffusiongemma.weights.formats.gguf_tokenizer import write_tokenizer
from diffusiongemma.weights.packed import Blocks, Packed, Rows
from diffusiongemma.weights.packed_modules import packed_of

TYPES = ("F32", "F16", "BF16", "Q8_0", "Q5_0", "Q4_0")  # those that the `gguf` package can write
FEW_BITS = ("Q5_0", "Q4_0")
# What decides where a token goes, and what every token is read from and written by, in more bits than the rest.
IN_FULL = re.compile(r".*ffn_gate_inp\.weight")
IN_8_BITS = re.compile(r"token_embd\.weight|self_cond_.*")
PARTIAL = ".partial"
Array = np.ndarray[Any, Any]


def write_gguf(
    model: Model,
    tokenizer: Any,
    path: Path,
    kind: str = "BF16",
    decoding: Decoding | None = None,
    watch: Callable[[str], None] = lambda name: None,
) -> None:
    """Matrices become `kind`, vectors and the router F32; what was read from GGUF blocks is written as the same blocks.

    The file takes its name when it is whole. `watch` hears of each tensor. The vision tower is not in such files.
    Raises `InputError` for a kind that is not written or where rows do not divide into its blocks, and `UserError`
    where the file cannot be written.
    """
    from gguf import GGUFWriter

    if kind not in TYPES:
        raise InputError(f"choose {', '.join(TYPES)}", option="type", got=kind)
    partial = path.with_name(path.name + PARTIAL)
    try:
        writer = GGUFWriter(partial, ARCHITECTURE)
        _write_keys(writer, model.config, tokenizer, decoding or Decoding())
        _write_tensors(writer, list(_tensors(model, kind)), watch)
        writer.close()
        partial.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


class _Tensor:
    """One tensor to write: its size is known before its bytes are made."""

    def __init__(self, name: str, weight: Tensor | Packed, kind: str):
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        self.name, self.weight = name, _joined(weight)
        weight = self.weight
        self.kind = weight.kind if isinstance(weight, Blocks) else _kind_of(name, weight, kind)
        self.type = GGMLQuantizationType[self.kind]
        *outer, width = weight.shape or (1,)
        block, size = GGML_QUANT_SIZES[self.type]
        if width % block:
            message = f"{name} has rows of {width}, which do not divide into blocks of {block}: choose another"
            raise InputError(message, option="type", got=kind)
        self.byte_shape = (*outer, width // block * size)

    def array(self) -> Array:
        if isinstance(self.weight, Blocks):
            return self.weight.raw.cpu().numpy()
        if len(self.weight.shape) < 3:
            return self._encoded(self.weight)
        return np.stack([self._encoded(self.weight[i]) for i in range(self.weight.shape[0])])  # expert by expert

    def _encoded(self, weight: Tensor | Packed) -> Array:
        from gguf import quantize

        full = (weight.unpack() if isinstance(weight, Packed) else weight.detach().float()).cpu().numpy()
        return np.ascontiguousarray(quantize(full, self.type)).view(np.uint8)


def _joined(weight: Tensor | Packed) -> Tensor | Packed:
    """Gate and up that a file holds apart, as one, where both are blocks of one kind."""
    if isinstance(weight, Rows):
        parts = [part for part in weight.parts if isinstance(part, Blocks)]
        if len(parts) == len(weight.parts) and len({part.kind for part in parts}) == 1:
            return Blocks(parts[0].kind, torch.cat([part.raw for part in parts], dim=-2))
    return weight


def _kind_of(name: str, weight: Tensor | Packed, kind: str) -> str:
    if len(weight.shape) < 2 or IN_FULL.fullmatch(name):
        return "F32"
    return "Q8_0" if kind in FEW_BITS and IN_8_BITS.fullmatch(name) else kind


def _tensors(model: Model, kind: str) -> Iterator[_Tensor]:
    weights: dict[str, Tensor | Packed] = {**model.state_dict(), **packed_of(model)}
    for own, weight in weights.items():
        name = file_name(own)
        if not name.startswith(VISION):
            yield _Tensor(gguf_name(name), weight, kind)
    yield _Tensor(ROPE_FACTORS, _rope_factors(model.config), "F32")


def _rope_factors(config: ModelConfig) -> Tensor:
    """What a global head's frequencies are divided by."""
    half = config.global_head_dim // 2
    turning = int(config.global_partial_rotary_factor * half)
    return torch.cat([torch.ones(turning), torch.full((half - turning,), UNROTATED)])


def _write_tensors(writer: Any, tensors: list[_Tensor], watch: Callable[[str], None]) -> None:
    for tensor in tensors:
        size = int(np.prod(tensor.byte_shape))
        writer.add_tensor_info(tensor.name, tensor.byte_shape, np.dtype(np.uint8), size, raw_dtype=tensor.type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors:
        watch(tensor.name)
        writer.write_tensor_data(tensor.array())


def _write_keys(writer: Any, config: ModelConfig, tokenizer: Any, decoding: Decoding) -> None:
    _write_config(writer, config)
    _write_decoding(writer, decoding)
    write_tokenizer(writer, tokenizer)


def _write_decoding(writer: Any, decoding: Decoding) -> None:
    options = decoding.options()
    add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    for option, (key, kind) in DECODING.items():
        add[kind](key, kind(options[option]))
    writer.add_array(END_TOKENS, list(decoding.eos_token_ids))


def _write_config(writer: Any, config: ModelConfig) -> None:
    def whole(key: str, value: int) -> None:
        writer.add_uint32(f"{ARCHITECTURE}.{key}", value)

    sliding = [config.is_sliding(i) for i in range(config.num_layers)]
    writer.add_name("DiffusionGemma")
    whole("block_count", config.num_layers)
    whole("context_length", config.max_position_embeddings)
    whole("embedding_length", config.hidden_size)
    whole("feed_forward_length", config.intermediate_size)
    whole("attention.head_count", config.num_attention_heads)
    writer.add_array(f"{ARCHITECTURE}.attention.head_count_kv", [config.heads(i)[0] for i in range(len(sliding))])
    writer.add_array(f"{ARCHITECTURE}.attention.sliding_window_pattern", sliding)
    whole("attention.sliding_window", config.sliding_window)
    whole("attention.shared_kv_layers", 0)
    writer.add_bool(f"{ARCHITECTURE}.attention.causal", False)
    for size, suffix in ((config.global_head_dim, ""), (config.head_dim, "_swa")):
        for key in ("attention.key_length", "attention.value_length", "rope.dimension_count"):
            whole(f"{key}{suffix}", size)
    whole("expert_count", config.num_experts)
    whole("expert_used_count", config.top_k_experts)
    whole("expert_feed_forward_length", config.moe_intermediate_size)
    whole("embedding_length_per_layer_input", 0)
    for key, number in (
        ("rope.freq_base", config.global_rope_theta),
        ("rope.freq_base_swa", config.rope_theta),
        ("attention.layer_norm_rms_epsilon", config.rms_norm_eps),
        ("final_logit_softcapping", config.final_logit_softcapping),
    ):
        writer.add_float32(f"{ARCHITECTURE}.{key}", number)
    writer.add_uint32("diffusion.canvas_length", config.canvas_length)
