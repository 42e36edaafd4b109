"""The vision tower's recipe: cuttings show what they should, first weights look beside, a tower fits other texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import diffusiongemma as dg
from diffusiongemma.media import image_inputs
from diffusiongemma.weights.locate import ASSETS
from recipes.nano.__main__ import main
from recipes.nano.boards_shown import BoardsShown, patched, symbols_of
from recipes.nano.first_sight import hold
from recipes.nano.fonts import usable
from recipes.nano.seeing import (
    SOFT_TOKENS,
    SYMBOLS,
    TOWER,
    Reader,
    losses,
    new_vision,
    project,
    readout_of,
    symbol_embeddings,
    with_tower,
    write,
)
from recipes.nano.sources.pictured import SQUARES, squares
from recipes.nano.tower import _learn, _optimisers

FONTS = [path for path in sorted(Path("/usr/share/fonts").rglob("*.ttf")) if usable(path)][:3]
NANO = ASSETS / "nano"
needs_fonts = pytest.mark.skipif(not FONTS, reason="no fonts installed")


@pytest.fixture(scope="module")
def nano() -> dg.DiffusionGemma:
    return dg.load("nano")


def noise(width: int = 528, height: int = 528) -> Image.Image:
    return Image.effect_noise((width, height), 90).convert("RGB")


def test_a_square_picture_is_cut_as_the_processor_cuts_it():
    picture = noise()
    image = image_inputs([picture], TOWER, SOFT_TOKENS)[0]
    assert image.soft_tokens == SQUARES**2
    real = image.positions[:, 0] >= 0
    torch.testing.assert_close(patched(picture).flatten(0, 1), image.pixels[real], atol=1e-6, rtol=0)


def test_the_symbols_are_those_that_the_text_model_is_taught():
    puzzle = np.random.default_rng(0).integers(0, 10, 81)
    assert [SYMBOLS[i] for i in symbols_of(puzzle)] == squares(puzzle)


@needs_fonts
def test_boards_are_shown_several_times_each():
    boards = BoardsShown(FONTS, np.random.default_rng(0), lambda patches: patches.mean(-1, keepdim=True), uses=3)
    boards.batch(64)
    waves, symbols = boards.batch(30)
    assert waves.shape == (30, 33, 33, 1) and symbols.shape == (30, SQUARES**2)
    assert len(boards._kept) == 64 + 10


def test_the_convolution_is_what_the_tower_computes(nano):
    """Padding, pooling and projection and all; also with weights that are not the first, as far as they are trained."""
    vision = new_vision(nano.network, seed=0)
    embeddings = symbol_embeddings(nano.network, nano.tokenizer)
    reader = Reader(vision, embeddings)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in reader.trained().values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        hold(vision.tower)
        picture = noise()
        seen = reader(reader.waves(patched(picture))[None])[0]
        project(vision, reader.readout, embeddings)
        image = image_inputs([picture], TOWER, SOFT_TOKENS)[0]
        tokens = vision(image.pixels[None], image.positions[None])
    assert (tokens - seen @ embeddings).norm() < 0.01 * tokens.norm()
    torch.testing.assert_close(readout_of(vision, embeddings), reader.readout.detach(), atol=1e-4, rtol=1e-3)


def test_losses_count_by_weight():
    symbols = torch.tensor([[0, 3]])
    seen = torch.zeros(1, 2, len(SYMBOLS))
    seen[0, 0, 0] = 1.0
    entropy, error = losses(seen, symbols, torch.tensor([[1.0, 0.0]]))
    assert error == 0 and entropy < 0.01
    assert losses(seen, symbols, torch.tensor([[1.0, 1.0]]))[1] == 0.5


@needs_fonts
def test_training_lowers_the_loss_and_reaches_every_part(nano):
    torch.manual_seed(0)
    reader = Reader(new_vision(nano.network, seed=0), symbol_embeddings(nano.network, nano.tokenizer))
    reader.requires_grad_(True)
    before = {name: p.detach().clone() for name, p in reader.trained().items()}
    boards = BoardsShown(FONTS, np.random.default_rng(0), reader.waves)
    batch = boards.batch(1)
    optimisers = _optimisers(reader, 1e-2)
    found = []
    for _ in range(8):
        found.append(_learn(reader, *batch)[0])
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        hold(reader.tower)
    assert found[-1] < 0.8 * found[0]
    assert all(not torch.equal(p, before[name]) for name, p in reader.trained().items())


def test_a_tower_moves_to_other_text_weights(nano, tmp_path):
    """Refitted, it says of the other model's embeddings what it said of the first one's."""
    vision = new_vision(nano.network, seed=0)
    old = symbol_embeddings(nano.network, nano.tokenizer)
    project(vision, torch.randn(10, TOWER["hidden_size"], generator=torch.Generator().manual_seed(0)), old)
    write(with_tower(nano.network, vision), NANO, tmp_path / "seeing")
    other = dg.load("nano").network
    with torch.no_grad():
        other.backbone.embed_tokens.weight.mul_(torch.linspace(0.5, 2, other.config.hidden_size))
    write(with_tower(other, new_vision(other, seed=1)), NANO, tmp_path / "other")
    main(["refit", str(tmp_path / "other"), str(tmp_path / "seeing"), str(tmp_path / "both")])
    first, both = dg.load(tmp_path / "seeing"), dg.load(tmp_path / "both")
    image = noise(300, 280)
    said = []
    for model in (first, both):
        patches = model.prompt([{"role": "user", "content": [{"type": "image", "image": image}]}]).images[0]
        assert patches.soft_tokens == SQUARES**2  # nearly square is made square
        tokens = model.network.image_features(patches.pixels, patches.positions)
        said.append(tokens @ torch.linalg.pinv(symbol_embeddings(model.network, model.tokenizer)))
    torch.testing.assert_close(said[0], said[1], atol=0.05, rtol=0.02)  # stored in bfloat16
    assert both.config.use_bidirectional_attention is None and "sudoku-pictures" in both.skills
