"""The text stack: one set of weights, run in either mode."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusiongemma.config import ModelConfig
from diffusiongemma.kernels.native import cap_in_place, kernels
from diffusiongemma.model.attention import Attention, Context
from diffusiongemma.model.cache import LayerCache, SequenceCache
from diffusiongemma.model.layers import Experts, GatedMLP, RMSNorm, Router, SelfConditioner
from diffusiongemma.model.rope import Rope, Rotation, moved

# So many times as long, the stream loses what a layer adds to it in rounding.
DROWNED = 2.0**48


class ByKernels(Protocol):
    """A layer's work in few calls in place of its modules: `weights.packed_layer`. It says where these can be used."""

    def projects(self, layer: Layer, x: Tensor) -> bool: ...
    def before(self, x: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]: ...
    def finishes(self, layer: Layer, x: Tensor) -> bool: ...
    def after(self, layer: Layer, x: Tensor, attended: Tensor, scalar: Tensor) -> Tensor: ...


class Layer(nn.Module):
    """Attention, then a dense MLP and routed experts side by side. Parameter names are the checkpoint's.

    What comes before and after attending is the same in both modes, and can be compiled by itself.
    """

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()

        def norm() -> RMSNorm:
            return RMSNorm(config.hidden_size, config.rms_norm_eps)

        self.self_attn = Attention(config, layer)
        self.mlp = GatedMLP(config.hidden_size, config.intermediate_size)
        self.router, self.experts = Router(config), Experts(config)
        self.input_layernorm, self.post_attention_layernorm = norm(), norm()
        self.pre_feedforward_layernorm, self.post_feedforward_layernorm_1 = norm(), norm()
        self.pre_feedforward_layernorm_2, self.post_feedforward_layernorm_2 = norm(), norm()
        self.post_feedforward_layernorm = norm()
        # The two modes share every weight but this scalar, which the checkpoint holds as two buffers.
        self.layer_scalar = nn.Buffer(torch.ones(1))
        self.encoder_layer_scalar = nn.Buffer(torch.ones(1))
        self.by_kernels: ByKernels | None = None

    def forward(self, x: Tensor, rotation: Rotation, context: Context, encoding: bool) -> Tensor:  # [N, D] -> [N, D]
        attended = context.attend(self.self_attn.layer, *self.before(x, rotation))
        return self.after(x, attended.reshape(len(x), -1), self.encoder_layer_scalar if encoding else self.layer_scalar)

    def before(self, x: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """x [N, D] -> q [N, H, head_dim], k and v [N, KV heads, head_dim]."""
        if self.by_kernels is not None and self.by_kernels.projects(self, x):
            return self.by_kernels.before(x, rotation)
        return self.self_attn.project(self.input_layernorm(x), rotation)

    def after(self, x: Tensor, attended: Tensor, scalar: Tensor) -> Tensor:
        """x [N, D], attended [N, H * head_dim] -> [N, D]."""
        if self.by_kernels is not None and self.by_kernels.finishes(self, x):
            return self.by_kernels.after(self, x, attended, scalar)
        x = self.post_attention_layernorm(self.self_attn.o_proj(attended), x)
        dense = self.post_feedforward_layernorm_1(self.mlp(self.pre_feedforward_layernorm(x)))
        routed = self.experts(self.pre_feedforward_layernorm_2(x), *self.router(x))
        x = self.post_feedforward_layernorm(self.post_feedforward_layernorm_2(routed, dense), x)
        return x * scalar


class Embedding(nn.Embedding):
    """The vocabulary's rows, which are also the output head: tied in every DiffusionGemma."""

    def __init__(self, size: int, dim: int):
        # Given a weight, nn.Embedding skips its random initialisation, which is slow to set up on the meta device.
        super().__init__(size, dim, _weight=torch.empty(size, dim))

    def scores(self, hidden: Tensor) -> Tensor:  # [..., D] -> [..., V]
        return F.linear(hidden, self.weight)

    def mean(self, probabilities: Tensor) -> Tensor:  # [..., V] -> [..., D]
        return probabilities.to(self.weight.dtype) @ self.weight


class Lead(Protocol):
    """Of other processes, each of which computes a share of the layers."""

    def passing(self, x: Tensor, context: Context, encoding: bool) -> AbstractContextManager[None]:
        """While embedded inputs x [N, D] pass through the layers here."""
        ...


class Fast(Protocol):
    """Passes by kernels for the device in place of those of the modules: `gpu.passes`."""

    def takes(self, rows: Sequence[SequenceCache]) -> bool: ...
    def denoise(
        self, rows: Sequence[SequenceCache], canvases: Sequence[Tensor], softs: Sequence[Tensor | None]
    ) -> Tensor: ...
    def encode_one(self, rows: Sequence[SequenceCache], embeddings: Sequence[Tensor]) -> Tensor: ...
    def encode(self, x: Tensor, positions: Tensor, context: Context) -> Tensor: ...
    def read(
        self, hidden: Tensor, temperature: Tensor, uniforms: Tensor, greedy: Tensor, want_soft: bool
    ) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]: ...


class Backbone(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, i) for i in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_conditioning = SelfConditioner(config)
        self.rope = Rope(config)
        self.lead: Lead | None = None
        self.fast: Fast | None = None
        self._decoding: tuple[int, float] | None = None

    @property
    def embedding_scale(self) -> Tensor:
        # Rounded to the weights' dtype, as the reference does: in bfloat16 sqrt(2816) becomes 53.0.
        weight = self.norm.weight
        assert weight is not None
        return torch.full(
            (), self.config.hidden_size**0.5, dtype=weight.dtype, device=weight.device
        )  # no copy from the host

    def embed(self, ids: Tensor) -> Tensor:  # [N] -> [N, D]
        return self.embed_tokens(ids) * self.embedding_scale

    def encode(self, x: Tensor, positions: Tensor, context: Context) -> Tensor:
        """Causal pass over embeddings x [N, D] at positions [N] -> final hidden states [N, D]."""
        return self._run(x, positions, context, encoding=True)

    def denoise(self, canvas: Tensor, soft: Tensor | None, positions: Tensor, context: Context) -> Tensor:
        """Bidirectional pass over canvas ids [N], conditioned on soft embeddings [N, D] or zeros -> [N, D]."""
        x = self.embed(canvas)
        x = self.self_conditioning(x, torch.zeros_like(x) if soft is None else soft.to(x.dtype))
        return self._run(x, positions, context, encoding=False)

    def _run(self, x: Tensor, positions: Tensor, context: Context, encoding: bool) -> Tensor:
        if self.lead is None:
            return self.through_layers(x, positions, context, encoding)
        with self.lead.passing(x, context, encoding):
            return self.through_layers(x, positions, context, encoding)

    def through_layers(self, x: Tensor, positions: Tensor, context: Context, encoding: bool) -> Tensor:
        """Embedded inputs x [N, D] at positions [N] -> final hidden states [N, D]."""
        rotations, home = self.rope(positions, x.dtype), x.device
        depth, behind = (len(self.layers), 1.0) if encoding else self.decoding
        for kind, layer, place in list(zip(self.config.layer_types, self.layers, self.places, strict=True))[:depth]:
            if place != x.device:
                x, rotations = x.to(place), moved(rotations, place)
            x = layer(x, rotations[kind], context, encoding)
        return self.norm(x.to(home) if behind == 1 else x.to(home) * behind)

    @property
    def decoding(self) -> tuple[int, float]:
        """How many layers the decoder needs, and what the scalars of the others come to.

        Layers behind one that makes its stream `DROWNED` times as long are the encoder's alone: what they add there is
        lost, and as a canvas leaves no keys and values, they can be left out.
        """
        if self._decoding is None:
            scalars = [float(layer.layer_scalar) for layer in self.layers]  # type: ignore[arg-type]
            depth = next((i + 1 for i, scalar in enumerate(scalars) if scalar >= DROWNED), len(scalars))
            self._decoding = depth, math.prod(scalars[depth:])
        return self._decoding

    @property
    def places(self) -> list[torch.device]:
        """The device of each layer; what stands outside them is on that of the vocabulary."""
        return [layer.layer_scalar.device for layer in self.layers]  # type: ignore[misc]

    def new_caches(self, eight_bits: bool) -> list[LayerCache]:
        """An empty one for each layer: of its heads, as far as it sees, on its device."""
        assert self.norm.weight is not None
        window, dtype = self.config.sliding_window - 1, self.norm.weight.dtype
        windows = [window if self.config.is_sliding(i) else None for i in range(len(self.layers))]
        by_kernel = [getattr(layer, "by_kernels", None) is not None for layer in self.layers]
        return [
            LayerCache(*self.heads(i), windows[i], dtype, place, eight_bits, by_kernel[i])
            for i, place in enumerate(self.places)
        ]

    def heads(self, layer: int) -> tuple[int, int]:
        """(key-value heads, their width) of a layer in this process."""
        attention: Attention = self.layers[layer].self_attn  # type: ignore[assignment]
        return attention.kv_heads, attention.head_dim

    @property
    def eight_bits(self) -> bool:
        """Whether the head's weights are multiplied in 8 bits by the kernels for packed weights."""
        return getattr(self.embed_tokens, "rounded", None) is not None

    @property
    def read_by_kernel(self) -> bool:
        """Whether a kernel reads the logits: of weights in 8 bits, and of bfloat16 on a CPU. Float32 stays as it is."""
        weight = self.norm.weight
        assert weight is not None
        return self.eight_bits or (
            weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and kernels()[0] is not None
        )

    def logits(self, hidden: Tensor) -> Tensor:
        """Soft-capped float32 logits [..., V] of hidden states [..., D]."""
        cap = self.config.final_logit_softcapping
        raw = self.embed_tokens.scores(hidden).float()
        if self.read_by_kernel and not raw.requires_grad:
            return cap_in_place(raw.contiguous(), cap)
        return raw.div_(cap).tanh_().mul_(cap) if not raw.requires_grad else (raw / cap).tanh() * cap

    def soft_embedding(self, probabilities: Tensor) -> Tensor:
        """Expected scaled embedding [..., D] under probabilities [..., V]."""
        return self.embed_tokens.mean(probabilities) * self.embedding_scale
