"""`python -m recipes.nano digits OUT`: the digits of many fonts as one small file, from which boards are drawn.

A glyph is kept as distances to its outline, not as ink: so a digit can be drawn at any size, made bolder or thinner,
and be halfway between two fonts. Beside those of fonts there are digits drawn by nobody's hand: strokes from a few ways
of writing each digit, whose points are moved at random (`hands`).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from recipes.nano import fonts

GRID = 48  # points a side of a glyph
TALL = 28.0  # of them, the higher or wider side of a font's largest digit
STEP = 16  # of a stored byte, to a point of the grid; 128 is the outline, more is within
HANDS, HAND_FAMILIES = 320, 16  # drawn, and as how many families of fonts they count


@dataclass(frozen=True)
class Glyphs:
    """Digits 1 to 9 as bytes [F, 9, 48, 48], and the number of the family [F] that each font is of."""

    shapes: np.ndarray
    families: np.ndarray

    @classmethod
    def load(cls, path: Path) -> Glyphs:
        with np.load(path) as found:
            return cls(found["shapes"], found["families"])

    def joined(self, shapes: np.ndarray, families: np.ndarray) -> Glyphs:
        """With more of them, of further families."""
        first = self.families.max() + 1
        return Glyphs(np.concatenate([self.shapes, shapes]), np.concatenate([self.families, first + families]))

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, shapes=self.shapes, families=self.families)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT", help="file for the digits, digits.npz for instance")
    parser.add_argument("--fonts", type=Path, default=Path("runs/fonts"), help="where fonts are fetched to")


def run(options: argparse.Namespace) -> None:
    every = fonts.PRINTED + fonts.HANDWRITTEN + fonts.MORE
    glyphs = of_fonts(fonts.of_split(fonts.fetch(options.fonts, every), "train"))
    glyphs = glyphs.joined(hands(HANDS, np.random.default_rng(0)), np.arange(HANDS) % HAND_FAMILIES)
    glyphs.save(options.out)
    print(f"{len(glyphs.shapes)} fonts of {glyphs.families.max() + 1} families, {options.out.stat().st_size:,} bytes")


# --- of fonts -------------------------------------------------------------------------------------------------------


def of_fonts(paths: Sequence[Path]) -> Glyphs:
    names = sorted({fonts.family(path) for path in paths})
    shapes = np.stack([of_font(path) for path in paths])
    return Glyphs(shapes, np.array([names.index(fonts.family(path)) for path in paths]))


def of_font(path: Path) -> np.ndarray:
    """A font's digits [9, 48, 48], all to one scale and on one line."""
    masks = [_mask(path, str(digit)) for digit in range(1, 10)]
    boxes = np.array([Image.fromarray(mask).getbbox() for mask in masks])
    middle = (boxes[:, 1].min() + boxes[:, 3].max()) / 2
    largest = max((boxes[:, 2] - boxes[:, 0]).max(), boxes[:, 3].max() - boxes[:, 1].min())
    drawn = [_distances(m, ((b[0] + b[2]) / 2, middle), largest / TALL) for m, b in zip(masks, boxes, strict=True)]
    return np.stack(drawn)


def _mask(path: Path, digit: str) -> np.ndarray:
    """Whether there is ink [512, 512]."""
    picture = Image.new("L", (512, 512))
    ImageDraw.Draw(picture).text((256, 256), digit, 255, fonts.sized(path, 150), anchor="mm")
    return np.asarray(picture) > 127


def _distances(mask: np.ndarray, centre: tuple[float, float], scale: float) -> np.ndarray:
    """Bytes [48, 48] of a mask, `scale` of its pixels to a point."""
    grown = np.pad(mask, 1)
    inner = grown[2:, 1:-1] & grown[:-2, 1:-1] & grown[1:-1, 2:] & grown[1:-1, :-2]
    rows, columns = np.nonzero(mask & ~inner)
    edge = torch.tensor(np.stack([columns, rows], 1), dtype=torch.float32)
    at = (torch.arange(GRID) + 0.5 - GRID / 2) * scale
    points = torch.stack([x.flatten() for x in torch.meshgrid(at + centre[0], at + centre[1], indexing="xy")], 1)
    away = torch.cdist(points, edge).amin(1)
    x, y = points.round().long().clamp(0, mask.shape[0] - 1).unbind(1)
    within = torch.from_numpy(mask)[y, x]
    signed = torch.where(within, away + 0.5, 0.5 - away) / scale
    return as_bytes(signed).view(GRID, GRID).numpy()


def as_bytes(distances: Tensor) -> Tensor:
    return (128 + STEP * distances).round().clamp(0, 255).to(torch.uint8)


# --- of nobody's hand -----------------------------------------------------------------------------------------------

# Ways of writing: strokes of points "x y" on a field 6 wide and 10 high, from the upper left; curves go through them.
_WAYS = {
    1: (
        "3 0 3 10",
        "1 2 3 0 3 10",
        "1 2 3 0 3 10 | 1 10 5 10",
        "2.5 0 3.5 10",
        "0 4 3 0 3 10",
    ),
    2: (
        "0.5 2.5 1 .7 3 0 5 1 5.3 3 3.5 6 0.3 10 | 0.3 10 5.7 10",
        "0.5 2 2 0 4.5 .4 5.3 2.6 3 6.5 1 9 2 8.6 4 10 5.7 9.5",
    ),
    3: (
        "0.5 1 3 0 5 1.2 5 3.5 2.5 4.8 | 2.5 4.8 5.2 6 5.3 8.6 3 10 0.4 9",
        "0.5 0 5.3 0 | 5.3 0 2.5 4 | 2.5 4 5.2 5.5 5.4 8.4 3 10 0.4 9",
    ),
    4: (
        "4 0 0 7 | 0 7 6 7 | 4.3 3 4.3 10",
        "0.8 0 0.5 5 | 0.5 5 5.5 5 | 4.8 0 4.8 10",
        "4.2 10 4.2 0 | 4.2 0 0 6.5 | 0 6.5 6 6.5",
    ),
    5: (
        "5.3 0 1 0 | 1 0 0.7 4.3 | 0.7 4.3 3 3.7 5.4 5.2 5.4 8.4 3 10 0.4 9.2",
        "1 0 0.8 4.5 3 3.8 5.3 5.5 5 8.8 2.5 10 0.3 9 | 1 0 5.5 0",
    ),
    6: (
        "4.8 0.3 2 2.5 0.6 6 1 9 3 10 5.2 8.8 5.2 6 3 4.8 0.8 6.8",
        "3.5 0 0.8 5 0.6 8 2 10 4.5 9.7 5.4 7.5 4 5.3 1.5 6 0.7 7.5",
    ),
    7: (
        "0.3 0 5.6 0 | 5.6 0 2 10",
        "0 1.2 1.5 0 3.5 0.8 5.6 0 | 5.6 0 2 10",
        "0.3 0 5.6 0 | 5.6 0 2 10 | 1.5 5 5 5",
        "0.4 1.2 0.4 0 | 0.4 0 5.6 0 | 5.6 0 3.5 4 2.6 10",
    ),
    8: (
        "5 1.2 3 0 0.9 1.4 1.2 3.6 3 4.8 5.2 6.4 5.2 9 3 10 0.6 9 0.7 6.4 3 4.8 4.9 3.4 5 1.2",
        "3 0 1 1 1 3.8 3 4.8 5 3.8 5 1 3 0 | 3 4.8 0.6 6.2 0.6 9 3 10 5.4 9 5.4 6.2 3 4.8",
        "5.2 1 3.5 0 1 1.2 2 4 4.5 6 4.8 8.8 2.5 10 0.4 8.5 1.5 6 4.5 3.5 5.6 1.5",
    ),
    9: (
        "5 2.2 3.3 0 1 0.8 0.6 3.4 2.4 5 4.6 4 5.1 1.6 | 5.1 1.6 5 6 4.4 10",
        "4.8 1 2.5 0.3 0.8 2.5 2 4.6 4.5 3 5 1 4.2 5 3 10",
        "5.2 1.5 3 0 0.8 1.5 0.9 4 3 5.2 5 4 5.2 1.5 5.4 5 4.6 8.5 2.6 10 0.7 9.2",
    ),
}


def hands(n: int, rng: np.random.Generator) -> np.ndarray:
    """Bytes [n, 9, 48, 48]: so many hands' digits, of strokes as wide as each hand's pen."""
    return np.stack([_hand(rng) for _ in range(n)])


def _hand(rng: np.random.Generator) -> np.ndarray:
    pen, shake = rng.uniform(0.7, 2.6), rng.uniform(0.1, 0.55)
    lean, wide = rng.normal(0.12, 0.2), rng.uniform(0.7, 1.2)
    drawn = []
    for digit in range(1, 10):
        strokes = list(_strokes(_WAYS[digit][int(rng.integers(len(_WAYS[digit])))], rng, shake))
        x, y = np.concatenate(strokes).T
        middle = (x.min() + x.max()) / 2, (y.min() + y.max()) / 2
        scale = (TALL - 2 * pen) / 10 * rng.uniform(0.88, 1.05)
        turned = [(stroke - middle) @ np.array([[wide, 0], [-lean, 1]]) * scale for stroke in strokes]
        drawn.append(as_bytes(pen - _away(turned)).numpy())
    return np.stack(drawn)


def _strokes(way: str, rng: np.random.Generator, shake: float) -> Iterator[np.ndarray]:
    """Points [N, 2] along each stroke, moved as a whole less than in their parts; Catmull and Rom's curves."""
    shift = rng.normal(0, shake / 2, 2)
    for stroke in way.split("|"):
        points = np.array(stroke.split(), float).reshape(-1, 2)
        points = points + shift + rng.normal(0, shake, points.shape)
        ends = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
        a, b, c, d = (ends[i : len(ends) - 3 + i, None] for i in range(4))
        t = np.linspace(0, 1, 12)[:, None]
        curve = b + t * (c - a) / 2 + t**2 * (a - 2.5 * b + 2 * c - d / 2) + t**3 * (1.5 * (b - c) + (d - a) / 2)
        yield curve.reshape(-1, 2)


def _away(strokes: Sequence[np.ndarray]) -> Tensor:
    """Distances [48, 48] of the grid's points to the nearest stroke."""
    at = torch.arange(GRID) + 0.5 - GRID / 2
    points = torch.stack([x.flatten() for x in torch.meshgrid(at, at, indexing="xy")], 1)  # [P, 2]
    starts = torch.tensor(np.concatenate([s[:-1] for s in strokes]), dtype=torch.float32)
    along = torch.tensor(np.concatenate([np.diff(s, axis=0) for s in strokes]), dtype=torch.float32)
    from_start = points[:, None] - starts  # [P, S, 2]
    share = ((from_start * along).sum(-1) / along.square().sum(-1).clamp_min(1e-6)).clamp(0, 1)
    return (from_start - share[..., None] * along).norm(dim=-1).amin(1).view(GRID, GRID)
