"""What a layer of packed weights does before and after attending, in a call each for what its modules do one by one.

The modules are the plain twin: they run where a layer has a part that is not packed or an adapter beside one.
"""

from __future__ import annotations

import ctypes
from ctypes import c_float, c_int, c_int32, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor

from diffusiongemma.kernels.native import Weight, address, loaded_library, takes
from diffusiongemma.model.backbone import Layer
from diffusiongemma.model.layers import RMSNorm
from diffusiongemma.model.rope import Rotation
from diffusiongemma.weights.packed_kernels import Product

Array = ctypes.Array[Weight]


def _structure(name: str, pointers: str, longs: str, ints: str) -> type[ctypes.Structure]:
    """One of csrc/layer.h: pointers, whole numbers of 64 and of 32 bits, the norms' epsilon."""
    kinds = ((pointers, c_void_p), (longs, c_int64), (ints, c_int32), ("eps", c_float))
    return type(name, (ctypes.Structure,), {"_fields_": [(n, kind) for names, kind in kinds for n in names.split()]})


Projections = _structure("Projections", "parts input query key", "queries keys values head", "count wide")
NORMS = "post_attention pre_mlp post_mlp"
Middle = _structure(
    "Middle", f"out gate_up down {NORMS}", "width inner", "out_count gate_up_count down_count fine_out wide"
)
Routed = _structure("Routed", "gate_up down pre post last", "width", "gate_up_segments down_segments experts wide")


class PackedLayer:
    """The calls for one layer as it is now. It says of a layer whether it still is: with other parts it is not."""

    def __init__(self, layer: Layer):
        self.attention, self.others = _attention(layer), _others(layer)
        norms = [layer.input_layernorm, layer.self_attn.q_norm, layer.self_attn.k_norm, layer.post_attention_layernorm]
        norms += [layer.pre_feedforward_layernorm, layer.post_feedforward_layernorm_1]
        norms += [layer.pre_feedforward_layernorm_2, layer.post_feedforward_layernorm_2]
        norms += [layer.post_feedforward_layernorm]
        self.held: list[Any] = [_weight(norm) for norm in norms]  # what the library reads by its address
        first, query, key, *after = map(address, self.held)
        wide = {"wide": self.held[0].dtype == torch.float32, "eps": layer.input_layernorm.eps}
        self.projections: Any = self._projections(layer, first, query, key, wide) if all(self.attention[:2]) else None
        self.middle: Any = None
        if all(self.others):
            self.middle, self.routed = self._after(after, wide)

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedLayer:
        return self  # a copy of a layer has the same weights

    def _array(self, *products: Product) -> tuple[Array, int]:
        parts = [part for product in products for part in product.parts]
        self.held.append(array := (Weight * len(parts))(*parts))
        return array, len(parts)

    def _projections(self, layer: Layer, first: c_void_p, query: c_void_p, key: c_void_p, wide: Any) -> Any:
        parts, count = self._array(*filter(None, self.attention))
        outs = [0 if product is None else product.out for product in self.attention]
        pointers = (ctypes.cast(parts, c_void_p), first, query, key)
        return Projections(*pointers, *outs, layer.self_attn.head_dim, count, **wide)

    def _after(self, norms: list[c_void_p], wide: Any) -> tuple[Any, Any]:
        out, gate, up, down, experts = self.others
        arrays, counts = zip(*(self._array(*some) for some in ((out,), (gate, up), (down,))), strict=True)
        matrices = [ctypes.cast(array, c_void_p) for array in arrays]
        middle = Middle(*matrices, *norms[:3], out.out, gate.out, *counts, out.fine, **wide)
        pair = (experts.gate_up, experts.down)
        segments = [len(array) // experts.count for array in pair]
        matrices = [ctypes.cast(array, c_void_p) for array in pair]
        return middle, Routed(*matrices, *norms[3:], out.out, *segments, experts.count, **wide)

    def projects(self, layer: Layer, x: Tensor) -> bool:
        return self.projections is not None and _attention(layer) == self.attention and takes(x.dtype, x)

    def finishes(self, layer: Layer, x: Tensor) -> bool:
        return self.middle is not None and _others(layer) == self.others and takes(x.dtype, x)

    def before(self, x: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """x [N, D] -> q [N, H, head_dim], k and v [N, KV heads, head_dim]."""
        p, rows, turn = self.projections, x.float(), [part.float() for part in rotation]
        q, k, v = (torch.empty(len(x), width // p.head, p.head) for width in (p.queries, p.keys, p.keys))
        inputs = (address(rows), c_int64(len(x)), *map(address, turn))
        loaded_library().packed_project(ctypes.byref(p), *inputs, *map(address, (q, k, v)))
        return q.to(x.dtype), k.to(x.dtype), v.to(x.dtype)

    def after(self, layer: Layer, x: Tensor, attended: Tensor, scalar: Tensor) -> Tensor:
        """x [N, D], attended [N, H * head_dim] -> [N, D]."""
        rows, given, count = x.float(), attended.float().contiguous(), c_int64(len(x))
        behind, dense, out = (torch.empty_like(rows) for _ in range(3))
        addresses = map(address, (behind, dense))
        loaded_library().packed_middle(ctypes.byref(self.middle), address(given), address(rows), count, *addresses)
        shares, chosen = layer.router(behind.to(x.dtype))
        shares, chosen = shares.float().contiguous(), chosen.contiguous()
        inputs = map(address, (behind, dense, chosen, shares))
        k, by = c_int(chosen.shape[1]), c_float(float(scalar))
        loaded_library().packed_routed(ctypes.byref(self.routed), *inputs, count, k, by, address(out))
        return out.to(x.dtype)


def _attention(layer: Layer) -> tuple[Any, ...]:
    """What multiplies queries, keys and values: None for what does not exist or is no packed weight alone."""
    attention = layer.self_attn
    return tuple([getattr(part, "rounded", None) for part in (attention.q_proj, attention.k_proj, attention.v_proj)])


def _others(layer: Layer) -> tuple[Any, ...]:
    mlp = [getattr(layer.mlp, name, None) for name in ("gate_proj", "up_proj", "down_proj")]  # in shares it is another
    return tuple([getattr(part, "rounded", None) for part in (layer.self_attn.o_proj, *mlp, layer.experts)])


def _weight(norm: RMSNorm) -> Tensor:
    assert norm.weight is not None
    return norm.weight.detach().contiguous()


def by_kernels(layer: Layer) -> PackedLayer | None:
    """The calls for a layer; None where it has none, or its widths are not those of the kernels."""
    attention, norm = layer.self_attn, layer.input_layernorm.weight
    assert norm is not None
    if norm.device.type != "cpu" or norm.dtype not in (torch.float32, torch.bfloat16) or len(norm) % 16:
        return None
    if attention.head_dim % 16 or (attention.v_proj is not None and _attention(layer)[2] is None):
        return None
    return PackedLayer(layer)
