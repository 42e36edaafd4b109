"""Pictures to read: sudokus and printed lines, in many fonts, on tinted paper, turned, blurred and noisy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from diffusiongemma.tasks.example import chance, choose
from recipes.nano.fonts import sized

CELL = 48  # pixels: a soft token of patch 16 and pool 3
Rng = np.random.Generator
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Wear:
    """How far a picture may be from a clean print: 0 not at all, 1 mild, 2 strong."""

    level: float = 1.0

    def apply(self, picture: Image.Image, paper: Colour, rng: Rng) -> Image.Image:
        """Turned by up to two degrees a level, and soiled; of the same size."""
        if self.level and chance(rng, 0.6):
            angle = float(rng.normal(0, 0.7 * self.level))
            picture = picture.rotate(angle, Image.Resampling.BICUBIC, fillcolor=paper)
        return self.soil(picture, rng)

    def soil(self, picture: Image.Image, rng: Rng) -> Image.Image:
        """Out of focus, unevenly lit, noisy; of the same size."""
        if not self.level:
            return picture
        if chance(rng, 0.5):
            picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.2, 0.8) * self.level)))
        pixels = np.asarray(picture, np.float32)
        if chance(rng, 0.5):
            pixels = pixels * _light(pixels.shape[:2], rng, 0.15 * self.level)
        if chance(rng, 0.6):
            colours = 3 if chance(rng, 0.4) else 1
            pixels = pixels + 6 * self.level * rng.standard_normal((*pixels.shape[:2], colours), np.float32)
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _light(shape: tuple[int, int], rng: Rng, depth: float) -> np.ndarray:
    """Brightness [H, W, 1] that falls off to one side."""
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    return (1 - depth * (1 + np.cos(angle) * rows + np.sin(angle) * columns) / 2)[..., None].astype(np.float32)


def _paper_and_ink(rng: Rng) -> tuple[Colour, Colour]:
    """Light paper and dark ink, or now and then the other way round."""
    light = rng.integers(215, 256, 3) if chance(rng, 0.6) else np.full(3, int(rng.integers(230, 256)))
    dark = rng.integers(0, 90, 3) if chance(rng, 0.5) else np.full(3, int(rng.integers(0, 60)))
    pair = _colour(light), _colour(dark)
    return pair if chance(rng, 0.93) else pair[::-1]


def _colour(values: np.ndarray) -> Colour:
    red, green, blue = (int(value) for value in values)
    return red, green, blue


# --- sudokus --------------------------------------------------------------------------------------------------------


def draw_sudoku(puzzle: np.ndarray, fonts: Sequence[Path], rng: Rng, wear: Wear = Wear()) -> Image.Image:
    """A puzzle [81] of digits, 0 for a blank, as a square picture of nine cells of 48 pixels a side."""
    board, paper = _board(puzzle, fonts, rng, 9 * CELL)
    return wear.apply(board, paper, rng)


def photograph_sudoku(
    puzzle: np.ndarray,
    fonts: Sequence[Path],
    rng: Rng,
    wear: Wear = Wear(),
    side: int = 11 * CELL,
    margin: float = 0.08,
) -> Image.Image:
    """A puzzle [81] as people take and cut out pictures of it: `side` pixels wide and high, with up to `margin` of the
    board's side around it, seen a little askew, now and then as a JPEG of poor quality."""
    size = int(np.exp(rng.uniform(np.log(200), np.log(640))))
    board, paper = _board(puzzle, fonts, rng, size)
    around = int(size * (margin + 0.08))
    page = (
        paper
        if chance(rng, 0.6)
        else _colour(rng.integers(200, 256, 3) if chance(rng, 0.8) else rng.integers(0, 256, 3))
    )
    picture = Image.new("RGB", (size + 2 * around,) * 2, page)
    if chance(rng, 0.15):
        _write_around(picture, around, fonts, rng)
    picture.paste(board, (around, around))
    corners = _corners(size, margin, wear, rng) + around
    smooth = Image.Resampling.BILINEAR if chance(rng, 0.7) else Image.Resampling.BICUBIC
    shot = picture.transform((side, side), Image.Transform.QUAD, corners.ravel().tolist(), smooth)
    return _compressed(wear.soil(shot, rng), rng) if wear.level and chance(rng, 0.3) else wear.soil(shot, rng)


def _corners(size: int, margin: float, wear: Wear, rng: Rng) -> np.ndarray:
    """Corners [4, 2] of what is seen, as x and y from the board's upper left: north-west, south-west and on round."""
    most = margin if chance(rng, 0.5) else min(margin, 0.02)
    left, top, right, bottom = rng.uniform(-0.004, most, 4) if chance(rng, 0.5) else np.full(4, rng.uniform(0, most))
    corners = np.array([[-left, -top], [-left, 1 + bottom], [1 + right, 1 + bottom], [1 + right, -top]]) - 0.5
    angle = float(np.clip(rng.normal(0, 0.7), -2, 2)) * wear.level * chance(rng, 0.6) * np.pi / 180
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    askew = 0.004 * wear.level * chance(rng, 0.4) * rng.normal(0, 1, (4, 2))
    return (corners @ turn + 0.5 + askew) * size


def _write_around(picture: Image.Image, around: int, fonts: Sequence[Path], rng: Rng) -> None:
    """A title above or a line below the board."""
    words = choose(rng, ("Sudoku", "SUDOKU no. 17", "Easy", "Level 3", "Time 04:12", "No. 231", "Solve it!"))
    y = around * (0.6 if chance(rng, 0.6) else 1.4) if chance(rng, 0.5) else picture.height - around * 0.6
    font = sized(choose(rng, fonts), max(10, around // 3))
    ImageDraw.Draw(picture).text(
        (picture.width * rng.uniform(0.2, 0.8), y), words, _colour(rng.integers(0, 256, 3)), font, anchor="mm"
    )


def _compressed(picture: Image.Image, rng: Rng) -> Image.Image:
    file = BytesIO()
    picture.save(file, "JPEG", quality=int(rng.integers(30, 90)))
    return Image.open(file).convert("RGB")


def _board(puzzle: np.ndarray, fonts: Sequence[Path], rng: Rng, side: int) -> tuple[Image.Image, Colour]:
    """A clean board that fills a square of `side` pixels but for a few, and the colour of its paper."""
    paper, ink = _paper_and_ink(rng)
    picture = Image.new("RGB", (side, side), paper)
    draw = ImageDraw.Draw(picture)
    margin = int(rng.integers(0, 5)) * side / (9 * CELL) if chance(rng, 0.5) else 0.0
    step = (side - 1 - 2 * margin) / 9
    _shade_cells(draw, puzzle, paper, margin, step, rng)
    _draw_lines(draw, ink if chance(rng, 0.7) else _between(paper, ink, rng.uniform(0.3, 1)), margin, step, rng)
    _draw_digits(draw, puzzle, (paper, ink), margin, step, fonts, rng)
    return picture, paper


def _draw_digits(
    draw: ImageDraw.ImageDraw, puzzle: np.ndarray, colours: tuple[Colour, Colour], margin: float, step: float,
    fonts: Sequence[Path], rng: Rng,
) -> None:  # fmt: skip
    path, size = choose(rng, fonts), rng.uniform(0.46, 0.8) * step
    inks = [_ink(*colours, rng)]
    inks.append(inks[0] if chance(rng, 0.8) else _ink(*colours, rng))  # the player's own digits, in another colour
    bold = int(chance(rng, 0.15)) * max(1, round(step / 40))
    by_hand = chance(rng, 0.25)
    for i, digit in enumerate(puzzle):
        if digit:
            row, column = divmod(i, 9)
            wobble = step / CELL * (rng.normal(0, 2.5, 2) if by_hand else rng.normal(0, 0.5, 2))
            centre = (margin + (column + 0.5) * step + wobble[0], margin + (row + 0.5) * step + wobble[1])
            own = np.clip(size + step / CELL * rng.normal(0, 2), 0.42 * step, 0.84 * step) if by_hand else size
            font = sized(path, int(round(own)))
            draw.text(centre, str(int(digit)), inks[int(rng.random() < 0.3)], font, anchor="mm", stroke_width=bold)


def _ink(paper: Colour, ink: Colour, rng: Rng) -> Colour:
    if chance(rng, 0.7):
        return ink
    return _colour(rng.integers(0, 120, 3) if sum(paper) > 380 else rng.integers(150, 256, 3))


def _between(a: Colour, b: Colour, share: float) -> Colour:
    return _colour(np.array(a) + share * (np.array(b) - np.array(a)))


def _shade_cells(
    draw: ImageDraw.ImageDraw, puzzle: np.ndarray, paper: Colour, margin: float, step: float, rng: Rng
) -> None:
    """Every other box, the givens or a few cells on another ground, now and then."""
    if not chance(rng, 0.35):
        return
    ground = _between(paper, _colour(rng.integers(0, 256, 3)), rng.uniform(0.05, 0.25))
    kind = rng.integers(4)
    row, column = int(rng.integers(9)), int(rng.integers(9))
    for i in range(81):
        y, x = divmod(i, 9)
        boxes = (y // 3 + x // 3) % 2 == 1
        chosen = (boxes, puzzle[i] > 0, y == row or x == column, (y, x) == (row, column))[kind]
        if chosen:
            corner = margin + x * step, margin + y * step
            draw.rectangle([*corner, corner[0] + step, corner[1] + step], ground)


def _draw_lines(draw: ImageDraw.ImageDraw, ink: Colour, margin: float, step: float, rng: Rng) -> None:
    scale = step / CELL
    thin, thick = rng.integers(0, 3) * scale, rng.integers(1, 6) * scale
    end = margin + 9 * step
    for i in range(10):
        width = round(max(thick, thin) if i % 3 == 0 else thin)
        at = margin + i * step
        if width:
            draw.line([(at, margin), (at, end)], ink, width)
            draw.line([(margin, at), (end, at)], ink, width)


# --- printed lines --------------------------------------------------------------------------------------------------


def draw_lines(lines: Sequence[str], fonts: Sequence[Path], rng: Rng, wear: Wear = Wear()) -> Image.Image:
    """Lines of print, as large as fit on whole cells of 48 pixels: width and height are multiples of that."""
    paper, ink = _paper_and_ink(rng)
    size = int(rng.integers(20, 34))
    font = sized(choose(rng, fonts), size)
    gap, margin = int(size * rng.uniform(1.2, 1.7)), int(rng.integers(4, 16))
    wide = max(font.getlength(line) for line in lines) + 2 * margin
    high = gap * (len(lines) - 1) + 1.3 * size + 2 * margin
    width, height = (int(-(-side // CELL) * CELL) for side in (wide, high))
    picture = Image.new("RGB", (width, height), paper)
    draw = ImageDraw.Draw(picture)
    for i, line in enumerate(lines):
        draw.text((margin, margin + i * gap), line, ink, font)
    return wear.apply(picture, paper, rng)
