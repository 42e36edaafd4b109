"""One process's share of each layer: some of the attention heads, and a part of the width of the MLP and all experts.

As in Megatron-LM (Shoeybi et al. 2019, https://arxiv.org/abs/1909.08053, section 3): what makes heads and widths is cut
by its rows, what brings them together by its columns, and the processes' parts of that last product are added up.
Norms, the router and all that stands outside the layers are whole in each process.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffusiongemma.config import ModelConfig
from diffusiongemma.errors import InputError
from diffusiongemma.model.attention import Attention
from diffusiongemma.model.backbone import Layer
from diffusiongemma.model.layers import Experts, GatedMLP
from diffusiongemma.model.model import Model
from diffusiongemma.parallel.group import Processes
from diffusiongemma.weights.cutting import cut
from diffusiongemma.weights.packed import Rows
from diffusiongemma.weights.packed_modules import PackedExperts, PackedLinear


class Summed(nn.Module):
    """A part of a layer whose outputs are added up over all processes."""

    def __init__(self, part: nn.Module, processes: Processes):
        super().__init__()
        self.part, self.processes = part, processes

    def forward(self, *inputs: Tensor) -> Tensor:
        share: Tensor = self.part(*inputs)
        self.processes.add_up(share)
        return share


def check_divisible(config: ModelConfig, processes: int) -> None:
    """Raises `InputError` where the heads or a width cannot be shared out evenly.

    Fewer key-value heads than processes are no hindrance: each process keeps the one that its heads read.
    """
    widths = {
        "attention heads": config.num_attention_heads,
        "columns of the MLP": config.intermediate_size,
        "columns of an expert": config.moe_intermediate_size,
    }
    for what, width in widths.items():
        if width % processes:
            message = f"{width} {what} cannot be shared out evenly: give a divisor of it"
            raise InputError(message, option="tensor_parallel", got=processes)
    for layer in range(config.num_layers):
        heads = config.heads(layer)[0]
        if heads % processes and processes % heads:
            message = f"{heads} key-value heads cannot be shared out evenly: give a divisor or a multiple of it"
            raise InputError(message, option="tensor_parallel", got=processes)


@torch.no_grad()
def shard(model: Model, processes: Processes) -> None:
    """Keep this process's share of each layer, in place; the rest of the weights is let go.

    Packed weights are cut as they lie. Raises `InputError` where that would cut through a group with one scale.
    """
    mine = (processes.rank, processes.count)
    for layer in model.backbone.layers:
        assert isinstance(layer, Layer)
        _cut_attention(layer.self_attn, *mine)
        _cut_mlp(layer.mlp, *mine)
        _cut_experts(layer.experts, *mine)
        layer.self_attn.o_proj = Summed(layer.self_attn.o_proj, processes)  # type: ignore[assignment]
        layer.mlp = Summed(layer.mlp, processes)  # type: ignore[assignment]
        layer.experts = Summed(layer.experts, processes)  # type: ignore[assignment]


def _cut_attention(attention: Attention, rank: int, processes: int) -> None:
    """Query heads by turns; key-value heads too, or the one that all query heads here read."""
    dim = attention.head_dim
    mine = _share(attention.q_proj.out_features, rank, processes)
    kept = max(1, attention.kv_heads // processes)
    first = rank * attention.kv_heads // processes
    heads = slice(first * dim, (first + kept) * dim)
    _keep(attention.q_proj, rows=mine)
    for projection in (attention.k_proj, attention.v_proj):
        if projection is not None:
            _keep(projection, rows=heads)
    _keep(attention.o_proj, columns=mine)
    attention.kv_heads = kept


def _cut_mlp(mlp: GatedMLP, rank: int, processes: int) -> None:
    mine = _share(mlp.down_proj.in_features, rank, processes)
    _keep(mlp.gate_proj, rows=mine)
    _keep(mlp.up_proj, rows=mine)
    _keep(mlp.down_proj, columns=mine)


def _cut_experts(experts: nn.Module, rank: int, processes: int) -> None:
    if isinstance(experts, PackedExperts):
        width = experts.down.shape[-1]
        mine = _share(width, rank, processes)
        gate, up = mine, slice(width + mine.start, width + mine.stop)
        experts.gate_up = Rows((cut(experts.gate_up, rows=gate), cut(experts.gate_up, rows=up)))
        experts.down = cut(experts.down, columns=mine)
        return
    assert isinstance(experts, Experts)
    mine = _share(experts.down_proj.shape[-1], rank, processes)
    gate_up = experts.gate_up_proj.chunk(2, dim=1)  # each [E, W, D]
    experts.gate_up_proj = _frozen(torch.cat([part[:, mine] for part in gate_up], dim=1))
    experts.down_proj = _frozen(experts.down_proj[..., mine])


def _share(width: int, rank: int, processes: int) -> slice:
    return slice(rank * width // processes, (rank + 1) * width // processes)


def _keep(linear: nn.Module, rows: slice = slice(None), columns: slice = slice(None)) -> None:
    if isinstance(linear, PackedLinear):
        linear.packed = cut(linear.packed, rows, columns)
        linear.out_features, linear.in_features = linear.packed.shape
        return
    assert isinstance(linear, nn.Linear)
    linear.weight = _frozen(linear.weight[rows, columns])
    linear.out_features, linear.in_features = linear.weight.shape


def _frozen(weight: Tensor) -> nn.Parameter:
    """A copy, so that the whole weight, or the mapping of its file, is not held by it."""
    return nn.Parameter(weight.clone(memory_format=torch.contiguous_format), requires_grad=False)
