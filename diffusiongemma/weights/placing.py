"""One model on several devices: which layer lives where. Hidden states move between them, and each layer's keys and
values stay with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby

import torch

from diffusiongemma.errors import InputError

_OF_LAYER = re.compile(r"backbone\.layers\.(\d+)\.")


@dataclass(frozen=True)
class Placement:
    """The place of each layer, and of all that stands outside them (vocabulary, norms, vision), as numbers of devices.

    Called with the name of a weight it says on which device that one lives.
    """

    devices: tuple[torch.device, ...]
    layers: tuple[int, ...]
    outside: int

    def __call__(self, name: str) -> torch.device:
        layer = _OF_LAYER.match(name)
        return self.devices[self.outside if layer is None else self.layers[int(layer[1])]]

    def __str__(self) -> str:
        parts = []
        for place, numbers in groupby(range(len(self.layers)), lambda layer: self.layers[layer]):
            found = list(numbers)
            span = f"layer {found[0]}" if len(found) == 1 else f"layers {found[0]} to {found[-1]}"
            parts.append(f"{span}{' and the vocabulary' if place == self.outside else ''} on {self.devices[place]}")
        return ", ".join(parts)

    def shared_out(self, layers: Sequence[int], outside: int) -> list[int]:
        """Bytes on each device of what each layer takes and of what stands outside them."""
        taken = [outside if place == self.outside else 0 for place in range(len(self.devices))]
        for place, size in zip(self.layers, layers, strict=True):
            taken[place] += size
        return taken


def placed(
    devices: Sequence[torch.device], free: Sequence[int], layers: Sequence[int], outside: int, work: int
) -> Placement:
    """Consecutive layers for each device, and the rest where it fits best, so that the fullest device is least full.

    `free` [devices], `layers` [layers], `outside` and `work`, of which each device needs as much, are bytes; a layer's
    keys and values count to it. Raises `InputError` for more devices than layers.
    """
    if len(devices) > len(layers):
        message = f"{len(devices)} devices for {len(layers)} layers: give each at least one layer"
        raise InputError(message, option="devices")
    found = [_with_outside_on(home, free, tuple(layers), outside, work) for home in range(len(devices))]
    home = min(range(len(devices)), key=lambda one: found[one][0])
    counts = found[home][1]
    return Placement(tuple(devices), tuple(place for place, n in enumerate(counts) for _ in range(n)), home)


def _with_outside_on(
    home: int, free: Sequence[int], layers: tuple[int, ...], outside: int, work: int
) -> tuple[float, tuple[int, ...]]:
    """(how full the fullest device is, the number of layers of each device) where the rest is on device `home`."""
    fixed = [work + (outside if place == home else 0) for place in range(len(free))]

    @cache
    def best(first: int, place: int) -> tuple[float, tuple[int, ...]]:
        """Of layers `first` and up on devices `place` and up."""

        def share(end: int) -> float:
            return (fixed[place] + sum(layers[first:end])) / max(1, free[place])

        if place == len(free) - 1:
            return share(len(layers)), (len(layers) - first,)
        choices = []
        for end in range(first + 1, len(layers) - (len(free) - 1 - place) + 1):
            fullest, counts = best(end, place + 1)
            choices.append((max(share(end), fullest), (end - first, *counts)))
        return min(choices)

    return best(0, 0)
