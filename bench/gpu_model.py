"""The released architecture with random weights of realistic scale, in bfloat16 or few bits, made on the device."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from gpu_timing import Work
from torch import Tensor, nn

from diffusiongemma.config import FULL, SLIDING, ModelConfig
from diffusiongemma.model.model import Model
from diffusiongemma.weights.packed import Groups, Packed
from diffusiongemma.weights.packed_modules import packed_of, put
from diffusiongemma.weights.schemes import GROUP, Scheme

IDLE_SHARE = 44 / 128  # of the experts; published: a canvas uses about 84 of 128
TINY = dict(
    vocab_size=512, hidden_size=64, intermediate_size=64, num_attention_heads=8, num_key_value_heads=4, head_dim=16,
    num_global_key_value_heads=2, global_head_dim=32, num_experts=32, top_k_experts=4, moe_intermediate_size=32,
    canvas_length=32, layer_types=(SLIDING, SLIDING, FULL), sliding_window=16, boi_token_id=5, image_token_id=6,
    eoi_token_id=7,
)  # fmt: skip


def config_of(tiny: bool, layers: int | None) -> ModelConfig:
    """The release without its vision tower, or a toy; of `layers` layers, the last one global as always."""
    config = replace(ModelConfig(), **TINY) if tiny else ModelConfig()  # type: ignore[arg-type]
    if layers is None:
        return config
    return replace(config, layer_types=(*config.layer_types[: layers - 1], FULL))


@torch.no_grad()
def random_model(
    config: ModelConfig, device: torch.device, scheme: str | None = None, dtype: torch.dtype = torch.bfloat16
) -> Model:
    """Matrices normal by fan-in, scales one, made where they stay: no float32 copy ever exists. With a scheme codes are
    random and scales such that the weights are as large."""
    torch.manual_seed(0)
    with torch.device("meta"):
        model = Model(config).to(dtype)
    if scheme is not None:
        put(model, {
            name: random_packed(kind, tuple(weight.shape), device)
            for name, weight in list(model.named_parameters())
            if (kind := Scheme(scheme).kind_of(name, weight.shape[-1])) is not None
        })  # fmt: skip
    model = model.to_empty(device=device).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
        else:
            nn.init.ones_(parameter)
    for scalar in model.buffers():
        scalar.fill_(1)
    for layer in model.backbone.layers:
        nn.init.normal_(layer.router.proj.weight)  # scores of order one
        idle = torch.randperm(config.num_experts, device=device)[: round(IDLE_SHARE * config.num_experts)]
        layer.router.proj.weight[idle] *= 0.1
    return model


def random_packed(kind: str, shape: tuple[int, ...], device: torch.device) -> Groups:
    *outer, width = shape
    std = width**-0.5
    if kind == "int4":
        codes = torch.randint(0, 256, (*outer, width // 2), dtype=torch.uint8, device=device)
        scales = torch.full((*outer, width // GROUP), std / 4.6, dtype=torch.bfloat16, device=device)
        return Groups("int4", codes, scales * torch.empty_like(scales).uniform_(0.8, 1.2), zero=8)
    scales = torch.full((*outer, 1), std / (73 if kind == "int8" else 1), device=device)
    if kind == "int8":
        return Groups("int8", torch.randint(-127, 128, shape, dtype=torch.int8, device=device), scales)
    codes = torch.empty(shape, dtype=torch.float8_e4m3fn, device=device)
    for part in codes.view(-1, width).split(2**16):
        part.copy_(torch.randn(part.shape, device=device))
    return Groups("fp8", codes, scales)


def experts_used(model: Model, work: Work) -> float:
    """Mean number of experts that a layer uses in `work`."""
    counts: list[int] = []
    fast: Any = model.backbone.fast
    if fast is not None:
        with kernel_by_kernel(model), patch("diffusiongemma.gpu.stack.choose", _counted(counts)):
            work()
        return statistics.mean(counts)
    hooks = [
        layer.router.register_forward_hook(lambda _, args, out: counts.append(out[1].unique().numel()))
        for layer in model.backbone.layers
    ]
    work()
    for hook in hooks:
        hook.remove()
    return statistics.mean(counts)


def _counted(counts: list[int]) -> Any:
    from diffusiongemma.gpu.routing import choose

    def counting(scores: Tensor, expert_scale: Tensor, k: int) -> tuple[Tensor, Tensor]:
        shares, chosen = choose(scores, expert_scale, k)
        counts.append(chosen.unique().numel())
        return shares, chosen

    return counting


@contextmanager
def kernel_by_kernel(model: Model) -> Iterator[None]:
    """Without graphs."""
    fast: Any = model.backbone.fast
    before, fast.capture = fast.capture, False
    yield
    fast.capture = before


def weights_of(model: Model) -> dict[str, Tensor | Packed]:
    return dict(model.named_parameters()) | packed_of(model)


def weight_gigabytes(model: Model) -> float:
    return sum(weight.nbytes for weight in weights_of(model).values()) / 1e9


def weights_read(model: Model, used: float) -> float:
    """Gigabytes of weights in a step in which each layer uses `used` experts, each read once."""
    experts = sum(weight.nbytes for name, weight in weights_of(model).items() if ".experts." in name)
    return weight_gigabytes(model) - (1 - used / model.config.num_experts) * experts / 1e9
