"""The vision tower's weights before training: patches as waves, and heads that look at the eight patches around.

A layer whose heads each look at one neighbour is a convolution (compare Cordonnier et al. 2020). The heads are held to
that: queries and keys read one coordinate of the stream, which is the same everywhere and which nothing writes to. So
the tower can be trained without computing attention (`seeing.Reader`), at half the work for the same digits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

AROUND = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))  # columns, rows
WAVES = 8  # a side: frequencies of a patch's brightness that are kept
_ONE = -1  # the coordinate that is the same everywhere
_SHARPNESS = 2.8  # of queries and keys: 99.8 % of the attention go where they should


@torch.no_grad()
def first_weights(tower: Any, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in tower.parameters():
        if parameter.ndim == 2:
            parameter.normal_(0, parameter.shape[-1] ** -0.5, generator=generator)
        elif parameter.ndim == 1:
            parameter.fill_(1.0)
    embedder = tower.patch_embedder
    embedder.input_proj.weight.copy_(_frequencies(tower.config.hidden_size, tower.config.patch_size))
    embedder.position_embedding_table.copy_(_places(*embedder.position_embedding_table.shape[1:]))
    for layer in tower.encoder.layers:
        layer.post_attention_layernorm.weight.fill_(0.3)  # so that patches can still be seen behind what is added
        layer.post_feedforward_layernorm.weight.fill_(0.3)
        _look_around(layer.self_attn, tower.encoder.rotary_emb.inv_freq)
    hold(tower)


@torch.no_grad()
def hold(tower: Any, patch_weights: Tensor | None = None) -> None:
    """Keep the coordinate that queries and keys read as it was, whatever training did to it.

    `patch_weights` [width, …] stand for the tower's own where others are trained.
    """
    embedder = tower.patch_embedder
    (embedder.input_proj.weight if patch_weights is None else patch_weights)[_ONE] = 0.0
    embedder.position_embedding_table[..., _ONE] = 1.0
    for layer in tower.encoder.layers:
        layer.input_layernorm.weight[_ONE] = 1.0
        layer.post_attention_layernorm.weight[_ONE] = 0.0
        layer.post_feedforward_layernorm.weight[_ONE] = 0.0


def _frequencies(width: int, side: int) -> Tensor:
    """Cosines of a patch's brightness [width, 3 * side²]: 64 of them; nothing in the rest."""
    at = (torch.arange(side) + 0.5) * torch.pi / side
    number = torch.arange(WAVES)
    waves = torch.cos(number[:, None] * at)  # [8, side]
    planes = torch.einsum("ky,lx->klyx", waves, waves)
    planes = planes / planes.flatten(2).norm(dim=2)[..., None, None] * 4 / side
    planes = planes * (0.5 + (number[:, None] + number)[..., None, None] / 2)  # fine detail is faint in pictures
    made = torch.zeros(width, side, side, 3)
    made[: WAVES**2] = planes.flatten(0, 1)[..., None] / 3
    return made.view(width, -1)


def _places(places: int, width: int) -> Tensor:
    """A table [2, places, width] for columns and rows: waves in some coordinates, and one that is always there."""
    made = torch.zeros(2, places, width)
    at = torch.arange(places)[:, None] * torch.pi / 33 * torch.tensor([0.5, 1, 2, 3, 5.5, 11])  # [places, 6]
    waves = 0.5 * torch.cat([at.cos(), at.sin()], 1)
    made[0, :, 64:76], made[1, :, 76:88] = waves, waves
    return made


def _look_around(attention: Any, frequencies: Tensor) -> None:
    """Queries and keys that meet where the key's patch is a head's `AROUND` away."""
    dim, half = attention.head_dim, attention.head_dim // 4
    linears = attention.q_proj.linear, attention.k_proj.linear
    query, key = (linear.weight.view(-1, dim, linear.in_features) for linear in linears)
    query.zero_()
    key.zero_()
    attention.q_norm.weight.fill_(_SHARPNESS)
    attention.k_norm.weight.fill_(_SHARPNESS)
    for head, offset in enumerate(AROUND):
        for axis in range(2):
            start = axis * 2 * half
            query[head, start : start + half, _ONE] = (frequencies * offset[axis]).cos()
            query[head, start + half : start + 2 * half, _ONE] = (frequencies * offset[axis]).sin()
            key[head, start : start + half, _ONE] = 1.0
