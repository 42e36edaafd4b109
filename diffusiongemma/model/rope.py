"""Rotary position embedding: plain for sliding layers, 'proportional' for global ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diffusiongemma.config import FULL, SLIDING, ModelConfig
from diffusiongemma.kernels.native import rotated, takes

Rotation = tuple[Tensor, Tensor]  # cos and sin, each [N, head_dim]


def inverse_frequencies(head_dim: int, theta: float, rotated: float = 1.0) -> Tensor:
    """[head_dim / 2] float32; with `rotated` < 1 only that share of the angles turns, the rest has frequency 0."""
    angles = int(rotated * head_dim // 2)
    # On the CPU whatever the default device: models are built on the meta device, which would leave these empty.
    turning = 1.0 / theta ** (torch.arange(0, 2 * angles, 2, dtype=torch.float32, device="cpu") / head_dim)
    return torch.cat([turning, torch.zeros(head_dim // 2 - angles, device="cpu")])


class Rope:
    """cos and sin for both kinds of layer at given absolute positions."""

    def __init__(self, config: ModelConfig):
        self.frequencies = {
            SLIDING: inverse_frequencies(config.head_dim, config.rope_theta),
            FULL: inverse_frequencies(
                config.global_head_dim, config.global_rope_theta, config.global_partial_rotary_factor
            ),
        }

    def __call__(self, positions: Tensor, dtype: torch.dtype) -> dict[str, Rotation]:  # positions [N]
        rotations = {}
        for kind, frequencies in self.frequencies.items():
            if frequencies.device != positions.device:
                frequencies = self.frequencies[kind] = frequencies.to(positions.device)
            angles = positions[:, None].float() * frequencies  # [N, head_dim / 2]
            angles = torch.cat([angles, angles], dim=-1)
            rotations[kind] = (angles.cos().to(dtype), angles.sin().to(dtype))
        return rotations


def moved(rotations: dict[str, Rotation], device: torch.device) -> dict[str, Rotation]:
    return {kind: (cos.to(device), sin.to(device)) for kind, (cos, sin) in rotations.items()}


def rotate(x: Tensor, rotation: Rotation) -> Tensor:  # [N, H, head_dim] -> [N, H, head_dim]
    if x.dtype in (torch.bfloat16, torch.float32) and takes(x.dtype, x, *rotation):
        return rotated(x, *rotation)  # to the last bit what follows
    if x.dtype == torch.float32 and takes(x.dtype, x.detach(), *rotation):
        return _Rotated.apply(x, *rotation)
    cos, sin = (part[:, None] for part in rotation)
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
    return x * cos + turned * sin


class _Rotated(torch.autograd.Function):
    """In training; the gradient turns back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return rotated(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        return rotated(grads[0].contiguous(), cos, -sin), None, None
