"""A model's text stack as kernels of this package: the same weights, a fifth of the launches, nothing that waits.

`Stack` computes whole passes from tensors alone, so that `passes` can capture them. It runs where Triton does: on an
NVIDIA GPU, and in its interpreter, where the tests compare it with the plain modules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusiongemma.gpu.attention import attend
from diffusiongemma.gpu.forms import PLAIN, Ready, after_attention, after_experts, gated, prepare
from diffusiongemma.gpu.products import Product, as_groups
from diffusiongemma.gpu.readout import look, weigh
from diffusiongemma.gpu.routing import by_expert, choose
from diffusiongemma.model.attention import Context
from diffusiongemma.model.backbone import Backbone, Embedding, Layer
from diffusiongemma.model.layers import Experts, RMSNorm
from diffusiongemma.model.rope import Rotation
from diffusiongemma.weights.packed import Rows
from diffusiongemma.weights.packed_modules import PackedEmbedding, PackedExperts, PackedLinear

Attend = Callable[[int, Tensor, int], Ready]  # layer, qkv [N, all heads of all three * head_dim], form
HEAD_DIMS = (16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Products:
    """Of a layer."""

    qkv: Product
    out: Product
    dense: Product  # gate on top of up
    dense_down: Product
    experts: Product  # likewise
    experts_down: Product


class Stack:
    """Raises `ValueError`, which says why, for a model with modules, layouts or shapes that it does not know."""

    def __init__(self, backbone: Backbone):
        self.backbone, config = backbone, backbone.config
        if backbone.lead is not None or len({*backbone.places, backbone.norm.weight.device}) > 1:  # type: ignore[union-attr]
            raise ValueError("layers on several devices")
        if not {config.heads(i)[1] for i in range(config.num_layers)} <= set(HEAD_DIMS):
            raise ValueError("heads of such a width")
        self.eps, self.top_k, self.count = config.rms_norm_eps, config.top_k_experts, config.num_experts
        self.scale = backbone.embedding_scale
        self.layers: list[Any] = list(backbone.layers)
        self.products = [_products(layer) for layer in self.layers]
        conditioner = backbone.self_conditioning
        self.conditioning = _joined([conditioner.gate_proj, conditioner.up_proj]), _single(conditioner.down_proj)
        self.head = _head(backbone.embed_tokens)

    def denoise(self, canvas: Tensor, soft: Tensor, positions: Tensor, table: Tensor, width: int) -> Tensor:
        """Canvas ids [N] of rows of `width`, soft embeddings [N, D] or zeros, positions [N], caches [layers, rows, 6]
        (`attention`) -> final hidden states [N, D]."""
        x, conditioner = self.backbone.embed_tokens(canvas) * self.scale, self.backbone.self_conditioning
        up, down = self.conditioning
        ready = prepare(soft.to(x.dtype), up.form, conditioner.pre_norm.weight, self.eps)
        x = conditioner.post_norm(x + down(gated(up(ready), down.form)))
        return self._run(x, partial(self._in_place, self.rotations(x, positions), table, width), encoding=False)

    def encode_one(self, x: Tensor, positions: Tensor, table: Tensor) -> Tensor:
        """Embedded inputs x [N, D], a token a row -> final hidden states [N, D]. The caches' lengths stay."""
        return self._run(x, partial(self._in_place, self.rotations(x, positions), table, 1), encoding=True)

    def encode(self, x: Tensor, positions: Tensor, context: Context) -> Tensor:
        """As `Backbone.encode`: tokens of any number, which attend as `context` says."""
        return self._run(x, partial(self._in_context, self.rotations(x, positions), context), encoding=True)

    def rotations(self, x: Tensor, positions: Tensor) -> list[Rotation]:
        """Of each layer."""
        by_kind = self.backbone.rope(positions, x.dtype)
        return [by_kind[kind] for kind in self.backbone.config.layer_types]

    def _run(self, x: Tensor, attend: Attend, encoding: bool) -> Tensor:
        norms: list[Any] = [layer.input_layernorm.weight for layer in self.layers]
        norms.append(self.backbone.norm.weight)
        forms = [*(products.qkv.form for products in self.products), PLAIN]
        ready = prepare(x, forms[0], norms[0], self.eps)
        for i, (layer, products) in enumerate(zip(self.layers, self.products, strict=True)):
            attended = attend(i, products.qkv(ready), products.out.form)
            scalar = layer.encoder_layer_scalar if encoding else layer.layer_scalar
            x, ready = self._after(layer, products, x, attended, scalar, norms[i + 1], forms[i + 1])
        return ready.rows

    def _in_place(
        self, rotations: list[Rotation], table: Tensor, width: int, layer: int, qkv: Tensor, form: int
    ) -> Ready:
        attention: Any = self.layers[layer].self_attn
        return attend(
            qkv, (attention.q_norm.weight, attention.k_norm.weight), rotations[layer], table[layer],
            (self.backbone.config.num_attention_heads, attention.kv_heads), attention.head_dim, width, self.eps, form,
        )  # fmt: skip

    def _in_context(
        self, rotations: list[Rotation], context: Context, layer: int, qkv: Tensor, form: int
    ) -> Ready:  # fmt: skip
        attention: Any = self.layers[layer].self_attn
        q, *kv = qkv.view(len(qkv), -1, attention.head_dim).split(
            [self.backbone.config.num_attention_heads, attention.kv_heads, attention.kv_heads]
            [: 2 if attention.v_proj is None else 3], dim=1,
        )  # fmt: skip
        attended = context.attend(layer, *attention.normed(q, kv[0], kv[-1], rotations[layer]))
        return prepare(attended.reshape(len(qkv), -1), form)

    def _after(
        self, layer: Any, products: Products, x: Tensor, attended: Ready, scalar: Tensor, norm: Tensor, form: int
    ) -> tuple[Tensor, Ready]:
        before = (
            layer.post_attention_layernorm.weight, layer.pre_feedforward_layernorm.weight,
            layer.pre_feedforward_layernorm_2.weight, layer.router.scale,
        )  # fmt: skip
        x, to_dense, to_routed, seen = after_attention(
            x, products.out(attended), before, self.eps, products.dense.form, products.experts.form
        )
        scores = F.linear(seen, layer.router.proj.weight)
        shares, chosen = choose(scores, layer.router.per_expert_scale, self.top_k)
        order, starts = by_expert(chosen, self.count)
        hidden = products.experts.of_experts(to_routed, order, starts, gather=self.top_k)
        parts = products.experts_down.of_experts(
            gated(hidden, products.experts_down.form), order, starts, scatter=True
        )  # [N * k, D]
        dense = products.dense_down(gated(products.dense(to_dense), products.dense_down.form))
        after = (
            layer.post_feedforward_layernorm_1.weight, layer.post_feedforward_layernorm_2.weight,
            layer.post_feedforward_layernorm.weight,
        )  # fmt: skip
        return after_experts(x, dense, parts.view(len(x), self.top_k, -1), shares, after, scalar, norm, self.eps, form)

    def read(
        self, hidden: Tensor, temperatures: Tensor, uniforms: Tensor, greedy: Tensor, want_soft: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """hidden [N, D], temperatures, uniforms and greedy [N] -> argmax [N], the drawn token [N], float32 [5, N] whose
        first are entropy and the log-probabilities of the two, and the soft embedding [N, D] or [N, 0]."""
        cap = self.backbone.config.final_logit_softcapping
        logits = self.head(prepare(hidden, self.head.form))
        argmax, drawn, numbers = look(logits, temperatures, uniforms, greedy, cap)
        if not want_soft:
            return argmax, drawn, numbers, hidden[:, :0]
        shares = weigh(logits, temperatures, numbers, cap)
        embeddings = self.backbone.embed_tokens
        if isinstance(embeddings, Embedding):
            soft = shares @ embeddings.weight
        else:
            soft = self.head.mean(shares).to(hidden.dtype)
        return argmax, drawn, numbers, soft * self.scale


# --- the weights of the modules -------------------------------------------------------------------------------------


def _products(layer: Layer) -> Products:
    attention, mlp, experts = layer.self_attn, layer.mlp, layer.experts
    values = [] if attention.v_proj is None else [attention.v_proj]
    _plain(layer.router.proj)
    for module in layer.modules():
        if isinstance(module, RMSNorm) and module.eps != layer.input_layernorm.eps:
            raise ValueError("norms of several eps")
    return Products(
        _joined([attention.q_proj, attention.k_proj, *values]), _single(attention.o_proj),
        _joined([mlp.gate_proj, mlp.up_proj]), _single(mlp.down_proj), *_of_experts(experts),
    )  # fmt: skip


def _plain(module: nn.Module) -> Tensor:
    if type(module) is not nn.Linear or module.bias is not None:
        raise ValueError(f"a {type(module).__name__}")
    return module.weight


def _single(module: nn.Module) -> Product:
    if isinstance(module, PackedLinear):
        module.packed = as_groups(module.packed)
        return Product(module.packed)
    return Product(_plain(module).detach())


def _joined(modules: Sequence[Any]) -> Product:
    """Matrices of the same inputs as one; the modules keep views of it."""
    sizes = [module.out_features for module in modules]
    if all(isinstance(module, PackedLinear) for module in modules):
        whole = as_groups(Rows(tuple(module.packed for module in modules)))
        first = 0
        for module, size in zip(modules, sizes, strict=True):
            module.packed = whole[first : first + size]
            first += size
        return Product(whole)
    weight = torch.cat([_plain(module).detach() for module in modules])
    for module, part in zip(modules, weight.split(sizes), strict=True):
        module.weight.data = part
    return Product(weight)


def _of_experts(module: nn.Module) -> tuple[Product, Product]:
    if isinstance(module, PackedExperts):
        module.gate_up, module.down = as_groups(module.gate_up), as_groups(module.down)
        return Product(module.gate_up), Product(module.down)
    if type(module) is not Experts:
        raise ValueError(f"a {type(module).__name__}")
    return Product(module.gate_up_proj.detach()), Product(module.down_proj.detach())


def _head(module: nn.Module) -> Product:
    if isinstance(module, PackedEmbedding):
        module.packed = as_groups(module.packed)
        product = Product(module.packed)
        if not product.can_mix:
            raise ValueError("an embedding of this layout")
        return product
    if not isinstance(module, Embedding):
        raise ValueError(f"a {type(module).__name__}")
    return Product(module.weight.detach())
