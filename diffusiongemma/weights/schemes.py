"""Which weights go in how few bits: by what a weight is for, as that decides what its errors cost.

The router chooses experts and stays as it is, as do norms. Self-conditioning, and the embedding that is also the head,
meet every token at every step: they get 8 bits. Published measurements of 4 bits everywhere show up to 44 % more steps,
so the smaller file is the slower one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusiongemma.errors import InputError
from diffusiongemma.weights.packed import Groups, Packed, fp8, int8

ROLES = {  # of a weight, by the end of its name
    "experts": r"experts\.(gate_up_proj|down_proj)",
    "mlp": r"mlp\.(gate|up|down)_proj\.weight",
    "attention": r"self_attn\.[qkvo]_proj\.weight",
    "self_conditioning": r"self_conditioning\.(gate|up|down)_proj\.weight",
    "embedding": r"embed_tokens\.weight",
}
KINDS: dict[str, dict[str, str]] = {
    "int8": dict.fromkeys(ROLES, "int8"),
    "fp8": dict.fromkeys(ROLES, "fp8"),
    "int4": dict.fromkeys(ROLES, "int4") | {"self_conditioning": "int8", "embedding": "int8"},
    "mixed": dict.fromkeys(ROLES, "int8") | {"experts": "int4"},
}
GROUP = 32  # inputs that share a scale, in 4 bits
SHARES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)  # of the scale that holds the largest weight of a group


@dataclass(frozen=True)
class Scheme:
    """The kind of each role's weights, by a name of `KINDS`; roles in `keep` stay as they are. Raises `InputError`."""

    name: str
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or self.name not in KINDS:
            raise InputError(f"choose {', '.join(KINDS)}", option="scheme", got=self.name)
        for role in self.keep:
            if role not in ROLES:
                raise InputError(f"choose from {', '.join(ROLES)}", option="keep", got=role)

    def kind_of(self, name: str, width: int) -> str | None:
        """The kind of a weight, None where it stays. Rows that do not divide into groups take 8 bits for 4."""
        role = role_of(name)
        if role is None or role in self.keep:
            return None
        kind = KINDS[self.name][role]
        return "int8" if kind == "int4" and width % GROUP else kind

    def packed(self, name: str, weight: Tensor | Packed) -> Tensor | Packed:
        """`weight` in few bits, or as it is. One expert at a time is held in full precision."""
        kind = self.kind_of(name, weight.shape[-1])
        if kind is None:
            return weight
        if len(weight.shape) < 3:
            return MAKERS[kind](_full(weight))
        return stacked_groups(MAKERS[kind](_full(weight[i])) for i in range(weight.shape[0]))

    def described(self) -> dict[str, object]:
        """What `config.json` says of it."""
        kinds = {role: kind for role, kind in KINDS[self.name].items() if role not in self.keep}
        return {"scheme": self.name, "roles": kinds, "kept": ["router", "norms", *self.keep]}


def fitted_int4(weight: Tensor) -> Groups:
    """weight [out, in] in 4 bits, symmetric, each group's scale the one of a few that errs least.

    The largest weight of a group has the code -8, whatever its sign: scales may be negative. A scale below that cuts it
    off and holds the others better; the last one tried is the least squares of the codes found: 16 % less error than
    `int4`, whose own weights stay as they are.
    """
    groups = weight.float().unflatten(-1, (-1, GROUP))
    largest = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
    found = _coded(groups, largest / 7)
    for share in SHARES:
        found = _better(found, _coded(groups, -largest / 8 * share))
    codes, scales, _ = found
    fitted = (codes * groups).sum(-1, keepdim=True) / codes.square().sum(-1, keepdim=True).clamp(min=1)
    codes, scales, _ = _better(found, _coded(groups, torch.where(fitted == 0, scales, fitted)))
    whole = (codes + 8).to(torch.uint8).flatten(-2)
    return Groups("int4", whole[..., ::2] | whole[..., 1::2] << 4, scales[..., 0], zero=8)


Coded = tuple[Tensor, Tensor, Tensor]  # codes, scales in bfloat16, squares of the errors' sum


def _coded(groups: Tensor, scale: Tensor) -> Coded:
    scale = scale.to(torch.bfloat16)
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    codes = (groups / scale.float()).round_().clamp_(-8, 7)
    return codes, scale, (codes * scale.float() - groups).square_().sum(-1, keepdim=True)


def _better(one: Coded, other: Coded) -> Coded:
    """Of each group the one that errs less, the first of equals."""
    better = other[2] < one[2]
    codes, scales, errors = (torch.where(better, b, a) for a, b in zip(one, other, strict=True))
    return codes, scales, errors


MAKERS: dict[str, Callable[[Tensor], Groups]] = {"int4": fitted_int4, "int8": int8, "fp8": fp8}


def role_of(name: str) -> str | None:
    """What a weight is for, by its name here or in a release; None for what is never packed."""
    return next((role for role, ending in ROLES.items() if re.search(rf"(^|\.){ending}$", name)), None)


def stacked_groups(parts: Iterable[Groups]) -> Groups:
    """Weights [out, in] of one kind without offsets -> [n, out, in]."""
    first, *others = parts
    codes = torch.stack([first.codes, *(part.codes for part in others)])
    scales = torch.stack([first.scales, *(part.scales for part in others)])
    return Groups(first.kind, codes, scales, None, first.zero, first.factor)


def _full(weight: Tensor | Packed) -> Tensor:
    return weight.unpack() if isinstance(weight, Packed) else weight
