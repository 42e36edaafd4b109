"""A model's layers with packed weights in the places of full ones: put in from outside, as LoRA is.

Their weights are no parameters: nothing trains them, `state_dict` does not list them, and saving asks for them by name
(`packed_of`).
"""

from __future__ import annotations

from dataclasses import fields, replace

import torch
from torch import Tensor, nn

from diffusiongemma.errors import InputError
from diffusiongemma.kernels.experts import by_expert
from diffusiongemma.kernels.native import kernels
from diffusiongemma.model.backbone import Layer
from diffusiongemma.model.layers import Experts, RMSNorm, Router
from diffusiongemma.model.model import Model
from diffusiongemma.weights.packed import Packed, Plain, Rows, Stack
from diffusiongemma.weights.packed_kernels import Experts as RoundedExperts
from diffusiongemma.weights.packed_kernels import Product, bytes_in_known_layout, can_multiply, in_known_layout
from diffusiongemma.weights.packed_layer import by_kernels

EXPERT_TENSORS = ("gate_up_proj", "down_proj")
# What heads attended to has much in common, which cancels in the next product: in the embedded model rounding it to 8
# bits puts that off by up to 2.7 % where other products are off by 0.6, and takes a tenth more steps to converge.
FINE = "self_attn.o_proj"
FINE_INPUTS = 1024  # of it, at most, that are worth twice the work
COPIES = 0.7  # of the memory that is free: what copies in another layout may take


class PackedLinear(nn.Module):
    """x [N, in] -> [N, out], by the kernels for rounded activations once `multiply_in_8_bits` has set them."""

    def __init__(self, weight: Packed):
        super().__init__()
        self.packed = weight
        self.out_features, self.in_features = weight.shape
        self.rounded: Product | None = None

    def forward(self, x: Tensor) -> Tensor:
        return self.packed.product(x) if self.rounded is None else self.rounded(x)


class PackedEmbedding(nn.Module):
    """The vocabulary's rows, also as output head; computes in `dtype`."""

    def __init__(self, weight: Packed, dtype: torch.dtype):
        super().__init__()
        self.packed, self.dtype = weight, dtype
        self.rounded: Product | None = None

    def forward(self, ids: Tensor) -> Tensor:  # [N] -> [N, D]
        return self.packed[ids].unpack().to(self.dtype)

    def scores(self, hidden: Tensor) -> Tensor:  # [..., D] -> [..., V]
        if self.rounded is None:
            return self.packed.product(hidden)
        rows = hidden.flatten(0, -2).float()  # logits are read in float32, as the kernels add them up
        return self.rounded(rows).view(*hidden.shape[:-1], -1)

    def mean(self, probabilities: Tensor) -> Tensor:  # [..., V] -> [..., D]
        shares = probabilities.flatten(0, -2)
        rows = self.packed.mix(shares.to(self.dtype)) if self.rounded is None else self.rounded.mean(shares)
        return rows.to(self.dtype).view(*probabilities.shape[:-1], -1)


class PackedExperts(nn.Module):
    """Routed experts: gate_up [E, 2W, D] and down [E, D, W], either of them perhaps not packed."""

    def __init__(self, gate_up: Packed, down: Packed):
        super().__init__()
        self.gate_up, self.down = gate_up, down
        self.rounded: RoundedExperts | None = None

    def forward(self, x: Tensor, weights: Tensor, experts: Tensor) -> Tensor:  # [N, D], [N, k], [N, k] -> [N, D]
        if self.rounded is not None:
            return self.rounded(x, weights, experts)
        first, second = (lambda e, rows: self.gate_up[e].product(rows)), (lambda e, rows: self.down[e].product(rows))
        return by_expert(x, weights, experts, self.gate_up.shape[0], first, second)


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


def multiply_in_8_bits(model: nn.Module, required: bool = False) -> None:
    """Multiply packed weights with activations rounded to 8 bits, a scale for each 16 or 32 of them, from now on; by
    AMX with activations in bfloat16, but for tokens that come one by one (`kernels.native.rows_alone`). Where that is
    so of all products of the text stack, batches are no longer filled up (`kernels.rows`).

    Several times as fast on a CPU, and within about a hundredth of the product. Of weights of a layout that the kernels
    do not know, copies are multiplied that they do know, where memory allows; else these, and all on a machine without
    kernels, are unpacked as before. `required` raises `InputError` where that is so of all.
    """
    library, reason = kernels()
    if library is not None:
        _choose_products(model)
    if isinstance(model, Model) and all(_rounds_alike(*one) for one in model.backbone.named_modules()):
        model.row_multiple = 1
        for module in model.modules():
            if isinstance(module, Router):
                module.fills_rows = True
    if any(getattr(module, "rounded", None) is not None for module in model.modules()):
        if isinstance(model, Model):
            model.multiplies_packed = True
        for module in model.modules():
            if isinstance(module, RMSNorm):
                module.kernel_dtypes = {torch.bfloat16, torch.float32}
            elif isinstance(module, Router):
                module.by_kernel = True
            elif isinstance(module, Layer):
                module.by_kernels = by_kernels(module)
    elif required:
        why = "no weight is packed in a layout that they know: `quantize` makes one" if library is not None else reason
        raise InputError(f"there are no products with 8-bit activations here ({why})", option="activations", got="int8")


def _choose_products(model: nn.Module) -> None:
    from diffusiongemma.weights.fitting import free_memory  # which reads checkpoints, and these put modules in place

    unknown = [weight for module in model.modules() for weight in weights_of(module) if not can_multiply(weight)]
    room = sum(map(bytes_in_known_layout, unknown)) < COPIES * free_memory(torch.device("cpu"))
    for name, module in model.named_modules():
        weights = [
            weight if can_multiply(weight) else in_known_layout(weight) if room else None
            for weight in weights_of(module)
        ]
        known = [weight for weight in weights if weight is not None]
        if not known or len(known) < len(weights):
            continue
        if isinstance(module, PackedExperts):
            module.rounded = RoundedExperts(*known)
        elif isinstance(module, (PackedLinear, PackedEmbedding)):
            module.rounded = Product(known[0], fine=FINE in name and known[0].shape[-1] <= FINE_INPUTS)


def weights_of(module: nn.Module) -> tuple[Packed, ...]:
    """The packed weights that a module holds itself."""
    if isinstance(module, PackedExperts):
        return module.gate_up, module.down
    return (module.packed,) if isinstance(module, (PackedLinear, PackedEmbedding)) else ()


def _rounds_alike(name: str, module: nn.Module) -> bool:
    """Whether a module of the text stack rounds a row in one way in any batch; a router can see to it itself."""
    if isinstance(module, PackedExperts | PackedLinear | PackedEmbedding):
        return module.rounded is not None
    return name.endswith("router.proj") or not isinstance(module, nn.Linear | nn.Embedding | Experts)


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


def to_device(module: nn.Module, device: torch.device) -> None:
    """Move a module there, its packed weights too, in place. Their kernels are chosen anew (`multiply_in_8_bits`)."""
    module.to(device)
    for part in module.modules():
        if isinstance(part, PackedExperts):
            part.gate_up, part.down = on_device(part.gate_up, device), on_device(part.down, device)
        elif isinstance(part, (PackedLinear, PackedEmbedding)):
            part.packed = on_device(part.packed, device)


def on_device(weight: Packed, device: torch.device) -> Packed:
    """The same weight there; itself where it is there already."""
    if isinstance(weight, (Stack, Rows)):
        return replace(weight, parts=tuple(on_device(part, device) for part in weight.parts))
    tensors = {field.name: getattr(weight, field.name) for field in fields(weight)}  # type: ignore[arg-type]
    moved = {name: one.to(device) for name, one in tensors.items() if isinstance(one, Tensor)}
    return replace(weight, **moved)  # type: ignore[type-var]


def _replace(model: Model, name: str, module: nn.Module) -> None:
    owner, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(owner), leaf, module)
