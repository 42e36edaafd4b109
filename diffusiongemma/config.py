"""What a checkpoint says about its model. What it says about decoding is in `weights.generation`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from diffusiongemma.errors import CheckpointError

SLIDING, FULL = "sliding_attention", "full_attention"


@dataclass(frozen=True)
class ModelConfig:
    """Shape of one DiffusionGemma; the defaults are the released 26B-A4B model's."""

    vocab_size: int = 262_144
    hidden_size: int = 2816
    intermediate_size: int = 2112
    num_attention_heads: int = 16
    num_key_value_heads: int = 8
    head_dim: int = 256
    num_global_key_value_heads: int = 2
    global_head_dim: int = 512
    layer_types: tuple[str, ...] = ((SLIDING,) * 5 + (FULL,)) * 5
    sliding_window: int = 1024
    num_experts: int = 128
    top_k_experts: int = 8
    moe_intermediate_size: int = 704
    rope_theta: float = 1e4
    global_rope_theta: float = 1e6
    global_partial_rotary_factor: float = 0.25
    rms_norm_eps: float = 1e-6
    final_logit_softcapping: float = 30.0
    max_position_embeddings: int = 262_144
    canvas_length: int = 256
    pad_token_id: int = 0
    eos_token_id: int | list[int] = 1
    bos_token_id: int = 2
    boi_token_id: int = 255_999
    eoi_token_id: int = 258_882
    image_token_id: int = 258_880
    use_bidirectional_attention: str | None = "vision"
    vision_config: dict[str, Any] | None = None
    dtype: str = "bfloat16"

    def __post_init__(self) -> None:
        if self.use_bidirectional_attention not in (None, "vision"):
            raise CheckpointError(
                f"config.json: use_bidirectional_attention={self.use_bidirectional_attention!r} is not supported: "
                "the encoder of DiffusionGemma is causal (null or 'vision')"
            )
        unknown = set(self.layer_types) - {SLIDING, FULL}
        if unknown or not self.layer_types:
            raise CheckpointError(f"config.json: layer_types must name {SLIDING} or {FULL}, found {sorted(unknown)}")
        if not 0 < self.top_k_experts <= self.num_experts:
            raise CheckpointError(f"config.json: top_k_experts {self.top_k_experts} of {self.num_experts} experts")
        for heads, kv in (
            (self.num_attention_heads, self.num_key_value_heads),
            (self.num_attention_heads, self.num_global_key_value_heads),
        ):
            if kv <= 0 or heads % kv:
                raise CheckpointError(f"config.json: {heads} attention heads do not divide into {kv} key-value heads")

    @property
    def num_layers(self) -> int:
        return len(self.layer_types)

    def is_sliding(self, layer: int) -> bool:
        return self.layer_types[layer] == SLIDING

    def heads(self, layer: int) -> tuple[int, int]:
        """(key-value heads, head dimension) of a layer."""
        if self.is_sliding(layer):
            return self.num_key_value_heads, self.head_dim
        return self.num_global_key_value_heads, self.global_head_dim

    @classmethod
    def from_hf(cls, raw: dict[str, Any]) -> ModelConfig:
        """From the contents of a Hugging Face `config.json`.

        Raises `CheckpointError` naming the field that is missing, unusable or of a kind this model has not.
        """
        if raw.get("model_type") != "diffusion_gemma":
            raise CheckpointError(f"config.json: model_type is {raw.get('model_type')!r}, expected 'diffusion_gemma'")
        text = raw.get("text_config")
        if not isinstance(text, dict):
            raise CheckpointError("config.json has no text_config object")
        try:
            return _from_text_config(text, raw)
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"config.json: text_config is incomplete or malformed: {error!r}") from error

    @classmethod
    def from_file(cls, path: Path) -> ModelConfig:
        return cls.from_hf(read_json(path))

    def to_hf(self) -> dict[str, Any]:
        """The `config.json` contents that transformers 5.12 to 5.23 and `from_hf` read back to the same model."""
        top = ("boi_token_id", "eoi_token_id", "image_token_id", "canvas_length", "vision_config", "dtype")
        rope = ("rope_theta", "global_rope_theta", "global_partial_rotary_factor")
        text = {name: value for name, value in asdict(self).items() if name not in top + rope}
        text["layer_types"] = list(self.layer_types)
        text["num_hidden_layers"] = self.num_layers
        text["model_type"] = "diffusion_gemma_text"
        text["hidden_activation"] = "gelu_pytorch_tanh"
        text["tie_word_embeddings"] = True
        text["rope_parameters"] = {
            SLIDING: {"rope_type": "default", "rope_theta": self.rope_theta},
            FULL: {
                "rope_type": "proportional",
                "rope_theta": self.global_rope_theta,
                "partial_rotary_factor": self.global_partial_rotary_factor,
            },
        }
        outer = {name: value for name, value in asdict(self).items() if name in top and value is not None}
        return {
            "architectures": ["DiffusionGemmaForBlockDiffusion"],
            "model_type": "diffusion_gemma",
            "tie_word_embeddings": True,
            "text_config": text,
            **outer,
        }


def _from_text_config(text: dict[str, Any], raw: dict[str, Any]) -> ModelConfig:
    layers = text["num_hidden_layers"]
    pattern = text.get("layer_types") or [FULL if (i + 1) % 6 == 0 else SLIDING for i in range(layers)]
    if len(pattern) != layers:
        raise CheckpointError(f"config.json: {len(pattern)} layer_types for num_hidden_layers {layers}")
    # The reference makes the last layer global whatever the file says.
    layer_types = (*pattern[:-1], FULL)
    kv_heads, head_dim = _global_heads(text, layer_types)
    sliding_rope, global_rope = _rope(text)
    known = {name: text[name] for name in _SAME_NAME_IN_TEXT if text.get(name) is not None}
    outer = {name: raw[name] for name in _SAME_NAME_OUTSIDE if raw.get(name) is not None}
    return ModelConfig(
        **(known | outer),
        layer_types=layer_types,
        num_global_key_value_heads=kv_heads,
        global_head_dim=head_dim,
        rope_theta=float(sliding_rope["rope_theta"]),
        global_rope_theta=float(global_rope["rope_theta"]),
        global_partial_rotary_factor=float(global_rope.get("partial_rotary_factor", 1.0)),
        use_bidirectional_attention=text.get("use_bidirectional_attention"),
        dtype=raw.get("dtype") or raw.get("torch_dtype") or text.get("dtype") or "bfloat16",
    )


_SAME_NAME_IN_TEXT = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "sliding_window",
    "num_experts",
    "top_k_experts",
    "moe_intermediate_size",
    "rms_norm_eps",
    "final_logit_softcapping",
    "max_position_embeddings",
    "pad_token_id",
    "eos_token_id",
    "bos_token_id",
)
_SAME_NAME_OUTSIDE = ["canvas_length", "boi_token_id", "eoi_token_id", "image_token_id", "vision_config"]


def _global_heads(text: dict[str, Any], layer_types: tuple[str, ...]) -> tuple[int, int]:
    """Key-value heads and head dimension of the global layers.

    transformers writes them either as two fields (as the release does) or, after saving, as `per_layer_config`.
    """
    overrides = text.get("per_layer_config")
    if overrides is None:
        kv_heads = text.get("num_global_key_value_heads") or text["num_key_value_heads"]
        return kv_heads, text.get("global_head_dim") or 512
    found = set()
    by_layer = {int(layer): override for layer, override in overrides.items()}  # written "5", or "05" of many layers
    for layer, kind in enumerate(layer_types):
        override = by_layer.get(layer, {})
        if kind == SLIDING and override:
            raise CheckpointError(f"config.json: per_layer_config of sliding layer {layer}, which is not supported")
        if kind == FULL:
            heads = override.get("num_key_value_heads", text["num_key_value_heads"])
            found.add((heads, override.get("head_dim", text["head_dim"])))
    if len(found) != 1:
        raise CheckpointError(f"config.json: the global layers differ in shape: {sorted(found)}")
    return found.pop()


def _rope(text: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    rope = text.get("rope_parameters") or {}
    sliding = rope.get(SLIDING) or {"rope_type": "default", "rope_theta": 1e4}
    full = rope.get(FULL) or {"rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.25}
    for kind, parameters, expected in ((SLIDING, sliding, "default"), (FULL, full, "proportional")):
        if parameters.get("rope_type", expected) != expected or parameters.get("factor", 1.0) != 1.0:
            raise CheckpointError(f"config.json: rope of {kind} must be plain {expected!r}, found {parameters}")
    return sliding, full


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises `CheckpointError` naming the file when it is absent or not one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing: is this the directory of a DiffusionGemma checkpoint?") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__}, expected an object")
    return value
