"""Ours beside transformers' implementation around the same tensors, so that the full size needs no second copy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from gpu_timing import Clock
from step import VISION
from torch import Tensor, nn
from transformers import DiffusionGemmaConfig, DiffusionGemmaForBlockDiffusion
from transformers.cache_utils import DynamicCache

from diffusiongemma.config import FULL, SLIDING, ModelConfig
from diffusiongemma.model.model import Model
from diffusiongemma.weights.checkpoint import file_name


@torch.no_grad()
def against_transformers(model: Model, prefix: int, rounds: int, clock: Clock) -> dict[str, Any]:
    """The encoder and one self-conditioned decoder pass to logits: how far apart, and how long each takes."""
    twin, device, config = transformers_twin(model), model.device, model.config
    ids = torch.randint(10, config.vocab_size, (1, prefix), device=device)
    canvas = torch.randint(10, config.vocab_size, (1, config.canvas_length), device=device)
    logits = torch.randn(1, config.canvas_length, config.vocab_size, device=device)
    row, theirs = model.new_sequence(), DynamicCache(config=twin.config.text_config)
    hidden = torch.cat([model.encode_rows([row], [model.backbone.embed(part)]) for part in ids[0].split(1024)])
    expected = twin.model.encoder(input_ids=ids, past_key_values=theirs).last_hidden_state[0]
    cache = model.encode(ids)

    def ours() -> Tensor:
        return model.denoise(canvas, cache, model.soft_embedding(logits))

    def reference() -> Tensor:
        out: Tensor = twin(decoder_input_ids=canvas, past_key_values=theirs, self_conditioning_logits=logits).logits
        return out

    return {
        "prefix": prefix,
        "dtype": str(model.dtype),
        "encoder_difference": relative(hidden, expected),
        "logits_difference": relative(ours(), reference()),
        "same_argmax": float((ours().argmax(-1) == reference().argmax(-1)).float().mean()),
        "ours_ms": clock.median(ours, rounds),
        "theirs_ms": clock.median(reference, rounds),
    }


def relative(a: Tensor, b: Tensor) -> float:
    """Norm of the difference by the norm of b."""
    return float((a.float() - b.float()).norm() / b.float().norm())


def transformers_twin(model: Model) -> Any:
    """transformers' implementation around the tensors of `model`; what else it needs is taken from a small one."""

    def build(config: ModelConfig) -> Any:
        raw = replace(config, vision_config=VISION).to_hf()
        return DiffusionGemmaForBlockDiffusion(DiffusionGemmaConfig.from_dict(raw)).eval().requires_grad_(False)

    few = dict(layer_types=(SLIDING, FULL), num_experts=1, top_k_experts=1, vocab_size=64)
    small = build(replace(model.config, **few)).to(model.device)  # type: ignore[arg-type]
    tensors = {name: p.to(model.dtype) for name, p in small.named_parameters()}
    tensors |= dict(small.named_buffers())  # inverse frequencies stay in float32
    tensors |= {file_name(name): tensor for name, tensor in model.state_dict().items()}
    with torch.device("meta"):
        twin = build(model.config)
    for kind in (twin.named_parameters, twin.named_buffers):
        for name, old in list(kind(remove_duplicate=False)):
            shared = name.replace("model.encoder.language_model.", "model.decoder.")
            shared = shared.replace("lm_head.", "model.decoder.embed_tokens.")
            tensor = tensors[name if name.endswith("layer_scalar") or shared not in tensors else shared]
            assert tensor.shape == old.shape, (name, tensor.shape, old.shape)
            parent, _, leaf = name.rpartition(".")
            kept = nn.Parameter(tensor, requires_grad=False) if isinstance(old, nn.Parameter) else tensor
            setattr(twin.get_submodule(parent), leaf, kept)
    return twin
