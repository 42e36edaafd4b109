"""Sudoku: unlimited training puzzles by symmetries of seed puzzles, the text they are written in, and the score.

Boards are uint8 arrays of 81 digits, row by row, 0 for a blank.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from diffusiongemma.tasks.example import Example, Split
from diffusiongemma.tasks.sudoku_seeds import SeedBank, Seeds
from diffusiongemma.tasks.sudoku_solver import CELLS, UNIT_CELLS, solve

__all__ = [
    "BUCKETS",
    "PROMPT",
    "SeedBank",
    "Seeds",
    "bucket",
    "format_puzzle",
    "format_solution",
    "generate",
    "is_valid_solution",
    "parse_puzzle_line",
    "parse_solution",
    "sample_boards",
    "score",
    "score_board",
    "solve",
]

PROMPT = "Solve this sudoku:\n"
BUCKETS = {">=40": (40, 80), "36-39": (36, 39), "30-35": (30, 35), "<30": (17, 29)}  # givens, both ends included
_UNITS = np.array(UNIT_CELLS)  # [27, 9]


def bucket(givens: int) -> str:
    """Name of the difficulty class that results are reported under."""
    return next(name for name, (low, _) in BUCKETS.items() if givens >= low or name == "<30")


# --- boards ---------------------------------------------------------------------------------------------------------


def sample_boards(
    seeds: Seeds, n: int, rng: np.random.Generator, givens: tuple[int, int] = (17, 60)
) -> tuple[np.ndarray, np.ndarray]:
    """Random puzzles with one solution each: random seeds under random symmetries, with extra givens.

    The number of givens is uniform over the part of `givens` (both ends included) that the seeds reach: a seed with
    k givens makes puzzles with k or more. Any superset of a uniquely solvable puzzle's givens is uniquely solvable.

    Returns puzzles and solutions, uint8 [n, 81] each. Raises ValueError when no seed has as few as `givens[1]` givens.
    """
    low, high = givens
    seed_givens = seeds.givens
    if not 0 <= low <= high <= CELLS:
        raise ValueError(f"givens must be a range within 0-81, low end first, not {low}-{high}")
    if len(seeds) == 0 or seed_givens[0] > high:
        fewest = seed_givens[0] if len(seeds) else "none"
        raise ValueError(f"no seed puzzle has {high} givens or fewer (fewest: {fewest}): raise the upper end")
    target = rng.integers(max(low, int(seed_givens[0])), high + 1, size=n)
    eligible = np.searchsorted(seed_givens, target, side="right")  # seeds are sorted: the first `eligible` qualify
    chosen = (rng.random(n) * eligible).astype(np.int32)

    source = _random_cell_maps(n, rng) + chosen[:, None] * CELLS  # [n, 81] index into the flattened seeds
    relabel = np.zeros((n, 10), np.uint8)
    relabel[:, 1:] = _random_permutations(n, 9, rng) + 1
    digits = seeds.solutions.reshape(-1)[source]
    solutions = relabel.reshape(-1)[digits + np.arange(0, 10 * n, 10, dtype=np.int32)[:, None]]
    is_seed_given = (seeds.puzzles.reshape(-1) > 0)[source]
    return np.where(_extend_givens(is_seed_given, target, rng), solutions, np.uint8(0)), solutions


def _extend_givens(given: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turns random further cells on until row i of `given`, bool [n, 81], has `target[i]`."""
    priority = rng.random(given.shape, dtype=np.float32)
    priority[given] = -1.0
    last_in = np.sort(priority, axis=1)[np.arange(len(given)), target - 1]
    # two equal priorities just there (one board in about 300,000) add one given too many, which does no harm
    return priority <= last_in[:, None]


def _random_cell_maps(n: int, rng: np.random.Generator) -> np.ndarray:
    """n random members of the group that moves cells: rows within bands, bands, columns, stacks, transpose; [n, 81]."""
    rows, columns = _random_line_orders(n, rng), _random_line_orders(n, rng)
    transpose = rng.random(n) < 0.5
    row_stride = np.where(transpose, 1, 9).astype(np.int32)[:, None]
    column_stride = np.where(transpose, 9, 1).astype(np.int32)[:, None]
    return ((rows * row_stride)[:, :, None] + (columns * column_stride)[:, None, :]).reshape(n, CELLS)


def _random_line_orders(n: int, rng: np.random.Generator) -> np.ndarray:
    """Orders of nine rows (or columns) that keep the bands of three together, int32 [n, 9]."""
    bands = _random_permutations(n, 3, rng).astype(np.int32)  # [n, 3]
    within = _random_permutations(3 * n, 3, rng).astype(np.int32).reshape(n, 3, 3)
    return (3 * bands[:, :, None] + within).reshape(n, 9)


def _random_permutations(n: int, size: int, rng: np.random.Generator) -> np.ndarray:
    return rng.random((n, size), dtype=np.float32).argsort(axis=1)


def is_valid_solution(board: np.ndarray, puzzle: np.ndarray | None = None) -> bool:
    """Whether every row, column and box holds 1-9 once and, with `puzzle`, every given is kept."""
    board = np.asarray(board)
    complete = bool((np.sort(board[_UNITS], axis=1) == np.arange(1, 10)).all())
    return complete and (puzzle is None or bool((board[puzzle > 0] == puzzle[puzzle > 0]).all()))


# --- text -----------------------------------------------------------------------------------------------------------


def format_puzzle(puzzle: np.ndarray) -> str:
    """The whole prompt: the request and nine lines of digits and dots."""
    return PROMPT + _lines(puzzle).replace("0", ".")


def format_solution(solution: np.ndarray) -> str:
    """The whole answer: nine lines of nine digits, no newline at the end."""
    return _lines(solution)


def _lines(board: Sequence[int] | np.ndarray) -> str:
    text = "".join(str(int(digit)) for digit in board)
    return "\n".join(text[i : i + 9] for i in range(0, CELLS, 9))


def parse_solution(text: str) -> np.ndarray | None:
    """Board of an answer, uint8 [81], or None when it is not nine lines of nine digits 1-9 (outer spaces aside)."""
    lines = [line.strip() for line in text.strip().split("\n")]
    if len(lines) != 9 or any(len(line) != 9 or not set(line) <= set("123456789") for line in lines):
        return None
    return np.array([int(digit) for digit in "".join(lines)], np.uint8)


def parse_puzzle_line(line: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Puzzle and, if given, solution of one line: 81 characters, `.` or `0` for a blank, then optionally `,SOLUTION`.

    Raises ValueError, with the reason, for a line of another form and for a solution that is not one of the puzzle.
    """
    puzzle_text, comma, solution_text = line.strip().partition(",")
    puzzle = _parse_cells(puzzle_text.strip(), "puzzle", ".0123456789")
    if not comma:
        return puzzle, None
    solution = _parse_cells(solution_text.strip(), "solution", "123456789")
    if not is_valid_solution(solution, puzzle):
        raise ValueError("the solution given does not solve the puzzle")
    return puzzle, solution


def _parse_cells(text: str, what: str, allowed: str) -> np.ndarray:
    if len(text) != CELLS:
        raise ValueError(f"the {what} has {len(text)} characters, not 81")
    for position, character in enumerate(text, start=1):
        if character not in allowed:
            raise ValueError(f"the {what} has {character!r} at character {position}: only {allowed!r} may stand there")
    return np.array([int(digit) for digit in text.replace(".", "0")], np.uint8)


# --- score ----------------------------------------------------------------------------------------------------------


def score_board(puzzle: np.ndarray, text: str, solution: np.ndarray | None = None) -> dict[str, Any]:
    """Judges an answer: `solved` (valid and keeps the givens), `cell_accuracy` (share of the 81 cells equal to the
    solution), `clues_kept` (share of the givens repeated in their place), and the `bucket` of the puzzle.

    Without `solution` the puzzle is solved here. An answer of another shape scores nothing.
    """
    board = parse_solution(text)
    name = bucket(int((puzzle > 0).sum()))
    if board is None:
        return {"solved": False, "cell_accuracy": 0.0, "clues_kept": 0.0, "bucket": name}
    if solution is None:
        solved = solve(puzzle.tolist(), limit=1)
        solution = np.array(solved[0], np.uint8) if solved else np.zeros(CELLS, np.uint8)
    given = puzzle > 0
    return {
        "solved": is_valid_solution(board, puzzle),
        "cell_accuracy": float((board == solution).mean()),
        "clues_kept": float((board[given] == puzzle[given]).mean()) if given.any() else 1.0,
        "bucket": name,
    }


def generate(rng: np.random.Generator, split: Split, bank: SeedBank | None = None) -> Example:
    """One puzzle with 24-60 givens; without `bank` from a small one made on the first call (about a second).

    To measure a model, pass the bank that it was trained from: its test half is kept apart from its training half.
    """
    seeds = getattr(bank or _small_bank(), split)
    puzzles, solutions = sample_boards(seeds, 1, rng, (24, 60))
    meta = {"puzzle": puzzles[0].tolist(), "solution": solutions[0].tolist(), "givens": int((puzzles[0] > 0).sum())}
    return Example(format_puzzle(puzzles[0]), format_solution(solutions[0]), meta)


def score(example: Example, text: str) -> dict[str, Any]:
    """`score_board` of an example's puzzle."""
    return score_board(np.array(example.meta["puzzle"], np.uint8), text, np.array(example.meta["solution"], np.uint8))


@lru_cache(maxsize=1)
def _small_bank() -> SeedBank:
    return SeedBank.build(train=64, test=32)
