"""Small random models of transformers' implementation, the numeric oracle."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from transformers import (
    DiffusionGemmaConfig,
    DiffusionGemmaForBlockDiffusion,
    DiffusionGemmaTextConfig,
    Gemma4VisionConfig,
)
from transformers.cache_utils import DynamicCache
from transformers.utils import logging

from diffusiongemma.model.model import Model
from diffusiongemma.weights.checkpoint import load_model

logging.disable_progress_bar()

TINY_VISION = dict(
    hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, head_dim=8,
    position_embedding_size=64, pooling_kernel_size=2, patch_size=4,
)  # fmt: skip
TINY_TEXT = dict(
    vocab_size=101, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, global_head_dim=32, num_global_key_value_heads=1, sliding_window=8,
    num_experts=4, top_k_experts=2, moe_intermediate_size=16, max_position_embeddings=4096,
    layer_types=["sliding_attention", "sliding_attention", "full_attention"],
)  # fmt: skip


def build(seed: int = 0, canvas_length: int = 8, image_token_id: int = 98, **text) -> DiffusionGemmaForBlockDiffusion:
    """A random model whose every learned scale, also those initialised to one, differs from the identity."""
    torch.manual_seed(seed)
    config = DiffusionGemmaConfig(
        text_config=DiffusionGemmaTextConfig(**(TINY_TEXT | text)),
        vision_config=Gemma4VisionConfig(**TINY_VISION),
        canvas_length=canvas_length,
        boi_token_id=97, image_token_id=image_token_id, eoi_token_id=99,
    )  # fmt: skip
    model = DiffusionGemmaForBlockDiffusion(config).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("layer_scalar"):
                tensor.uniform_(0.7, 1.1)
            elif "norm" in name or name.endswith("scale"):
                tensor.uniform_(0.6, 1.4)
            elif tensor.is_floating_point() and tensor.ndim >= 2:
                tensor.normal_(0, 0.3 if "embed_tokens" in name else tensor.shape[-1] ** -0.5)
    return model


def ours(reference: DiffusionGemmaForBlockDiffusion, directory: Path) -> Model:
    """The same model through its saved files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference.save_pretrained(directory)
    return load_model(directory)


def new_cache(reference: DiffusionGemmaForBlockDiffusion) -> DynamicCache:
    return DynamicCache(config=reference.config.text_config)


@torch.no_grad()
def soft_capped(reference: DiffusionGemmaForBlockDiffusion, hidden: torch.Tensor) -> torch.Tensor:
    cap = reference.final_logit_softcapping
    return torch.tanh(reference.lm_head(hidden).float() / cap) * cap
