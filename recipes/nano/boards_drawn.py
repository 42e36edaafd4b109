"""Boards as the tower is trained on them: drawn in batches with torch, wherever it trains.

Every pixel asks in which cell of its board it lies and how far its digit's outline is (`glyphs`), so that all that can
happen to a picture is a change of coordinates. What is drawn is grey, since that is what the tower looks at.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from recipes.nano.glyphs import GRID, STEP, TALL, Glyphs
from recipes.nano.soiling import Dice, soiled, waves_of
from recipes.nano.sources.pictured import COLUMNS, ROWS, SYMBOLS

CELL = 48  # pixels
SIDE = 16  # of a patch
SIZES = tuple(range(192, 641, 32))  # pixels a side at which a board is drawn


@dataclass(frozen=True)
class Written:
    """What stands in the cells of boards: the glyphs' numbers [B, 81] of both fonts that are mixed, the share of the
    second, 0 for blanks in `there`, how dark and how bold each digit is, and where it stands, as the centre [B, 81, 2]
    and the matrix [B, 81, 2, 2] that leads from places in the cell to points of the glyph's grid."""

    first: Tensor
    second: Tensor
    mixed: Tensor
    there: Tensor
    ink: Tensor
    bold: Tensor
    centre: Tensor
    matrix: Tensor


class BoardsDrawn:
    """Pages of boards with any digits: the tower is to look, not to guess from the rules.

    `ease` is 1 at first, for clean pictures in the fonts of a few families, and 0 for all there is.
    """

    def __init__(self, glyphs: Glyphs, seed: int, device: torch.device | str = "cpu"):
        order = torch.from_numpy(glyphs.families).argsort(stable=True)
        counts = torch.bincount(torch.from_numpy(glyphs.families))
        self.dice = Dice(seed, device)
        self._shapes = torch.from_numpy(glyphs.shapes)[order].to(device).flatten(2)  # [F, 9, 48²]
        self._shuffled = torch.randperm(len(counts), generator=torch.Generator().manual_seed(seed)).to(device)
        self._counts, self._starts = counts.to(device), (counts.cumsum(0) - counts).to(device)
        self.ease = 0.0

    def batch(self, n: int, parts: int = 1) -> tuple[Tensor, Tensor]:
        """Brightness of patches [n, 27, 30, 256] from 0 to 1, and the numbers of the symbols [n, 90] shown.

        Each of the `parts`, as many pictures as the others, is of a size of its own.
        """
        drawn = [self._pages(n // parts) for _ in range(parts)]
        pages, symbols = (torch.cat(part) for part in zip(*drawn, strict=True))
        return patched(pages), symbols

    def _pages(self, n: int) -> tuple[Tensor, Tensor]:
        puzzles = self._puzzles(n)
        size = SIZES[self.dice.number(len(SIZES))]
        wear = 1.6 * (1 - self.ease) * self.dice.uniform(n, 1, 1)
        pictures = soiled(self._drawn(puzzles, size, wear), wear, self.dice)
        small = F.interpolate(pictures[:, None], (9 * CELL, 9 * CELL), mode="bicubic", antialias=True)[:, 0]
        light = small.flatten(1).median(1).values[:, None, None] >= 0.5
        shown = (torch.where(light, small, 1 - small) * 255).round().clamp(0, 255) / 255
        pages = torch.ones(n, ROWS * CELL, COLUMNS * CELL, device=shown.device)
        pages[:, -9 * CELL :, -9 * CELL :] = shown
        return pages, symbols_of(puzzles)

    def _puzzles(self, n: int) -> Tensor:
        """Digits [n, 81], 0 for a blank."""
        return (1 + self.dice.numbers(9, n, 81)) * (self.dice.uniform(n, 81) < self.dice.uniform(n, 1, low=0.25))

    # --- what is written --------------------------------------------------------------------------------------------

    def _fonts(self, *shape: int) -> Tensor:
        """Numbers of fonts, each family as often as another."""
        known = min(len(self._counts), max(4, round(len(self._counts) * (1 - self.ease))))
        family = self._shuffled[self.dice.numbers(known, *shape)]
        return self._starts[family] + (self.dice.uniform(*shape) * self._counts[family]).long()

    def _written(self, puzzles: Tensor, wear: Tensor) -> Written:
        dice, n = self.dice, len(puzzles)
        digits = (puzzles - 1).clamp_min(0)
        own = dice.chance(0.35, n, 1) & (dice.uniform(n, 81) < dice.uniform(n, 1))  # the player's

        def of_two(first: Tensor, second: Tensor) -> Tensor:
            return torch.where(own, second, first)

        fonts, others = of_two(self._fonts(n, 1), self._fonts(n, 1)), self._fonts(n, 1).expand(n, 81)
        # Another's hand is now and then another font in each cell.
        loose = dice.chance(0.25, n, 1)
        fonts = torch.where(loose & dice.chance(0.3, n, 1), self._fonts(n, 81), fonts)
        mixed = dice.uniform(n, 1, high=0.5) * dice.chance(0.35, n, 1)
        ink = of_two(dice.uniform(n, 1, high=0.3), dice.uniform(n, 1, high=0.5))
        bold = of_two(*(self._boldness(n) for _ in range(2))) + 0.15 * dice.normal(n, 81) * loose
        return Written(
            fonts * 9 + digits, others * 9 + digits, mixed.expand(n, 81), (puzzles > 0).float(), ink, bold,
            *self._places(n, of_two, loose),
        )  # fmt: skip

    def _boldness(self, n: int) -> Tensor:
        """Points that outlines are moved by."""
        dice = self.dice
        heavy, light = dice.uniform(n, 1, high=1.6), dice.uniform(n, 1, low=-0.4, high=0.0)
        return heavy * dice.chance(0.35, n, 1) + light * dice.chance(0.15, n, 1)

    def _places(self, n: int, of_two, loose: Tensor) -> tuple[Tensor, Tensor]:
        dice = self.dice
        tall = of_two(dice.uniform(n, 1, low=0.3, high=0.68), dice.uniform(n, 1, low=0.3, high=0.68))
        tall = (tall * (1 + 0.08 * loose * dice.normal(n, 81))).clamp(0.26, 0.76)
        wide = torch.exp(0.12 * dice.normal(n, 1) * dice.chance(0.5, n, 1) + 0.05 * loose * dice.normal(n, 81))
        lean = 0.18 * dice.normal(n, 1) * dice.chance(0.5, n, 1) + 0.06 * loose * dice.normal(n, 81)
        turn = 0.03 * dice.normal(n, 1) * dice.chance(0.3, n, 1) + 0.07 * loose * dice.normal(n, 81)
        scale, cos, sin = TALL / tall, turn.cos(), turn.sin()
        rows = (scale / wide * (cos + lean * sin), scale / wide * (sin - lean * cos)), (-scale * sin, scale * cos)
        matrix = torch.stack([torch.stack(row, -1) for row in rows], -2)
        off = (0.012 + 0.045 * loose)[..., None] * dice.normal(n, 81, 2) + 0.02 * dice.normal(n, 1, 2)
        room = (0.5 - 0.55 * tall).clamp_min(0)[..., None]
        return off.clamp(-room, room), matrix

    # --- pixels -----------------------------------------------------------------------------------------------------

    def _drawn(self, puzzles: Tensor, size: int, wear: Tensor) -> Tensor:
        """Pictures [B, size, size]; darker than 0 and lighter than 1 in parts."""
        dice, n = self.dice, len(puzzles)
        board = seen(size, wear, dice)  # [B, 2, size, size]
        sharp = size / 9 / dice.uniform(n, 1, 1, low=1.0, high=2.0)  # of outlines, in steps from none to full a cell
        cell, within = cells_of(board)
        written = self._written(puzzles, wear)
        paper = dice.uniform(n, 1, 1, low=0.62, high=1.0) ** 0.7
        inked = 0.35 * dice.uniform(n, 1, 1) * dice.chance(0.6, n, 1, 1)
        ground = torch.where(within, self._ground(puzzles, cell, paper), self._around(paper, size))
        lines = self._lines(board, sharp)
        line_ink = inked + (paper - inked) * dice.uniform(n, 1, 1, high=0.7) * dice.chance(0.4, n, 1, 1)
        picture = ground + (line_ink - ground) * lines
        ink, digits = self._digits(written, board, cell, sharp)
        tone = inked + ink * (paper - inked) * dice.chance(0.5, n, 1, 1)
        return picture + (tone - picture) * digits * within * self._pencil(n, size)

    def _digits(self, written: Written, board: Tensor, cell: Tensor, sharp: Tensor) -> tuple[Tensor, Tensor]:
        """How light each pixel's digit is, and how far it covers the pixel, [B, size, size] each."""
        dice, n, size = self.dice, len(board), board.shape[-1]
        local = board - cell_corner(cell) - 0.5
        at = cell.flatten(1)

        def here(values: Tensor) -> Tensor:
            return values.gather(1, at).view(n, size, size)

        matrix, centre = written.matrix, written.centre
        x, y = local[:, 0] - here(centre[..., 0]), local[:, 1] - here(centre[..., 1])
        points = torch.stack([here(matrix[..., i, 0]) * x + here(matrix[..., i, 1]) * y for i in range(2)], 1)
        trembling = dice.uniform(n, 1, 1, 1) * dice.chance(0.35, n, 1, 1, 1)
        points = points + trembling * (1.1 * waves_of(n, 2, 30, size, dice) + 1.3 * waves_of(n, 2, 14, size, dice))
        away = self._distance(here(written.first), points)
        other = self._distance(here(written.second), points)
        away = away + here(written.mixed) * (other - away) + here(written.bold)
        hollow = dice.chance(0.02, n, 1, 1)
        away = torch.where(hollow, 0.8 - (away - 0.8).abs(), away)
        covered = (away / here(matrix[..., 1, 1].abs()) * sharp + 0.5).clamp(0, 1)
        return here(written.ink), covered * here(written.there)

    def _distance(self, glyph: Tensor, points: Tensor) -> Tensor:
        """Points [B, size, size] within the outlines of glyphs, at points [B, 2, size, size] from the middle."""
        x, y = (points + (GRID - 1) / 2).clamp(0, GRID - 1.001).unbind(1)
        left, top = x.floor(), y.floor()
        start = glyph * GRID**2 + top.long() * GRID + left.long()
        shapes = self._shapes.view(-1)
        x, y = x - left, y - top
        upper = torch.lerp(shapes[start].float(), shapes[start + 1].float(), x)
        lower = torch.lerp(shapes[start + GRID].float(), shapes[start + GRID + 1].float(), x)
        return (torch.lerp(upper, lower, y) - 128) / STEP

    def _ground(self, puzzles: Tensor, cell: Tensor, paper: Tensor) -> Tensor:
        """Paper, and other grounds under every other box, the givens, a row and a column, or one cell, now and then."""
        dice, n = self.dice, len(puzzles)
        row, column = (torch.arange(81, device=cell.device) // 9), (torch.arange(81, device=cell.device) % 9)
        boxes = ((row // 3 + column // 3) % 2 == 1).expand(n, 81)
        chosen_row, chosen_column = dice.numbers(9, n, 1), dice.numbers(9, n, 1)
        cross = (row == chosen_row) | (column == chosen_column)
        one = (row == chosen_row) & (column == chosen_column)
        any_cells = dice.uniform(n, 81) < 0.2
        kinds = torch.stack([boxes, puzzles > 0, cross, one, any_cells], 1).float()
        kind = dice.numbers(5, n, 1, 1).expand(n, 1, 81)
        strength = dice.uniform(n, 1, low=-0.3, high=0.1) * dice.chance(0.4, n, 1)
        shade = (kinds.gather(1, kind)[:, 0] * strength).gather(1, cell.flatten(1)).view(cell.shape)
        return (paper + shade).clamp(0, 1)

    def _around(self, paper: Tensor, size: int) -> Tensor:
        """What is seen beside the board: its paper, something else, or something with a pattern."""
        dice, n = self.dice, len(paper)
        other = torch.where(dice.chance(0.3, n, 1, 1), dice.uniform(n, 1, 1), dice.uniform(n, 1, 1, low=0.75))
        page = torch.where(dice.chance(0.6, n, 1, 1), paper, other)
        pattern = (2 * waves_of(n, 1, size // 8, size, dice)[:, 0]).clamp(-1, 1)
        return page + 0.5 * pattern * dice.uniform(n, 1, 1) * dice.chance(0.2, n, 1, 1)

    def _lines(self, board: Tensor, sharp: Tensor) -> Tensor:
        dice, n = self.dice, len(board)
        thin = dice.uniform(n, 1, 1, high=0.055) * dice.chance(0.8, n, 1, 1)
        thick = torch.maximum(dice.uniform(n, 1, 1, low=0.015, high=0.12), thin)
        x, y = board.unbind(1)
        end = thick / 2
        on_board = (x > -end) & (x < 9 + end) & (y > -end) & (y < 9 + end)
        covered = []
        for at in (x, y):
            nearest = at.round()
            width = torch.where(nearest % 3 == 0, thick, thin)
            soft = ((width / 2 - (at - nearest).abs()) * sharp + 0.5).clamp(0, 1)
            covered.append(torch.where(width > 0, soft, 0))
        return torch.maximum(*covered) * on_board

    def _pencil(self, n: int, size: int) -> Tensor:
        """How well the ink takes on the paper."""
        dice = self.dice
        grain = (0.5 + waves_of(n, 1, size // 3, size, dice)[:, 0]).clamp(0, 1)
        return 1 - 0.6 * grain * dice.uniform(n, 1, 1) * dice.chance(0.2, n, 1, 1)


def cells_of(board: Tensor) -> tuple[Tensor, Tensor]:
    """The number of the cell of each place [B, 2, H, W] on the board, of the nearest one if it is beside it, and
    whether it is on it."""
    x, y = board.floor().long().clamp(0, 8).unbind(1)
    return y * 9 + x, ((board > 0) & (board < 9)).all(1)


def cell_corner(cell: Tensor) -> Tensor:
    return torch.stack([cell % 9, cell // 9], 1)


def seen(size: int, wear: Tensor, dice: Dice) -> Tensor:
    """Where each pixel lies on the board, in cells from its upper left: [B, 2, size, size] as x and y.

    With up to 6 % of the board's side around it, turned, askew and bent.
    """
    n = len(wear)
    most = torch.where(dice.chance(0.5, n, 1), 0.06, 0.02)
    edges = dice.uniform(n, 4, low=-0.01) * most
    edges = torch.where(dice.chance(0.5, n, 1), edges, edges[:, :1].expand(n, 4))
    left, top, right, bottom = edges.unbind(1)
    corners = torch.stack([-left, -top, 1 + right, -top, -left, 1 + bottom, 1 + right, 1 + bottom], 1)
    corners = corners.view(n, 4, 2) - 0.5
    angle = ((1.2 * dice.normal(n)).clamp(-3, 3) * wear.flatten() * dice.chance(0.6, n)) * torch.pi / 180
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(n, 2, 2)
    askew = 0.006 * wear * dice.chance(0.5, n, 1, 1) * dice.normal(n, 4, 2)
    corners = (corners @ turn + 0.5 + askew) * 9
    at = (torch.arange(size, device=wear.device) + 0.5) / size
    upper = torch.lerp(corners[:, 0, :, None], corners[:, 1, :, None], at)  # [B, 2, size]
    lower = torch.lerp(corners[:, 2, :, None], corners[:, 3, :, None], at)
    places = torch.lerp(upper[:, :, None], lower[:, :, None], at[:, None])
    bent = 0.05 * wear[..., None] * dice.chance(0.35, n, 1, 1, 1)
    return places + bent * waves_of(n, 2, 4, size, dice)


def patched(pages: Tensor) -> Tensor:
    """Brightness [n, H, W] as patches [n, H / 16, W / 16, 256]."""
    n, height, width = pages.shape
    return pages.view(n, height // SIDE, SIDE, width // SIDE, SIDE).transpose(2, 3).flatten(3)


def symbols_of(puzzles: Tensor) -> Tensor:
    """The numbers of the symbols [n, 90] that pages of puzzles [n, 81] show."""
    page = puzzles.new_full((len(puzzles), ROWS, COLUMNS), SYMBOLS.index("\n"))
    page[:, -9:, -9:] = puzzles.view(-1, 9, 9)
    return page.flatten(1)
