"""Sudokus as people type them: dots, zeros or other signs for blanks, apart or in a row, with or without a request."""

from __future__ import annotations

import numpy as np

from diffusiongemma.tasks import sudoku
from diffusiongemma.tasks.example import choose
from recipes.nano.sources.phrasing import varied

REQUESTS = (
    "Solve this sudoku:",
    "Solve this sudoku.",
    "Can you solve this sudoku?",
    "Sudoku:",
    "Please solve:",
    "Solve:",
    "Solve this puzzle:",
    "Fill in the blanks of this sudoku:",
    "What is the solution of this sudoku?",
    "Here is a sudoku.",
    "Complete this sudoku.",
    "Fill in the missing digits.",
    "Can you do this one?",
    "Solve the following sudoku",
)
_BLANKS = (".", "0", "_", "*", "-", "x", "?")
_BLANK_SHARES = (0.3, 0.4, 0.1, 0.05, 0.05, 0.03, 0.07)


def spelled(rng: np.random.Generator, puzzle: np.ndarray) -> str:
    """A prompt with the puzzle [81] in one of the usual ways."""
    blank = _BLANKS[int(rng.choice(len(_BLANKS), p=_BLANK_SHARES))]
    cells = [str(int(digit)) if digit else blank for digit in puzzle]
    rows = [cells[i : i + 9] for i in range(0, 81, 9)]
    form = rng.random()
    if form < 0.6:
        text = "\n".join("".join(row) for row in rows)
    elif form < 0.75:
        text = "\n".join(" ".join(row) for row in rows)
    elif form < 0.85:
        text = "".join(cells)
    elif form < 0.93:
        text = _ruled(rows)
    else:
        text = "\n".join(",".join(row) for row in rows)
    if rng.random() < 0.3:
        return text
    request = varied(rng, choose(rng, REQUESTS), keep=0.7)
    return f"{request}\n{text}" if rng.random() < 0.8 else f"{request}\n\n{text}"


def _ruled(rows: list[list[str]]) -> str:
    lines = [" | ".join(" ".join(row[i : i + 3]) for i in (0, 3, 6)) for row in rows]
    rule = "------+-------+------"
    return "\n".join([*lines[:3], rule, *lines[3:6], rule, *lines[6:]])


def pair(rng: np.random.Generator, puzzle: np.ndarray, solution: np.ndarray, usual: float = 0.5) -> tuple[str, str]:
    """(prompt, answer); a share of `usual` in the package's own spelling."""
    prompt = sudoku.format_puzzle(puzzle) if rng.random() < usual else spelled(rng, puzzle)
    return prompt, sudoku.format_solution(solution)
