"""The blocks of `gpu.products`, measured: what each product takes with each of a few, and the fastest put in use."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from gpu_timing import Clock

from diffusiongemma.gpu.forms import Ready, prepare
from diffusiongemma.gpu.products import TILES, Product, Tile
from diffusiongemma.gpu.routing import by_expert

CANDIDATES = {  # by kind and whether there are more than a few tokens: outputs, tokens, inputs, warps, stages
    ("plain", True): [(128, 32, 64, 4, 4), (64, 32, 64, 4, 5), (64, 32, 128, 4, 4), (128, 64, 64, 8, 4)],
    ("plain", False): [(64, 16, 128, 4, 4), (128, 16, 64, 4, 4), (64, 16, 64, 4, 6)],
    ("fp8 by fp8", True): [(128, 32, 128, 4, 4), (64, 32, 128, 4, 5), (64, 32, 256, 4, 4), (128, 64, 128, 8, 4)],
    ("fp8 by fp8", False): [(64, 16, 128, 4, 5), (128, 16, 128, 4, 4), (64, 16, 256, 4, 4)],
    ("int4", True): [
        (128, 32, 32, 4, 4), (64, 32, 64, 4, 4), (128, 32, 64, 8, 4), (64, 64, 64, 4, 3), (128, 64, 64, 8, 3),
    ],
    ("int4", False): [(64, 16, 64, 4, 4), (64, 16, 128, 4, 4), (128, 16, 64, 4, 4)],
    ("int8", True): [(128, 128, 64, 8, 3), (128, 256, 64, 8, 3), (128, 128, 128, 8, 3), (256, 128, 64, 8, 3)],
    ("int8", False): [(64, 16, 128, 4, 4), (128, 16, 128, 4, 4), (64, 16, 256, 4, 4)],
}  # fmt: skip
LAYERS = 8  # measured one after the other, so that no weight is in the cache


def tuned(model: Any, limit: int, clock: Clock) -> Iterator[dict[str, Any]]:
    """Figures of each kind of product of a model with kernels, with at most `limit` blocks each."""
    stack = model.backbone.fast.stack
    layers = stack.products[:LAYERS]
    for tokens in (model.config.canvas_length, 1):
        routed, few = _routed(model, tokens), tokens == 1
        works = [_of_experts(getattr(p, name), name, *routed) for p in layers for name in ("experts", "experts_down")]
        yield _best("experts", works, few, limit, clock)
        if layers[0].qkv.kind not in ("plain", "fp8"):  # torch multiplies those
            names = ("qkv", "out", "dense", "dense_down")
            works = [_of_rows(getattr(p, name), tokens) for p in layers for name in names]
            yield _best("matrices", works, few, limit, clock)
            yield _best("head", [_of_rows(stack.head, tokens)], few, limit, clock)


Work = tuple[Product, Callable[[], Any]]


def _routed(model: Any, tokens: int) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Slots sorted by expert, of tokens that use two experts in three."""
    count, k = model.config.num_experts, model.config.top_k_experts
    chosen = torch.rand(tokens, max(k, 2 * count // 3), device=model.device).topk(k).indices
    return (*by_expert(chosen.int(), count), k)


def _of_experts(product: Product, name: str, order: torch.Tensor, starts: torch.Tensor, k: int) -> Work:
    gather = k if name == "experts" else 0
    rows = _rows(product, len(order) // (gather or 1))
    return product, lambda: product.of_experts(rows, order, starts, gather=gather, scatter=not gather)


def _of_rows(product: Product, tokens: int) -> Work:
    rows = _rows(product, tokens)
    return product, lambda: product(rows)


def _rows(product: Product, count: int) -> Ready:
    x = torch.randn(count, product.width, device=product.codes.device)
    return prepare(x if x.device.type == "cpu" else x.bfloat16(), product.form)


def _best(name: str, works: list[Work], few: bool, limit: int, clock: Clock) -> dict[str, Any]:
    product = works[0][0]
    kind = "fp8 by fp8" if product.eight_bits else product.kind
    key, times = (kind, bool(product.outer), not few), {}
    for numbers in CANDIDATES[kind, not few][:limit]:
        TILES[key] = Tile(*numbers)
        times[" ".join(map(str, numbers))] = _milliseconds(works, clock)
    best = min(times, key=lambda tile: times[tile])
    TILES[key] = Tile(*map(int, best.split()))
    gigabytes = sum(product.codes.nbytes for product, _ in works) / len(works) / 1e9
    return {"products": name, "key": str(key), "best": best, "gb_each": gigabytes, "ms_each": times}


def _milliseconds(works: list[Work], clock: Clock) -> float:
    """Of a product, on average; infinite where the device has not the memory on the chip."""
    try:
        works[0][1]()
        times = []
        for _ in range(2):
            start = clock.mark()
            for _, work in works:
                work()
            times.append(clock.milliseconds(start, clock.mark()))
        return min(times) / len(works)
    except Exception as error:
        if type(error).__name__ != "OutOfResources":
            raise
        return math.inf
