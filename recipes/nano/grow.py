"""A larger model that begins by computing what a trained one does, or nearly: skills need not be learnt again.

With more experts (`with_experts`) it does so to the last bit wherever its routers choose none of the new ones. Made
wider (`grown`), all new entries of the residual stream are small and random, all new units of MLPs and heads are read
by nobody yet. With hidden size D' for D, the stream is sqrt(D'/D) times as long: embeddings are scaled by sqrt(D')
already, norms that write into it do the same, and norms that read from it are divided by as much (compare Net2Net,
Chen et al. 2016).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from diffusiongemma.config import ModelConfig
from diffusiongemma.model.model import Model
from diffusiongemma.train.optimisation import initialise

SMALL = 0.1  # new entries of the stream, relative to what is there
READERS = (
    "input_layernorm",
    "pre_feedforward_layernorm",
    "pre_feedforward_layernorm_2",
    "self_conditioning.pre_norm",
    "backbone.norm",
)


def grown(model: Model, seed: int = 0, **wider: Any) -> Model:
    """`model` with other numbers in its config: `hidden_size`, those of intermediate sizes, `num_attention_heads`."""
    old = model.config
    new = replace(old, **wider)
    made = Model(new)
    initialise(made, seed)
    stretch = (new.hidden_size / old.hidden_size) ** 0.5
    trained = dict(model.named_parameters()) | dict(model.named_buffers())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*made.named_parameters(), *made.named_buffers()):
            if name in trained:
                _fill(name, tensor, trained[name], old, new, stretch, generator)
    return made


def with_experts(model: Model, count: int) -> Model:
    """`model` with `count` more experts in every layer, copies of the old ones in turn; their routers are still to be
    set. The vision tower is the same."""
    old = model.config.num_experts
    made = Model(replace(model.config, num_experts=old + count), model.make_vision)
    trained = dict(model.named_parameters()) | dict(model.named_buffers())
    like = torch.arange(count) % old
    with torch.no_grad():
        for name, tensor in (*made.named_parameters(), *made.named_buffers()):
            was = trained[name]
            tensor[: len(was)] = was
            if tensor.shape != was.shape:
                tensor[old:] = was[like]
    return made


def _fill(
    name: str,
    tensor: Tensor,
    was: Tensor,
    old: ModelConfig,
    new: ModelConfig,
    stretch: float,
    generator: torch.Generator,
) -> None:
    """`was` at its places in `tensor`, what is new beside it."""
    if tensor.shape == was.shape and not _reads(name):
        tensor.copy_(was)
        return
    if tensor.ndim == 1:
        tensor.fill_(float(was.mean()))
        tensor[: len(was)] = was
        if _reads(name):
            tensor.div_(stretch)
        return
    rows, columns = _places(name, was.shape[-2], old, new), _places(name, was.shape[-1], old, new, reads=True)
    part = torch.zeros_like(tensor)
    if _into_stream(name):  # new rows write a little into the new entries, new columns are read by nobody yet
        small = torch.randn(part.shape, generator=generator) * was.float().std() * SMALL
        inner = torch.zeros(part.shape[-1], dtype=torch.bool)
        inner[columns] = True
        part += small * inner
    else:  # new rows are new units, new columns read the new entries
        part += torch.randn(part.shape, generator=generator) * was.float().std()
        outer = torch.zeros(part.shape[-2], dtype=torch.bool)
        outer[rows] = True
        inner = torch.ones(part.shape[-1], dtype=torch.bool)
        inner[columns] = False
        part[..., outer, :] = part[..., outer, :] * inner * SMALL
    block = was * stretch if name == "backbone.self_conditioning.down_proj.weight" else was
    part[..., rows[:, None], columns[None, :]] = block.to(part.dtype)
    tensor.copy_(part)


def _reads(name: str) -> bool:
    return name.endswith(tuple(f"{reader}.weight" for reader in READERS))


def _into_stream(name: str) -> bool:
    return name.endswith(("o_proj.weight", "down_proj.weight", "down_proj"))


def _places(name: str, size: int, old: ModelConfig, new: ModelConfig, reads: bool = False) -> Tensor:
    """Where the old rows (columns, with `reads`) stand: first, but for heads, which stay with their keys' head."""
    if name.endswith("gate_up_proj") and not reads:  # gates, then what they let through
        half = torch.arange(old.moe_intermediate_size)
        return torch.cat([half, half + new.moe_intermediate_size])
    heads = (name.endswith("q_proj.weight") and not reads) or (name.endswith("o_proj.weight") and reads)
    if not heads or old.num_attention_heads == new.num_attention_heads:
        return torch.arange(size)
    width = size // old.num_attention_heads
    layer = int(name.split(".")[2])
    groups = _kv_heads(old, layer)
    before, after = old.num_attention_heads // groups, new.num_attention_heads // groups
    head = torch.arange(old.num_attention_heads)
    moved = head // before * after + head % before
    return (moved[:, None] * width + torch.arange(width)).flatten()


def _kv_heads(config: ModelConfig, layer: int) -> int:
    sliding = config.layer_types[layer] == "sliding_attention"
    return config.num_key_value_heads if sliding else config.num_global_key_value_heads
