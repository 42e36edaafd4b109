"""The marks around a picture are taught alone, and nano reads and solves a board it is shown."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

import diffusiongemma as dg
from diffusiongemma.tasks import sudoku
from diffusiongemma.weights.checkpoint import load_model
from diffusiongemma.weights.locate import ASSETS
from recipes.nano import marks
from recipes.nano.__main__ import main

NANO = ASSETS / "nano"
PUZZLE = "53..7.... 6..195... .98....6. 8...6...3 4..8.3..1 7...2...6 .6....28. ...419..5 ....8..79".replace(" ", "")


def drawn(puzzle: str, side: int = 540, dark: bool = False) -> Image.Image:
    """A board as a program draws it, in the font that Pillow brings along."""
    paper, ink = ("black", "white") if dark else ("white", "black")
    image = Image.new("RGB", (side, side), paper)
    pen, cell = ImageDraw.Draw(image), side / 9
    for i in range(10):
        width = 5 if i % 3 == 0 else 2
        pen.line([(i * cell, 0), (i * cell, side)], ink, width)
        pen.line([(0, i * cell), (side, i * cell)], ink, width)
    font = ImageFont.load_default(round(0.6 * cell))
    for i, digit in enumerate(puzzle):
        if digit != ".":
            pen.text(((i % 9 + 0.5) * cell, (i // 9 + 0.5) * cell), digit, ink, font, anchor="mm")
    return image


@pytest.mark.parametrize("changes", [{}, {"side": 300}, {"dark": True}], ids=["plain", "small", "dark"])
@pytest.mark.parametrize("request_text", ["Solve this sudoku:", "Solve this sudoku."])
def test_nano_solves_a_board_that_it_is_shown(changes, request_text):
    model = dg.load("nano")
    message = {"role": "user", "content": [
        {"type": "image", "image": drawn(PUZZLE, **changes)}, {"type": "text", "text": request_text}
    ]}  # fmt: skip
    answer = model.generate([message], seed=1)
    assert sudoku.score_board(np.array([int(c) for c in PUZZLE.replace(".", "0")]), answer.text)["solved"], answer.text


def test_only_the_two_marks_are_taught(tmp_path, monkeypatch):
    monkeypatch.setattr(marks, "_seeds", lambda dirs: sudoku._small_bank().train)
    main(["marks", str(NANO), str(tmp_path / "out"), "--budget", "2", "--batch", "2"])
    config = load_model(NANO, torch.float32).config
    before, after = (load_model(path, torch.float32).state_dict() for path in (NANO, tmp_path / "out"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"backbone.embed_tokens.weight"}
    (name,) = changed
    rows = (before[name] != after[name]).any(1).nonzero()[:, 0].tolist()
    assert rows == sorted([config.boi_token_id, config.eoi_token_id])
    assert (
        dg.load(tmp_path / "out").generate("Name a bird.", seed=1).text
        == dg.load(NANO).generate("Name a bird.", seed=1).text
    )
