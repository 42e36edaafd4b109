"""LoRA: low-rank matrices beside frozen weights, put on and taken off from outside the model.

    add_lora(model, LoraConfig())    new adapters, everything else frozen
    merge(model)                     fold them into the weights
    unload(model)                    take them off again

(`weights.adapter` saves them in PEFT's file format and loads them.) W becomes W + alpha / rank · B A, as in Hu et al.
2021, https://arxiv.org/abs/2106.09685, section 4.1. Encoder and decoder are one set of weights, so one adapter serves
both modes; where a file brings another for each mode, the layer is kept as two views, see `TwoModeLayer`.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusiongemma.errors import InputError
from diffusiongemma.kernels.experts import expert_mlp
from diffusiongemma.model.attention import Context
from diffusiongemma.model.layers import Experts
from diffusiongemma.model.model import Model
from diffusiongemma.model.rope import Rotation
from diffusiongemma.weights.packed_modules import packed_of

TARGETS = {
    "attention": r"backbone\.layers\.\d+\.self_attn\.[qkvo]_proj",
    "mlp": r"backbone\.layers\.\d+\.mlp\.(gate|up|down)_proj",
    "router": r"backbone\.layers\.\d+\.router\.proj",
    "self_conditioning": r"backbone\.self_conditioning\.(gate|up|down)_proj",
}
EXPERT_TENSORS = ("gate_up_proj", "down_proj")
EXPERTS = rf"backbone\.layers\.\d+\.experts\.({'|'.join(EXPERT_TENSORS)})"
Shape = tuple[int, int, int]  # (experts, out, in) of a weight; a linear layer counts as one expert


@dataclass(frozen=True)
class LoraConfig:
    """What to adapt and how strongly; the rank and the targets are the open recipe's. Raises `InputError`."""

    rank: int = 8
    alpha: float = 16
    dropout: float = 0.0
    targets: tuple[str, ...] = tuple(TARGETS)
    experts: bool = False

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise InputError(
                f"LoRA rank {self.rank}, alpha {self.alpha}, dropout {self.dropout}: give a rank of at least 1, "
                "an alpha above 0 and a dropout from 0 to below 1"
            )
        for target in self.targets:
            if target not in TARGETS:
                raise InputError(f"no LoRA target {target!r}: choose from {', '.join(TARGETS)}")
        if not self.targets and not self.experts:
            raise InputError(f"LoRA has nothing to adapt: choose targets from {', '.join(TARGETS)}, or experts=True")
        if self.experts and self.dropout:
            # An expert's change is added to its tensor before that meets any input: nothing to drop from.
            raise InputError("LoRA dropout does not reach experts: give dropout=0 with experts=True")


# --- the modules ----------------------------------------------------------------------------------------------------


class Lora(nn.Module):
    """The low-rank change of one weight: A [experts * rank, in], B [out, rank * experts], in PEFT's order."""

    def __init__(self, A: Tensor, B: Tensor, rank: int, alpha: float):
        super().__init__()
        self.A, self.B = nn.Parameter(A), nn.Parameter(B)
        self.rank, self.alpha = rank, alpha

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def forward(self, x: Tensor) -> Tensor:  # [..., in] -> [..., out]
        return F.linear(F.linear(x.to(self.A.dtype), self.A), self.B) * self.scale

    def added_to(self, weight: Tensor) -> Tensor:
        """weight [out, in] or [experts, out, in] with the change in it, computed in the weight's dtype."""
        with torch.autocast(weight.device.type, enabled=False):
            A, B = self.A.to(weight.dtype), self.B.to(weight.dtype)
            if weight.ndim == 2:
                return torch.addmm(weight, B, A, alpha=self.scale)
            A = A.view(len(weight), self.rank, -1)  # expert by expert -> [E, rank, in]
            B = B.view(-1, self.rank, len(weight)).permute(2, 0, 1)  # experts innermost -> [E, out, rank]
            return torch.baddbmm(weight, B, A, alpha=self.scale)


class LoraLinear(nn.Module):
    """A linear layer, quantised or not, and its change beside it."""

    def __init__(self, base_layer: nn.Module, lora: Lora, dropout: float):
        super().__init__()
        self.base_layer, self.lora, self.dropout = base_layer, lora, nn.Dropout(dropout)

    @property
    def weight(self) -> Tensor:  # transformers' vision tower asks it for its dtype
        return self.base_layer.weight  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:  # [..., in] -> [..., out]
        y = self.base_layer(x)
        return (y + self.lora(self.dropout(x))).to(y.dtype)


class LoraExperts(nn.Module):
    """Routed experts with a change to one or both of their tensors.

    Each pass writes out the changed tensors, in the 26B model 1.5 GB per layer in bfloat16: merge where speed counts.
    """

    def __init__(self, base_layer: Experts):
        super().__init__()
        self.base_layer = base_layer
        self.gate_up_proj: Lora | None = None
        self.down_proj: Lora | None = None

    def forward(self, x: Tensor, weights: Tensor, experts: Tensor) -> Tensor:  # [N, D], [N, k], [N, k] -> [N, D]
        base = self.base_layer
        gate_up = _changed(base.gate_up_proj, self.gate_up_proj)
        return expert_mlp(x, weights, experts, gate_up, _changed(base.down_proj, self.down_proj))


def _changed(weight: Tensor, lora: Lora | None) -> Tensor:
    return weight if lora is None else lora.added_to(weight)


class TwoModeLayer(nn.Module):
    """A layer whose adapters differ between the modes: two views of one set of weights, each with its own adapters."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        shared = {id(tensor): tensor for tensor in (*layer.parameters(), *layer.buffers())}
        self.denoise, self.encode = layer, copy.deepcopy(layer, shared)

    @property
    def layer_scalar(self) -> Tensor:
        return self.denoise.layer_scalar  # type: ignore[return-value]

    @property
    def self_attn(self) -> nn.Module:
        return self.denoise.self_attn  # type: ignore[return-value]

    def forward(self, x: Tensor, rotation: Rotation, context: Context, encoding: bool) -> Tensor:  # [N, D] -> [N, D]
        return (self.encode if encoding else self.denoise)(x, rotation, context, encoding)


def view_of(model: Model) -> Model:
    """Another tree of modules over the same weights, for adapters of its own beside them."""
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    for module in model.modules():
        # Weights in few bits are no parameters.
        kept = [value for value in vars(module).values() if not isinstance(value, (nn.Module, dict, set))]
        shared |= {id(value): value for value in kept}
    return copy.deepcopy(model, shared)


# --- putting on -----------------------------------------------------------------------------------------------------


def add_lora(model: Model, config: LoraConfig, seed: int = 0) -> list[str]:
    """Freeze `model` and put trainable adapters that change nothing yet on the chosen weights -> their names.

    A is uniform within 1 / sqrt(in) and B zero, as in PEFT. Raises `InputError` if the model has adapters already, or
    weights in few bits.
    """
    require_plain(model)
    require_full(model)
    generator = torch.Generator().manual_seed(seed)
    wanted = "|".join([*(TARGETS[target] for target in config.targets), *([EXPERTS] if config.experts else [])])
    chosen = {name: shape for name, shape in adaptable(model).items() if re.fullmatch(wanted, name)}
    model.requires_grad_(False)
    for name, (experts, out_width, in_width) in chosen.items():
        A = torch.empty(experts * config.rank, in_width).uniform_(-1, 1, generator=generator) * in_width**-0.5
        B = torch.zeros(out_width, config.rank * experts)
        attach(model, name, Lora(A, B, config.rank, config.alpha), config.dropout)
    return list(chosen)


def require_plain(model: Model) -> None:
    if adapters(model):
        raise InputError(
            "the model has an adapter: call merge(model) or unload(model) of diffusiongemma.weights.lora first"
        )


def require_full(model: Model) -> None:
    """Raises `InputError` for weights in few bits: they and adapters beside them can be run, not trained."""
    if packed_of(model):
        raise InputError("the model's weights are in few bits: train the full-precision model, then quantise that")


def require_whole(model: Model) -> None:
    """Raises `InputError` for a model of which other processes hold a share."""
    if model.backbone.lead is not None:
        raise InputError("other processes hold a share of this model: load it without `tensor_parallel`")


def adaptable(model: Model) -> dict[str, Shape]:
    """The weights that adapters can change, by name: linear layers, also quantised ones, and the expert tensors."""
    shapes: dict[str, Shape] = {}
    for name, module in model.named_modules():
        if isinstance(module, Experts):
            shapes |= {f"{name}.{tensor}": tuple(getattr(module, tensor).shape) for tensor in EXPERT_TENSORS}
        elif hasattr(module, "in_features") and hasattr(module, "out_features"):
            shapes[name] = (1, module.out_features, module.in_features)
    return shapes


def attach(model: Model, name: str, lora: Lora, dropout: float = 0.0) -> None:
    """Put one adapter beside the weight `name`, on its device."""
    model.backbone.fast = None  # made for the weights alone
    parent, _, leaf = name.rpartition(".")
    holder = model.get_submodule(parent)
    if isinstance(holder, Experts):
        holder = LoraExperts(holder)
        model.set_submodule(parent, holder)
    part = lora if isinstance(holder, LoraExperts) else LoraLinear(getattr(holder, leaf), lora, dropout)
    setattr(holder, leaf, part.train(model.training))
    layer = re.match(r"backbone\.layers\.(\d+)\.", name)
    lora.to(model.backbone.places[int(layer[1])] if layer else model.device)


def adapters(model: Model) -> dict[str, Lora]:
    """The adapters a model has, by the name of the weight that each changes."""
    return {name.removesuffix(".lora"): module for name, module in model.named_modules() if isinstance(module, Lora)}


# --- taking off -----------------------------------------------------------------------------------------------------


def merge(model: Model) -> None:
    """Fold the adapters into the weights: an ordinary model again, which saves as an ordinary checkpoint.

    (PEFT's `merge_and_unload` adds the change once per module tree to weights that the trees share: twice in all.)
    Raises `InputError`, with the model as it was, where the modes' adapters differ or the weights are quantised.
    """
    for name, module in model.named_modules():
        if isinstance(module, TwoModeLayer):
            raise InputError(f"{name} has different adapters to encode and to denoise: run them unmerged")
        if isinstance(module, LoraLinear) and not isinstance(module.base_layer, nn.Linear):
            raise InputError(f"{name} is quantised: merge into the unquantised model, then quantise")
    for module in list(model.modules()):
        if isinstance(module, LoraLinear):
            _fold(module.lora, module.base_layer, "weight")
        elif isinstance(module, LoraExperts):
            _fold(module.gate_up_proj, module.base_layer, "gate_up_proj")
            _fold(module.down_proj, module.base_layer, "down_proj")
    unload(model)


@torch.no_grad()
def _fold(lora: Lora | None, module: nn.Module, tensor: str) -> None:
    if lora is not None:
        weight = getattr(module, tensor)
        merged = lora.added_to(weight.float()).to(weight.dtype)
        # A new tensor: the old one may be a view of the checkpoint's file.
        setattr(module, tensor, nn.Parameter(merged, requires_grad=weight.requires_grad))


def unload(model: Model) -> None:
    """Take the adapters off: the model as it was without them."""
    model.backbone.fast = None
    for name, module in list(model.named_modules()):
        if isinstance(module, (LoraLinear, LoraExperts)):
            model.set_submodule(name, module.base_layer)
    for index, layer in enumerate(model.backbone.layers):
        if isinstance(layer, TwoModeLayer):
            model.backbone.layers[index] = layer.denoise
