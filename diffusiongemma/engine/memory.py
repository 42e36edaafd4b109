"""How much memory a request's keys and values will take, known before it runs."""

from __future__ import annotations

import ctypes
import os
from collections import defaultdict
from collections.abc import Iterator

import torch

from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.model.cache import BLOCK, entry_bytes
from diffusiongemma.model.model import ENCODE_CHUNK, Model

CPU_SHARE, GPU_SHARE = 0.5, 0.8  # of what is free once the model is loaded


def give_back() -> None:
    """Return memory that is free inside the process to the system, where the C library can (glibc).

    A step's blocks are freed in another order than they were taken, so that holes stay between what is still in use.
    """
    if os.name == "posix" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def room(config: Decoding, canvas_length: int) -> int:
    """Tokens the answer may take up in the context: canvases are denoised whole, also the last one."""
    width = 1 if config.mode == "ar" else canvas_length
    return -(-config.max_new_tokens // width) * width


def cache_bytes(model: Model, tokens: int) -> int:
    """The most bytes a sequence of `tokens` tokens takes in the caches, with what they keep spare as they grow."""
    return sum(layer_bytes(model, tokens))


def layer_bytes(model: Model, tokens: int) -> Iterator[int]:
    """`cache_bytes` of each layer."""
    config = model.config
    for layer in range(config.num_layers):
        heads, head_dim = model.backbone.heads(layer)
        held = tokens + tokens // 4
        if config.is_sliding(layer):
            held = min(held, config.sliding_window + max(ENCODE_CHUNK, config.canvas_length))
        yield 2 * heads * entry_bytes(head_dim, model.dtype, model.eight_bit_cache) * (held + BLOCK)


def cache_budget(model: Model) -> int:
    """Bytes for the caches of all layers: what is free on each device holds the share that its layers have in them."""
    budget = None
    for tokens in (1, model.config.max_position_embeddings):  # between which the shares lie at any other length
        shares: dict[torch.device, int] = defaultdict(int)
        for place, size in zip(model.backbone.places, layer_bytes(model, tokens), strict=True):
            shares[place] += size
        whole = sum(shares.values())
        for place, size in shares.items():
            room = free_bytes(place) * whole // size
            budget = room if budget is None else min(budget, room)
    assert budget is not None
    return budget


def free_bytes(device: torch.device) -> int:
    """What caches may take on a device: a share of the memory that is free now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] * GPU_SHARE)
    return int(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * CPU_SHARE)
