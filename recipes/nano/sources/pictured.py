"""Sudokus as the vision tower hands them on: a soft token per square of the picture, a digit's or a dot's embedding.

The tower learns to give each square the embedding of the digit that stands there (`recipes.nano.tower`), so a text
model that is taught with the tokens themselves in the picture's place reads pictures of which it has never seen one.
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

SQUARES = 11  # a side of a square picture of at most 140 soft tokens
AT = tuple(int((cell + 0.5) * SQUARES / 9) for cell in range(9))  # the square in which the middle of a cell lies
EMPTY = "."


def squares(puzzle: np.ndarray) -> list[str]:
    """What the 121 squares of a picture show, row by row, of a puzzle [81] with 0 for a blank."""
    shown = [EMPTY] * SQUARES**2
    for i, digit in enumerate(puzzle):
        if digit:
            row, column = divmod(i, 9)
            shown[AT[row] * SQUARES + AT[column]] = str(int(digit))
    return shown


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
        tokens = self.tokenizer.convert_tokens_to_ids(squares(puzzle))
        answer = self._ids([sudoku.format_solution(solution) + TURN_END])[0]
        prompt_ids = [*before, *self.around[0], *tokens, *self.around[1], *after]
        return Tokenised(prompt_ids, fill_canvases(answer, self.config), len(answer))

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, add_special_tokens=False).input_ids
