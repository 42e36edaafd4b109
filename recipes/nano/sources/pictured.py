"""Sudokus as the vision tower hands them on: the soft tokens of a picture are the embeddings of the board, typed.

A square picture of a board is laid on the right of a page of 10 x 9 soft tokens (`media.MediaSettings.page`): a soft
token a cell, and to their left nothing, which is read as newlines.
The tower learns to read that (`recipes.nano.tower`), so reading a picture is, for the text model, reading what is
typed, at one distance from the answer, since nano's chat template writes pictures behind the request. A text model that
is taught with the tokens themselves in the picture's place reads pictures of which it has never seen one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from diffusiongemma.config import ModelConfig
from diffusiongemma.tasks import sudoku
from diffusiongemma.tasks.example import choose
from diffusiongemma.train.data import TURN_END, Tokenised, fill_canvases
from recipes.nano.sources.boards import REQUESTS
from recipes.nano.sources.phrasing import varied

COLUMNS, ROWS = 10, 9  # of a page, in soft tokens
SYMBOLS = ".123456789\n"  # what a soft token can show


def squares(puzzle: np.ndarray) -> np.ndarray:
    """The numbers of the `SYMBOLS` [9, 10] that a page shows of a puzzle [81] with 0 for a blank."""
    page = np.full((ROWS, COLUMNS), SYMBOLS.index("\n"))
    page[-9:, -9:] = puzzle.reshape(9, 9)
    return page


def read_out(symbols: np.ndarray) -> str:
    """What a page shows, as text."""
    return "".join(SYMBOLS[i] for i in symbols.flatten())


class Pictured:
    """Examples whose prompt begins with a picture of a board."""

    def __init__(self, tokenizer: Any, config: ModelConfig):
        self.tokenizer, self.config = tokenizer, config
        self.placeholder = tokenizer.convert_ids_to_tokens(config.image_token_id)
        self.around = [config.boi_token_id], [config.eoi_token_id]

    def example(self, rng: np.random.Generator, puzzle: np.ndarray, solution: np.ndarray) -> Tokenised:
        from diffusiongemma.chat import render

        request = varied(rng, choose(rng, REQUESTS)) if rng.random() < 0.8 else ""
        text = [{"type": "text", "text": request}] if request else []
        content = [{"type": "image", "image": ""}, *text]
        prompt = render([{"role": "user", "content": content}], self.tokenizer)
        before, after = self._ids(prompt.split(self.placeholder))
        tokens, answer = self._ids([read_out(squares(puzzle)), sudoku.format_solution(solution) + TURN_END])
        prompt_ids = [*before, *self.around[0], *tokens, *self.around[1], *after]
        return Tokenised(prompt_ids, fill_canvases(answer, self.config), len(answer))

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, add_special_tokens=False).input_ids
