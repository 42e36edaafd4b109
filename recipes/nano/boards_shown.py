"""Pictures of boards as the tower is trained on them: the waves of their patches, with what their squares show."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diffusiongemma.media import dark_on_light
from recipes.nano.fonts import family
from recipes.nano.pictures import Wear, photograph_sudoku
from recipes.nano.sources.pictured import AT, SQUARES

SIDE = 16  # pixels of a patch
MOST_WEAR, MOST_MARGIN = 1.4, 0.05


class BoardsShown:
    """Pictures drawn as they are asked for, of which each is used `uses` times, not twice in a row.

    Digits are any digits: the tower is to look, not to guess from the rules. `ease` is 1 at first, for clean pictures
    in the fonts of a few families, and 0 for all there is.
    """

    def __init__(
        self, fonts: list[Path], rng: np.random.Generator, waves: Callable[[Tensor], Tensor], uses: int = 6
    ) -> None:
        families: dict[str, list[Path]] = {}
        for path in fonts:
            families.setdefault(family(path), []).append(path)
        self._families = [families[name] for name in sorted(families, key=lambda name: rng.random())]
        self._rng, self._waves, self._uses = rng, waves, uses
        self._kept: deque[tuple[Tensor, Tensor]] = deque(maxlen=1500)
        self._due = 0
        self.ease = 0.0

    def batch(self, n: int) -> tuple[Tensor, Tensor]:
        """Waves [n, 33, 33, D] and the numbers of the symbols [n, 121] that the squares show."""
        waves, symbols = zip(*[self._picture() for _ in range(n)], strict=True)
        return torch.stack(waves).float(), torch.stack(symbols)

    def _picture(self) -> tuple[Tensor, Tensor]:
        self._due = (self._due + 1) % self._uses
        if self._due and len(self._kept) >= 64:
            return self._kept[int(self._rng.integers(len(self._kept)))]
        puzzle = self._rng.integers(1, 10, 81) * (self._rng.random(81) < self._rng.uniform(0.25, 1))
        known = max(4, round(len(self._families) * (1 - self.ease)))
        fonts = self._families[int(self._rng.integers(known)) % len(self._families)]
        wear = Wear(float(self._rng.uniform(0, MOST_WEAR * (1 - self.ease))))
        picture = photograph_sudoku(puzzle, fonts, self._rng, wear, margin=MOST_MARGIN)
        self._kept.append((self._waves(patched(dark_on_light(picture))).half(), symbols_of(puzzle)))
        return self._kept[-1]


def symbols_of(puzzle: np.ndarray) -> Tensor:
    """The numbers of the symbols [121] that a picture of a puzzle [81] shows."""
    symbols = np.zeros((SQUARES, SQUARES), np.int64)
    symbols[np.ix_(AT, AT)] = puzzle.reshape(9, 9)
    return torch.from_numpy(symbols).flatten()


def patched(picture: Image.Image) -> Tensor:
    """A square picture of n patches a side as [n, n, 768] from 0 to 1, as the processor cuts it."""
    n = picture.width // SIDE
    pixels = torch.from_numpy(np.array(picture)).view(n, SIDE, n, SIDE, 3)
    return pixels.permute(0, 2, 1, 3, 4).reshape(n, n, -1).float() / 255
