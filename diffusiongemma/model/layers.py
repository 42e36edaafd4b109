"""The parts every layer is made of: norms, gated MLPs, routed experts. Tokens come flat, as [N, D]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusiongemma.config import ModelConfig
from diffusiongemma.kernels.experts import expert_mlp
from diffusiongemma.kernels.gated import gated
from diffusiongemma.kernels.native import rms_norm, routed, takes
from diffusiongemma.kernels.rows import filled


class RMSNorm(nn.Module):
    """x / rms(x), computed in float32, times a learned scale unless `scale=False`; added to `behind` if it is given."""

    def __init__(self, dim: int, eps: float, scale: bool = True):
        super().__init__()
        self.dim, self.eps = dim, eps
        self.kernel_dtypes = {torch.bfloat16}  # what the kernel computes; float32 too beside products that round
        self.weight = nn.Parameter(torch.ones(dim)) if scale else None

    def forward(self, x: Tensor, behind: Tensor | None = None) -> Tensor:  # [..., dim] -> [..., dim]
        given = [t for t in (x, self.weight, behind) if t is not None]
        if x.dtype in self.kernel_dtypes and takes(x.dtype, *given):
            return rms_norm(x, self.weight, self.eps, behind)
        weight = None if self.weight is None else self.weight.float()
        normed = F.rms_norm(x.float(), (self.dim,), weight, self.eps).to(x.dtype)
        return normed if behind is None else behind + normed


class GatedMLP(nn.Module):
    def __init__(self, dim: int, width: int):
        super().__init__()
        self.gate_proj = nn.Linear(dim, width, bias=False)
        self.up_proj = nn.Linear(dim, width, bias=False)
        self.down_proj = nn.Linear(width, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # [N, D] -> [N, D]
        return self.down_proj(gated(self.gate_proj(x), self.up_proj(x)))


class Router(nn.Module):
    """Chooses top-k experts per token from the raw residual; the weights sum to one before the per-expert scale."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.top_k = config.top_k_experts
        self.fills_rows = False  # set where nobody has filled up the batch (`kernels.rows`)
        self.by_kernel = False  # set beside products that round
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps, scale=False)
        self.proj = nn.Linear(config.hidden_size, config.num_experts, bias=False)
        self.scale = nn.Parameter(torch.ones(config.hidden_size))
        self.per_expert_scale = nn.Parameter(torch.ones(config.num_experts))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # [N, D] -> ([N, k] weights, [N, k] expert ids)
        if self.by_kernel and type(self.proj) is nn.Linear:  # no adapter beside it
            weights = (self.proj.weight, self.scale, self.per_expert_scale)
            if takes(self.scale.dtype, *weights) and takes(x.dtype, x):
                return routed(x, *weights, self.top_k, self.norm.eps)
        normed = self.norm(x) * self.scale * x.shape[-1] ** -0.5
        scores = self.proj(filled(normed))[: len(x)] if self.fills_rows else self.proj(normed)  # [N, E]
        weights, experts = scores.softmax(-1, dtype=torch.float32).topk(self.top_k)
        weights = weights / weights.sum(-1, keepdim=True)
        return weights * self.per_expert_scale[experts], experts


class Experts(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        experts, dim, width = config.num_experts, config.hidden_size, config.moe_intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * width, dim))
        self.down_proj = nn.Parameter(torch.empty(experts, dim, width))

    def forward(self, x: Tensor, weights: Tensor, experts: Tensor) -> Tensor:  # [N, D], [N, k], [N, k] -> [N, D]
        return expert_mlp(x, weights, experts, self.gate_up_proj, self.down_proj)


class SelfConditioner(nn.Module):
    """Adds what the previous step predicted to the canvas embeddings (denoise only)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.pre_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_norm = RMSNorm(config.hidden_size, config.rms_norm_eps, scale=False)
        mlp = GatedMLP(config.hidden_size, config.intermediate_size)
        self.gate_proj, self.up_proj, self.down_proj = mlp.gate_proj, mlp.up_proj, mlp.down_proj

    def forward(self, embeddings: Tensor, soft: Tensor) -> Tensor:  # [N, D], [N, D] -> [N, D]
        normed = self.pre_norm(soft)
        signal = self.down_proj(gated(self.gate_proj(normed), self.up_proj(normed)))
        return self.post_norm(embeddings + signal)
