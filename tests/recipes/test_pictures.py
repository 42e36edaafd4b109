"""Pictures of sudokus and lines: of whole cells, the same from the same state, digits where they belong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recipes.nano.fonts import family, fetch, of_split, usable
from recipes.nano.pictures import CELL, Wear, draw_lines, draw_sudoku, photograph_sudoku

FONTS = sorted(Path("/usr/share/fonts").rglob("*.ttf"))
pytestmark = pytest.mark.skipif(not FONTS, reason="no fonts installed")


def test_a_sudoku_has_ink_in_its_given_cells_alone():
    puzzle = np.zeros(81, np.uint8)
    puzzle[[0, 40, 77]] = 1, 8, 5
    fonts = [path for path in FONTS if usable(path)][:4]
    for seed in range(6):
        picture = draw_sudoku(puzzle, fonts, np.random.default_rng(seed), Wear(0))
        assert picture.size == (9 * CELL, 9 * CELL)
        pixels = np.asarray(picture.convert("L"), float)
        inner = pixels.reshape(9, CELL, 9, CELL).transpose(0, 2, 1, 3)[:, :, 9:-9, 9:-9].reshape(81, -1)
        assert set(np.flatnonzero(inner.std(1) > 5)) == {0, 40, 77}


def test_pictures_depend_on_the_state_alone():
    puzzle = np.arange(81) % 10
    fonts = [path for path in FONTS if usable(path)][:4]
    made = [draw_sudoku(puzzle, fonts, np.random.default_rng(3)) for _ in range(2)]
    assert made[0].tobytes() == made[1].tobytes()


def test_photographs_have_the_size_asked_for_and_depend_on_the_state_alone():
    puzzle = np.arange(81) % 10
    fonts = [path for path in FONTS if usable(path)][:4]
    made = [photograph_sudoku(puzzle, fonts, np.random.default_rng(3), Wear(2), 300, 0.08) for _ in range(2)]
    assert made[0].size == (300, 300) and made[0].tobytes() == made[1].tobytes()


def test_an_unworn_photograph_without_margin_has_its_digits_where_they_belong():
    puzzle = np.zeros(81, np.uint8)
    puzzle[[0, 40, 77]] = 1, 8, 5
    fonts = [path for path in FONTS if usable(path)][:4]
    for seed in range(6):
        picture = photograph_sudoku(puzzle, fonts, np.random.default_rng(seed), Wear(0), 9 * CELL, 0.0)
        pixels = np.asarray(picture.convert("L"), float)
        inner = pixels.reshape(9, CELL, 9, CELL).transpose(0, 2, 1, 3)[:, :, 10:-10, 10:-10].reshape(81, -1)
        assert set(np.flatnonzero(inner.std(1) > 6)) == {0, 40, 77}


def test_lines_fill_whole_cells():
    fonts = [path for path in FONTS if usable(path)][:4]
    for seed in range(5):
        picture = draw_lines(["Bread 2.50", "Total 12.00"], fonts, np.random.default_rng(seed))
        assert picture.width % CELL == picture.height % CELL == 0


def test_families_are_whole_in_one_half():
    train, test = of_split(FONTS, "train"), of_split(FONTS, "test")
    assert not {family(path) for path in train} & {family(path) for path in test}
    assert train or test


def test_only_fonts_of_the_packages_asked_for_are_found(tmp_path):
    for package in ("fonts-a", "fonts-b"):
        (tmp_path / package / "usr").mkdir(parents=True)
        (tmp_path / package / "usr" / "one.ttf").touch()
    assert fetch(tmp_path, ["fonts-b"]) == [tmp_path / "fonts-b" / "usr" / "one.ttf"]
