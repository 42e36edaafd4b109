"""Pictures to read: sudokus and printed lines, in many fonts, on tinted paper, turned, blurred and noisy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
        """Turned by up to two degrees a level, out of focus, unevenly lit, noisy; of the same size."""
        if not self.level:
            return picture
        if chance(rng, 0.6):
            angle = float(rng.normal(0, 0.7 * self.level))
            picture = picture.rotate(angle, Image.Resampling.BICUBIC, fillcolor=paper)
        if chance(rng, 0.5):
            picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.2, 0.8) * self.level)))
        pixels = np.asarray(picture, np.float32)
        if chance(rng, 0.5):
            pixels = pixels * _light(pixels.shape[:2], rng, 0.15 * self.level)
        if chance(rng, 0.6):
            pixels = pixels + rng.normal(0, 6 * self.level, pixels.shape).astype(np.float32)
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
    paper, ink = _paper_and_ink(rng)
    side = 9 * CELL
    picture = Image.new("RGB", (side, side), paper)
    draw = ImageDraw.Draw(picture)
    margin = int(rng.integers(0, 5)) if chance(rng, 0.5) else 0
    step = (side - 1 - 2 * margin) / 9
    _draw_lines(draw, ink, margin, step, rng)
    path, size = choose(rng, fonts), int(rng.integers(22, 39))
    shade = (
        ink if chance(rng, 0.7) else _colour(rng.integers(0, 120, 3) if sum(paper) > 380 else rng.integers(150, 256, 3))
    )
    by_hand = chance(rng, 0.2)
    for i, digit in enumerate(puzzle):
        if digit:
            row, column = divmod(i, 9)
            wobble = rng.normal(0, 2.5, 2) if by_hand else rng.normal(0, 0.5, 2)
            centre = (margin + (column + 0.5) * step + wobble[0], margin + (row + 0.5) * step + wobble[1])
            font = sized(path, int(np.clip(size + rng.normal(0, 2), 20, 40)) if by_hand else size)
            draw.text(centre, str(int(digit)), shade, font, anchor="mm")
    return wear.apply(picture, paper, rng)


def _draw_lines(draw: ImageDraw.ImageDraw, ink: Colour, margin: int, step: float, rng: Rng) -> None:
    thin, thick = int(rng.integers(0, 3)), int(rng.integers(2, 5))
    end = margin + 9 * step
    for i in range(10):
        width = thick if i % 3 == 0 else thin
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
