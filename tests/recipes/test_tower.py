"""The vision tower's recipe: cuttings show what they should, first weights look beside, a tower fits other texts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import diffusiongemma as dg
from diffusiongemma.media import image_inputs
from diffusiongemma.weights.locate import ASSETS
from recipes.nano.__main__ import main
from recipes.nano.boards_drawn import BoardsDrawn, patched, symbols_of
from recipes.nano.first_sight import hold
from recipes.nano.glyphs import Glyphs, hands
from recipes.nano.seeing import (
    PAGE,
    SOFT_TOKENS,
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
from recipes.nano.sources.pictured import COLUMNS, ROWS, SYMBOLS, squares
from recipes.nano.tower import _learn, _optimisers

NANO = ASSETS / "nano"


@pytest.fixture(scope="module")
def nano() -> dg.DiffusionGemma:
    return dg.load("nano")


@pytest.fixture(scope="module")
def glyphs() -> Glyphs:
    return Glyphs(hands(6, np.random.default_rng(0)), np.arange(6) % 3)


def noise(width: int = PAGE[1], height: int = PAGE[2]) -> Image.Image:
    return Image.effect_noise((width, height), 90).convert("RGB")


def test_a_page_is_cut_as_the_processor_cuts_it():
    picture = noise()
    image = image_inputs([picture], TOWER, SOFT_TOKENS, PAGE[1:])[0]
    count = 9 * COLUMNS * ROWS  # behind these, padding
    assert image.soft_tokens == COLUMNS * ROWS and ((image.positions >= 0).all(1) == (torch.arange(1260) < count)).all()
    grey = torch.from_numpy(np.array(picture.convert("L"))).float() / 255
    patches = patched(grey[None])[0].flatten(0, 1)
    torch.testing.assert_close(patches, image.pixels[:count].view(-1, 256, 3).mean(-1), atol=1e-6, rtol=0)


def test_the_symbols_are_those_that_the_text_model_is_taught():
    puzzle = np.random.default_rng(0).integers(0, 10, 81)
    assert (symbols_of(torch.from_numpy(puzzle)[None])[0].numpy() == squares(puzzle).flatten()).all()


def test_boards_drawn_have_ink_where_symbols_say(glyphs):
    """At full ease: no wear, so that a cell's middle has ink if a digit stands there, and a blank's is even."""
    boards = BoardsDrawn(glyphs, 0)
    boards.ease = 1.0
    patches, symbols = boards.batch(12, parts=2)
    assert patches.shape == (12, 27, 30, 256) and symbols.shape == (12, ROWS * COLUMNS)
    middles = patches[:, 1::3, 4::3].std(-1)  # the middle patch of each cell's nine
    digits = symbols.view(12, ROWS, COLUMNS)[:, -9:, -9:] > 0
    assert (middles[digits] > 0.02).float().mean() > 0.9 and (middles[~digits] < 0.02).float().mean() > 0.7
    assert (patches[:, :, :3] == 1).all()
    assert {SYMBOLS[i] for i in symbols.view(12, ROWS, COLUMNS)[..., 0].unique()} == {"\n"}


def test_boards_drawn_depend_on_the_seed_alone(glyphs):
    first, second, other = (BoardsDrawn(glyphs, seed).batch(2)[0] for seed in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_the_convolution_is_what_the_tower_computes(nano):
    """Padding, pooling and projection and all; also with weights that are not the first, as far as they are trained."""
    embeddings = symbol_embeddings(nano.network, nano.tokenizer)
    reader = Reader(new_vision(nano.network, seed=0), embeddings)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in reader.trained().items():
            scale = 0.01 if name == "brightness" else 0.1
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
        hold(reader.vision.tower, reader.brightness)
        picture = noise()
        image = image_inputs([picture], TOWER, SOFT_TOKENS, PAGE[1:])[0]
        grey = image.pixels[: 9 * ROWS * COLUMNS].view(ROWS * 3, COLUMNS * 3, 256, 3).mean(-1)
        seen = reader(grey[None])[0]
        vision = reader.exported(embeddings)
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


def test_training_lowers_the_loss_and_reaches_every_part(nano, glyphs):
    torch.manual_seed(0)
    reader = Reader(new_vision(nano.network, seed=0), symbol_embeddings(nano.network, nano.tokenizer))
    reader.requires_grad_(True)
    before = {name: p.detach().clone() for name, p in reader.trained().items()}
    batch = BoardsDrawn(glyphs, 0).batch(1)
    optimisers = _optimisers(reader, 1e-2)
    found = []
    for _ in range(8):
        found.append(float(_learn(reader, *batch)[0]))
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        hold(reader.vision.tower, reader.brightness)
    assert found[-1] < 0.8 * found[0]
    assert all(not torch.equal(p, before[name]) for name, p in reader.trained().items())


def test_a_tower_moves_to_other_text_weights(nano, tmp_path):
    """Refitted, it says of the other model's embeddings what it said of the first one's."""
    vision = new_vision(nano.network, seed=0)
    old = symbol_embeddings(nano.network, nano.tokenizer)
    project(vision, torch.randn(len(SYMBOLS), TOWER["hidden_size"], generator=torch.Generator().manual_seed(0)), old)
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
        assert model.network.symbols is not None
        model.network.symbols = None  # as it is said, before it is rounded
        patches = model.prompt([{"role": "user", "content": [{"type": "image", "image": image}]}]).images[0]
        assert patches.soft_tokens == ROWS * COLUMNS  # nearly square is made square, and laid on a page
        tokens = model.network.image_features(patches.pixels, patches.positions)
        said.append(tokens @ torch.linalg.pinv(symbol_embeddings(model.network, model.tokenizer)))
    torch.testing.assert_close(said[0], said[1], atol=0.05, rtol=0.02)  # stored in bfloat16
    assert both.config.use_bidirectional_attention is None and "sudoku-pictures" in both.skills
