"""A model's layers with packed weights in the places of full ones: put in from outside, as LoRA is.

Their weights are no parameters: nothing trains them, `state_dict` does not list them, and saving asks for them by name
(`packed_of`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffusiongemma.kernels.experts import by_expert
from diffusiongemma.kernels.gelu import gelu
from diffusiongemma.model.model import Model
from diffusiongemma.weights.packed import Packed, Plain

EXPERT_TENSORS = ("gate_up_proj", "down_proj")


class PackedLinear(nn.Module):
    """x [N, in] -> [N, out]"""

    def __init__(self, weight: Packed):
        super().__init__()
        self.packed = weight

    def forward(self, x: Tensor) -> Tensor:
        return self.packed.product(x)


class PackedEmbedding(nn.Module):
    """The vocabulary's rows, also as output head; computes in `dtype`."""

    def __init__(self, weight: Packed, dtype: torch.dtype):
        super().__init__()
        self.packed, self.dtype = weight, dtype

    def forward(self, ids: Tensor) -> Tensor:  # [N] -> [N, D]
        return self.packed[ids].unpack().to(self.dtype)

    def scores(self, hidden: Tensor) -> Tensor:  # [..., D] -> [..., V]
        return self.packed.product(hidden)

    def mean(self, probabilities: Tensor) -> Tensor:  # [..., V] -> [..., D]
        rows = self.packed.mix(probabilities.to(self.dtype).flatten(0, -2))
        return rows.view(*probabilities.shape[:-1], -1)


class PackedExperts(nn.Module):
    """Routed experts: gate_up [E, 2W, D] and down [E, D, W], either of them perhaps not packed."""

    def __init__(self, gate_up: Packed, down: Packed):
        super().__init__()
        self.gate_up, self.down = gate_up, down

    def forward(self, x: Tensor, weights: Tensor, experts: Tensor) -> Tensor:  # [N, D], [N, k], [N, k] -> [N, D]
        return by_expert(x, weights, experts, self.gate_up.shape[0], self._mlp)

    def _mlp(self, expert: int, x: Tensor) -> Tensor:
        gate, up = self.gate_up[expert].product(x).chunk(2, dim=-1)
        return self.down[expert].product(gelu(gate) * up)


def put(model: Model, weights: dict[str, Packed]) -> None:
    """Put packed weights in their places, by the names of the parameters they replace."""
    experts: dict[str, dict[str, Packed]] = {}
    for name, packed in weights.items():
        owner, _, leaf = name.rpartition(".")
        if leaf in EXPERT_TENSORS:
            experts.setdefault(owner, {})[leaf] = packed
        elif name == "backbone.embed_tokens.weight":
            model.backbone.embed_tokens = PackedEmbedding(packed, model.dtype)  # type: ignore[assignment]
        else:
            _replace(model, owner, PackedLinear(packed))
    for owner, found in experts.items():
        old = model.get_submodule(owner)
        both = [found.get(leaf) or Plain(getattr(old, leaf).detach()) for leaf in EXPERT_TENSORS]
        _replace(model, owner, PackedExperts(*both))


def can_be_packed(model: nn.Module, name: str) -> bool:
    """Whether a parameter of this name has a place for a packed weight: in the text stack's matrices."""
    if not isinstance(model, Model):
        return False
    owner, _, leaf = name.rpartition(".")
    if name == "backbone.embed_tokens.weight" or (leaf in EXPERT_TENSORS and owner.endswith(".experts")):
        return True
    return leaf == "weight" and isinstance(model.get_submodule(owner), nn.Linear)


def packed_of(model: Model) -> dict[str, Packed]:
    """The packed weights of a model, by the names of the parameters they stand for."""
    found: dict[str, Packed] = {}
    for name, module in model.named_modules():
        if isinstance(module, PackedExperts):
            found |= {f"{name}.gate_up_proj": module.gate_up, f"{name}.down_proj": module.down}
        elif isinstance(module, (PackedLinear, PackedEmbedding)):
            found[f"{name}.weight"] = module.packed
    return found


def _replace(model: Model, name: str, module: nn.Module) -> None:
    owner, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(owner), leaf, module)
