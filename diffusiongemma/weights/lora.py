"""LoRA adapters: low-rank matrices beside frozen weights, put on and taken off from outside the model.

    add_lora(model, LoraConfig())            # new adapters, everything else frozen
    save_adapter(model, directory, "nano")   # PEFT's two files, see `peft_format`
    load_adapter(model, directory)           # put on a fresh model, unmerged
    merge(model) / unload(model)             # fold into the weights / take off again

W becomes W + alpha / rank · B A (Hu et al. 2021, https://arxiv.org/abs/2106.09685, section 4.1). Encoder and decoder
are one set of weights here, so one adapter serves both modes; where a file brings a different one for each mode, the
layer is kept as two views of the same weights, see `TwoModeLayer`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusiongemma.errors import CheckpointError, InputError
from diffusiongemma.kernels.experts import expert_mlp
from diffusiongemma.model.attention import Context
from diffusiongemma.model.layers import Experts
from diffusiongemma.model.model import Model
from diffusiongemma.model.rope import Rotation
from diffusiongemma.weights.checkpoint import file_name
from diffusiongemma.weights.peft_format import AdapterFile, Pair, read_adapter, write_adapter

TARGETS = {
    "attention": r"backbone\.layers\.\d+\.self_attn\.[qkvo]_proj",
    "mlp": r"backbone\.layers\.\d+\.mlp\.(gate|up|down)_proj",
    "router": r"backbone\.layers\.\d+\.router\.proj",
    "self_conditioning": r"backbone\.self_conditioning\.(gate|up|down)_proj",
}
EXPERT_TENSORS = ("gate_up_proj", "down_proj")
EXPERTS = rf"backbone\.layers\.\d+\.experts\.({'|'.join(EXPERT_TENSORS)})"
TREES = {"denoise": "model.decoder", "encode": "model.encoder.language_model"}  # mode -> transformers' module tree


@dataclass(frozen=True)
class LoraConfig:
    """What to adapt and how strongly; the defaults are the open recipe's. Raises `InputError`."""

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
            # The expert matrices are summed before they meet their input, so there is no place to drop part of it.
            raise InputError("LoRA dropout does not reach experts: give dropout=0 with experts=True")


class Lora(nn.Module):
    """The low-rank change of one weight: A [experts * rank, in], B [out, rank * experts], in PEFT's order."""

    def __init__(self, pair: Pair, trainable: bool):
        super().__init__()
        self.A, self.B = nn.Parameter(pair.A, trainable), nn.Parameter(pair.B, trainable)
        self.rank, self.alpha = pair.rank, pair.alpha

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
            A = A.view(len(weight), self.rank, -1)  # expert-major: [E, r, in]
            B = B.view(-1, self.rank, len(weight)).permute(2, 0, 1)  # rank-major: [out, r, E] -> [E, out, r]
            return torch.baddbmm(weight, B, A, alpha=self.scale)


class LoraLinear(nn.Module):
    """A linear layer, quantised or not, and its change beside it."""

    def __init__(self, base_layer: nn.Module, lora: Lora, dropout: float):
        super().__init__()
        self.base_layer, self.lora, self.dropout = base_layer, lora, nn.Dropout(dropout)

    @property
    def weight(self) -> Tensor:
        return self.base_layer.weight  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:  # [..., in] -> [..., out]
        y = self.base_layer(x)
        return (y + self.lora(self.dropout(x))).to(y.dtype)


class LoraExperts(nn.Module):
    """Routed experts with a change to one or both of their tensors.

    Each pass writes the changed tensors out (for the 26B model 1.5 GB a layer in bfloat16): merge for speed.
    """

    def __init__(self, base_layer: Experts):
        super().__init__()
        self.base_layer = base_layer
        self.gate_up_proj: Lora | None = None
        self.down_proj: Lora | None = None

    def forward(self, x: Tensor, weights: Tensor, experts: Tensor) -> Tensor:  # [N, D], [N, k], [N, k] -> [N, D]
        gate_up, down = self.base_layer.gate_up_proj, self.base_layer.down_proj
        gate_up = gate_up if self.gate_up_proj is None else self.gate_up_proj.added_to(gate_up)
        down = down if self.down_proj is None else self.down_proj.added_to(down)
        return expert_mlp(x, weights, experts, gate_up, down)


class TwoModeLayer(nn.Module):
    """A layer whose adapters differ between the modes: two views of one set of weights, each with its own adapters."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        shared = {id(tensor): tensor for tensor in (*layer.parameters(), *layer.buffers())}
        self.denoise, self.encode = layer, copy.deepcopy(layer, shared)  # type: ignore[arg-type]

    def forward(self, x: Tensor, rotation: Rotation, context: Context, encoding: bool) -> Tensor:  # [N, D] -> [N, D]
        return (self.encode if encoding else self.denoise)(x, rotation, context, encoding)


# --- putting on -----------------------------------------------------------------------------------------------------


def add_lora(model: Model, config: LoraConfig, seed: int = 0) -> list[str]:
    """Freeze `model` and give the chosen weights trainable adapters that change nothing yet -> the weights' names.

    A is uniform within 1 / sqrt(in) and B zero, as in PEFT. Raises `InputError` if the model is already adapted.
    """
    _require_plain(model)
    generator = torch.Generator().manual_seed(seed)
    wanted = "|".join([*(TARGETS[target] for target in config.targets), *([EXPERTS] if config.experts else [])])
    names = [name for name in dict.fromkeys(_places(model).values()) if re.fullmatch(wanted, name)]
    model.requires_grad_(False)
    for name in names:
        experts, out_width, in_width = _shape(model, name)
        A = torch.empty(experts * config.rank, in_width).uniform_(-1, 1, generator=generator) * in_width**-0.5
        B = torch.zeros(out_width, config.rank * experts)
        _attach(model, name, Pair(A, B, config.rank, config.alpha), config.dropout, trainable=True)
    return names


def load_adapter(model: Model, directory: Path, trainable: bool = False) -> list[str]:
    """Put a saved adapter on `model`, unmerged -> the names of the adapted weights.

    Raises `CheckpointError` naming what does not fit, with the model as it was, and `InputError` if the model is
    already adapted. Everything else is frozen; the adapter too unless `trainable`.
    """
    _require_plain(model)
    file = read_adapter(directory)
    pairs = _resolved(model, file)
    for index in _layers_that_differ(pairs):
        layers = model.backbone.layers
        layers[index] = TwoModeLayer(layers[index])
    places = _places(model)  # where the modes agree, both paths lead to one name, and to equal matrices
    by_name = {places[path]: pair for path, pair in pairs.items()}
    model.requires_grad_(False)
    for name, pair in by_name.items():
        _attach(model, name, pair, file.dropout, trainable)
    return list(by_name)


def _attach(model: Model, name: str, pair: Pair, dropout: float, trainable: bool) -> None:
    lora = Lora(Pair(*(t.to(model.device, torch.float32) for t in (pair.A, pair.B)), pair.rank, pair.alpha), trainable)
    parent, _, leaf = name.rpartition(".")
    module = model.get_submodule(parent)
    if isinstance(module, Experts):
        module = LoraExperts(module)
        model.set_submodule(parent, module)
    setattr(module, leaf, lora if isinstance(module, LoraExperts) else LoraLinear(getattr(module, leaf), lora, dropout))


# --- taking off -----------------------------------------------------------------------------------------------------


def merge(model: Model) -> None:
    """Fold the adapters into the weights: an ordinary model again, which saves as an ordinary checkpoint.

    (PEFT's own `merge_and_unload` adds the change once per module tree to weights that the trees share, twice in all.)
    Raises `InputError`, with the model as it was, where the modes' adapters differ or the weights are quantised.
    """
    for name, module in model.named_modules():
        if isinstance(module, TwoModeLayer):
            raise InputError(f"{name} has other adapters to encode than to denoise: run them unmerged")
        if isinstance(module, LoraLinear) and not isinstance(module.base_layer, nn.Linear):
            raise InputError(f"{name} is quantised: load the unquantised model and merge there")
    for module in list(model.modules()):
        if isinstance(module, LoraLinear):
            _fold(module.lora, module.base_layer, "weight")
        elif isinstance(module, LoraExperts):
            for tensor in EXPERT_TENSORS:
                _fold(getattr(module, tensor), module.base_layer, tensor)
    unload(model)


@torch.no_grad()
def _fold(lora: Lora | None, module: nn.Module, tensor: str) -> None:
    if lora is not None:
        weight = getattr(module, tensor)
        # A new tensor: the old one may be a view of the checkpoint's file.
        merged = lora.added_to(weight.float()).to(weight.dtype)
        setattr(module, tensor, nn.Parameter(merged, requires_grad=weight.requires_grad))


def unload(model: Model) -> None:
    """Take the adapters off: the model as it was before."""
    for name, module in list(model.named_modules()):
        if isinstance(module, (LoraLinear, LoraExperts)):
            model.set_submodule(name, module.base_layer)
    for index, layer in enumerate(model.backbone.layers):
        if isinstance(layer, TwoModeLayer):
            model.backbone.layers[index] = layer.denoise


def adapters(model: Model) -> dict[str, Lora]:
    """The adapters a model carries, by the name of the weight each changes."""
    return {name.removesuffix(".lora"): m for name, m in model.named_modules() if isinstance(m, Lora)}


def _require_plain(model: Model) -> None:
    if adapters(model):
        raise InputError("the model already has an adapter: call merge(model) or unload(model) first")


def _shape(model: Model, name: str) -> tuple[int, int, int]:
    """(experts, out, in) of a weight; one expert for a linear layer."""
    parent, _, leaf = name.rpartition(".")
    weight = getattr(model.get_submodule(parent), leaf)
    if isinstance(weight, Tensor):
        return tuple(weight.shape)  # type: ignore[return-value]
    return 1, weight.out_features, weight.in_features
