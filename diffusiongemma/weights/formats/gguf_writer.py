"""`diffusiongemma export --gguf`: a model as one GGUF file that this package and llama.cpp's forks read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from diffusiongemma.config import ModelConfig
from diffusiongemma.errors import InputError
from diffusiongemma.model.model import Model
from diffusiongemma.weights.checkpoint import VISION, file_name
from diffusiongemma.weights.formats.gguf_names import ARCHITECTURE, gguf_name
from diffusiongemma.weights.formats.gguf_tokenizer import write_tokenizer
from diffusiongemma.weights.packed import Blocks, Packed
from diffusiongemma.weights.packed_modules import packed_of

TYPES = ("F32", "F16", "BF16", "Q8_0", "Q5_0", "Q4_0")  # those that the `gguf` package can write


def write_gguf(model: Model, tokenizer: Any, path: Path, kind: str = "BF16") -> None:
    """Matrices become `kind`, vectors F32; what was read from GGUF blocks is written as the same blocks.

    Raises `InputError` for a kind that is not written, or where rows do not divide into its blocks. The vision tower is
    not in such files.
    """
    from gguf import GGUFWriter

    if kind not in TYPES:
        raise InputError(f"choose {', '.join(TYPES)}", option="type", got=kind)
    writer = GGUFWriter(path, ARCHITECTURE)
    _write_config(writer, model.config)
    write_tokenizer(writer, tokenizer)
    weights: dict[str, Tensor | Packed] = {**model.state_dict(), **packed_of(model)}
    for own, weight in weights.items():
        name = file_name(own)
        if not name.startswith(VISION):
            _write_tensor(writer, gguf_name(name), weight, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_tensor(writer: Any, name: str, weight: Tensor | Packed, kind: str) -> None:
    from gguf import GGMLQuantizationType, QuantError, quantize

    if isinstance(weight, Blocks):
        writer.add_tensor(name, weight.raw.numpy(), raw_dtype=GGMLQuantizationType[weight.kind])
        return
    full = (weight.unpack() if isinstance(weight, Packed) else weight.detach().float()).cpu().numpy()
    if full.ndim < 2:
        writer.add_tensor(name, full.reshape(-1).astype(np.float32))
        return
    try:
        writer.add_tensor(name, quantize(full, GGMLQuantizationType[kind]), raw_dtype=GGMLQuantizationType[kind])
    except (QuantError, ValueError) as error:
        raise InputError(f"{name} cannot be written as {kind}: {error}", option="type", got=kind) from error


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
