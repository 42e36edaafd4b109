"""Looks at a picture are the picture, moved."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffusiongemma.model.looks import LOOKS, looks_at

PATCH, ACROSS, DOWN = 4, 5, 3


def cut(picture: Tensor) -> Tensor:
    """[H, W, 3] -> patches row by row [P, 3 * PATCH²]."""
    return picture.view(DOWN, PATCH, ACROSS, PATCH, 3).permute(0, 2, 1, 3, 4).reshape(DOWN * ACROSS, -1)


@pytest.mark.parametrize("shuffled", [False, True])
def test_looks_are_of_the_picture_moved(shuffled: bool):
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(DOWN * PATCH, ACROSS * PATCH, 3, generator=generator)
    places = torch.cartesian_prod(torch.arange(DOWN), torch.arange(ACROSS)).flip(1)
    order = torch.randperm(len(places), generator=generator) if shuffled else torch.arange(len(places))
    positions = torch.cat([places[order], torch.full((2, 2), -1)])
    pixels = torch.cat([cut(picture)[order], torch.zeros(2, 3 * PATCH**2)])
    looks = looks_at(pixels, positions)
    assert torch.equal(looks[0], pixels)
    rows, columns = torch.arange(DOWN * PATCH), torch.arange(ACROSS * PATCH)
    for look, (right, down) in zip(looks, LOOKS, strict=True):
        moved = picture[(rows - down).clamp(0, len(rows) - 1)][:, (columns - right).clamp(0, len(columns) - 1)]
        assert torch.equal(look, torch.cat([cut(moved)[order], torch.zeros(2, 3 * PATCH**2)]))
