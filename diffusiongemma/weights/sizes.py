"""How many bytes the parts of a model take, told without loading it: by its configuration, or by its files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from diffusiongemma.config import ModelConfig
from diffusiongemma.model.model import ENCODE_CHUNK, Model
from diffusiongemma.weights.checkpoint import VISION, Tensors
from diffusiongemma.weights.schemes import GROUP, Scheme

PROCESS = 400 * 10**6  # Python, torch and what else a process is made of
_LAYER = re.compile(r"(?:^|\.)(?:layers|blk)\.(\d+)\.")


@dataclass(frozen=True)
class Sizes:
    """Bytes of each layer of the text stack, and of all that stands outside them."""

    layers: tuple[int, ...]
    outside: int

    @property
    def total(self) -> int:
        return sum(self.layers) + self.outside

    def with_outside(self, more: int) -> Sizes:
        return Sizes(self.layers, self.outside + more)

    def split(self, processes: int) -> Sizes:
        """A process's share of the layers, and all else."""
        return Sizes(tuple(-(-size // processes) for size in self.layers), self.outside)

    def scaled(self, total: int) -> Sizes:
        """The same proportions of another total."""
        factor = total / self.total
        layers = tuple(round(size * factor) for size in self.layers)
        return Sizes(layers, total - sum(layers))


def text_sizes(config: ModelConfig, scheme: Scheme | None, size: int = 2) -> Sizes:
    """The text stack's weights in a scheme, what it leaves as it is in `size` bytes each."""
    with torch.device("meta"):
        model = Model(config, lambda _: torch.nn.Module())

    def nbytes(name: str, weight: torch.Tensor) -> int:
        width = weight.shape[-1]
        rows = weight.numel() // width
        kind = scheme.kind_of(name, width) if scheme else None
        if kind is None:
            return weight.numel() * size
        return weight.numel() // 2 + rows * width // GROUP * 2 if kind == "int4" else rows * (width + 4)

    return _by_layer(((name, nbytes(name, weight)) for name, weight in model.state_dict().items()), config.num_layers)


def weight_sizes(config: ModelConfig, tensors: Tensors, scheme: Scheme | None = None, size: int | None = None) -> Sizes:
    """An open checkpoint's tensors, the vision tower outside the layers: as they lie in its files, or put in a scheme,
    or in numbers of `size` bytes while loading."""
    stored = tensors.stored()
    vision = sum(nbytes for name, nbytes in stored.items() if name.startswith(VISION))
    if scheme is None and size is None:
        text = _by_layer(((n, s) for n, s in stored.items() if not n.startswith(VISION)), config.num_layers)
    else:
        text = text_sizes(config, scheme, size or 2)
    return text.with_outside(vision)


def _by_layer(named: Iterable[tuple[str, int]], count: int) -> Sizes:
    layers, outside = [0] * count, 0
    for name, size in named:
        layer = _LAYER.search(name)
        if layer is not None and int(layer[1]) < count:
            layers[int(layer[1])] += size
        else:
            outside += size
    return Sizes(tuple(layers), outside)


def cache_sizes(config: ModelConfig, tokens: int, size: int = 2, processes: int = 1) -> tuple[int, ...]:
    """Keys and values of a sequence, and of its canvas, layer by layer, in numbers of `size` bytes: those of one of the
    processes over which the heads are split."""
    found = []
    for layer in range(config.num_layers):
        heads, width = config.heads(layer)
        held = min(tokens, config.sliding_window) if config.is_sliding(layer) else tokens
        found.append(2 * max(1, heads // processes) * width * size * (held + config.canvas_length))
    return tuple(found)


def work_bytes(config: ModelConfig) -> int:
    """The process, and what a chunk of a prompt passes through, in float32."""
    expert = config.top_k_experts * (3 * config.moe_intermediate_size + config.hidden_size)
    a_token = 6 * config.hidden_size + 3 * config.intermediate_size + expert
    return PROCESS + 4 * ENCODE_CHUNK * a_token
