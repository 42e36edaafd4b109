"""Looks at a picture are the picture, moved, and all of them count."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from diffusiongemma.model.looks import LOOKS, looks_at
from diffusiongemma.weights.checkpoint import load_model
from diffusiongemma.weights.locate import ASSETS

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


def test_what_is_rounded_to_symbols_is_the_mean_of_all_looks():
    """A tower that sees a symbol in the first look alone, and another one in the others."""
    model = load_model(ASSETS / "nano", torch.float32)
    known = model.backbone.embed(torch.tensor([5, 6]))

    class Tower(nn.Module):
        def forward(self, pixels: Tensor, positions: Tensor) -> Tensor:
            assert pixels.shape[0] == positions.shape[0] == len(LOOKS)
            return torch.stack([known[0], *[known[1]] * (len(LOOKS) - 1)]).detach()

    model._modules["vision"] = Tower()
    model.symbols = torch.tensor([5, 6])
    seen = model.image_features(torch.rand(1, 3 * PATCH**2), torch.zeros(1, 2, dtype=torch.long))
    assert torch.equal(seen, known[1:].detach())
