"""GGUF's names of architecture `diffusion-gemma`, and the release's, both ways."""

from __future__ import annotations

import re

ARCHITECTURE = "diffusion-gemma"
ROPE_FACTORS = "rope_freqs.weight"  # what converters make of the share of a head that is rotated:
UNROTATED = 1e30  # what they divide the frequencies of the rest by

_WHOLE = {
    "token_embd.weight": "model.decoder.embed_tokens.weight",
    "output_norm.weight": "model.decoder.norm.weight",
    "self_cond_pre_norm.weight": "model.decoder.self_conditioning.pre_norm.weight",
    "self_cond_gate.weight": "model.decoder.self_conditioning.gate_proj.weight",
    "self_cond_up.weight": "model.decoder.self_conditioning.up_proj.weight",
    "self_cond_down.weight": "model.decoder.self_conditioning.down_proj.weight",
}
_OF_LAYER = {
    "attn_norm.weight": "input_layernorm.weight",
    "post_attention_norm.weight": "post_attention_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "attn_q_norm.weight": "self_attn.q_norm.weight",
    "attn_k_norm.weight": "self_attn.k_norm.weight",
    "ffn_norm.weight": "pre_feedforward_layernorm.weight",
    "post_ffw_norm_1.weight": "post_feedforward_layernorm_1.weight",
    "pre_ffw_norm_2.weight": "pre_feedforward_layernorm_2.weight",
    "post_ffw_norm_2.weight": "post_feedforward_layernorm_2.weight",
    "post_ffw_norm.weight": "post_feedforward_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
    "ffn_gate_inp.weight": "router.proj.weight",
    "ffn_gate_inp.scale": "router.scale",
    "ffn_gate_up_exps.weight": "experts.gate_up_proj",
    "ffn_down_exps.weight": "experts.down_proj",
    "ffn_down_exps.scale": "router.per_expert_scale",
    "layer_output_scale.weight": "layer_scalar",
}
_ENCODER_SCALAR = "enc_layer_output_scale.weight"
SPLIT_EXPERTS = ("ffn_gate_exps.weight", "ffn_up_exps.weight")  # what some files have for ffn_gate_up_exps


def release_name(name: str) -> str | None:
    """The release's name of a tensor, None for one that it has not."""
    if name in _WHOLE:
        return _WHOLE[name]
    match = re.fullmatch(r"blk\.(\d+)\.(.+)", name)
    if match is None:
        return None
    layer, rest = match.groups()
    # Writers leave the suffix of scalars out, or not.
    rest = rest if rest in _OF_LAYER or rest == _ENCODER_SCALAR else f"{rest}.weight"
    if rest == _ENCODER_SCALAR:
        return f"model.encoder.language_model.layers.{layer}.layer_scalar"
    return f"model.decoder.layers.{layer}.{_OF_LAYER[rest]}" if rest in _OF_LAYER else None


def gguf_name(name: str) -> str:
    """The name in GGUF of a tensor of the release. Raises `KeyError`."""
    if match := re.fullmatch(r"model\.encoder\.language_model\.layers\.(\d+)\.layer_scalar", name):
        return f"blk.{match[1]}.{_ENCODER_SCALAR}"
    if match := re.fullmatch(r"model\.decoder\.layers\.(\d+)\.(.+)", name):
        return f"blk.{match[1]}.{_IN_LAYER[match[2]]}"
    return _IN_WHOLE[name]


_IN_LAYER = {release: gguf for gguf, release in _OF_LAYER.items()}
_IN_WHOLE = {release: gguf for gguf, release in _WHOLE.items()}
