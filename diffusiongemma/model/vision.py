"""Images: transformers' vision tower, then a projection into the text stack's space."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from diffusiongemma.config import ModelConfig
from diffusiongemma.model.layers import RMSNorm


class Vision(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        from transformers import AutoConfig, AutoModel

        assert config.vision_config is not None
        raw: dict[str, Any] = dict(config.vision_config)
        tower_config = AutoConfig.for_model(raw.pop("model_type", "gemma4_vision"), **raw)
        self.tower = AutoModel.from_config(tower_config)
        width = getattr(tower_config, "output_proj_dims", tower_config.hidden_size)
        self.norm = RMSNorm(width, tower_config.rms_norm_eps, scale=False)
        self.projection = nn.Linear(width, config.hidden_size, bias=False)

    def forward(self, pixels: Tensor, positions: Tensor) -> Tensor:
        """Soft tokens [M, D] of images given as patches [B, P, 3 * patch²] at grid positions [B, P, 2] (-1: padding).

        M counts the unpadded soft tokens of all images, in order.
        """
        dtype = self.projection.weight.dtype
        tokens = self.tower(pixel_values=pixels.to(dtype), pixel_position_ids=positions).last_hidden_state
        return self.projection(self.norm(tokens))

    def restore_buffers(self) -> None:
        """Recompute the tower's unsaved rotary tables, which building on the meta device leaves empty."""
        for module in self.tower.modules():
            if type(module).__name__.endswith("RotaryEmbedding"):
                self.tower._init_weights(module)
