"""Devices that are not there: every tensor is the CPU's and computes as ever, but carries a tag that says where it is.
What mixes two tags is refused, as GPUs would refuse it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

HERE = torch.device("cpu")  # of what was made without saying where
_DEVICE = Tensor.device.__get__  # type: ignore[attr-defined]


class Mixed(RuntimeError):
    """A product of tensors on two devices."""


class Places(TorchFunctionMode):
    """While it is entered, tensors are where their tags say; `crossed` are the moves between tags, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.crossed: list[tuple[torch.device, torch.device]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func == _DEVICE:
            return place(args[0])
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        found = {place(one) for one in tensors}
        asked = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.device)]
        if len(found) > 1:
            raise Mixed(f"{func.__name__} of tensors on {sorted(map(str, found))}")
        where = asked[0] if asked else HERE if not found or func in (Tensor.cpu, Tensor.numpy) else found.pop()
        if func == Tensor.to and asked and place(args[0]) != where:
            self.crossed.append((place(args[0]), where))
            args = (args[0].clone(), *args[1:])  # another object, which can have another tag
        args, kwargs = tree_map(lambda leaf: HERE if isinstance(leaf, torch.device) else leaf, (args, kwargs))
        return tree_map(lambda leaf: put(leaf, where) if isinstance(leaf, Tensor) else leaf, func(*args, **kwargs))


def place(tensor: Tensor) -> torch.device:
    return tensor.__dict__.get("place", HERE)


def put(tensor: Tensor, where: torch.device) -> Tensor:
    tensor.__dict__["place"] = where
    return tensor


def lay(model: nn.Module, where: Any) -> None:
    """Tag the weights of a model: `where` says the device of each, by its name."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        put(tensor, where(name))
