"""Sudoku questions: puzzles from the committed test seeds, or anybody's from a file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from diffusiongemma.errors import InputError
from diffusiongemma.train.evaluation.questions import Question, Suite
from diffusiongemma.train.tasks import sudoku
from diffusiongemma.train.tasks.sudoku import BUCKETS, Seeds

# The 400 puzzles of `SeedBank.build().test`, one a line: no symmetric copy of their grids is in the training half.
TEST_SEEDS = Path(__file__).parents[1] / "tasks" / "sudoku_test_seeds.txt"
MOST_GIVENS = 60  # puzzles with more are too easy to tell models apart
FIGURES = ("solved", "cell_accuracy", "clues_kept")
ROOM = 96  # tokens: 81 digits and 8 line ends, one token each, and the end


@lru_cache(maxsize=1)
def test_seeds() -> Seeds:
    """The seed puzzles that measuring starts from, with their solutions."""
    puzzles = [sudoku.parse_puzzle_line(line)[0] for line in TEST_SEEDS.read_text(encoding="ascii").splitlines()]
    solutions = [sudoku.solve(puzzle.tolist(), limit=1)[0] for puzzle in puzzles]
    return Seeds(np.array(puzzles), np.array(solutions, np.uint8))


def sudoku_suite(n: int, seed: int, givens: str | None = None) -> Suite:
    """`n` puzzles: as many of each difficulty class, or `givens` "LOW-HIGH", every number of givens as likely.

    Without `givens` the classes are those of `tasks.sudoku.BUCKETS`, within the 21 to 60 givens that are measured.
    Raises `InputError` for a range that is none or that the seeds do not reach.
    """
    rng = np.random.default_rng(seed)
    ranges = list(BUCKETS.values()) if givens is None else [_range(givens)]
    sizes = [n // len(ranges) + (i < n % len(ranges)) for i in range(len(ranges))]
    questions = [
        question
        for (low, high), size in zip(ranges, sizes, strict=True)
        for question in _drawn(size, rng, (low, min(high, MOST_GIVENS) if givens is None else high))
    ]
    questions.sort(key=lambda question: list(BUCKETS).index(question.group))
    return Suite("sudoku", questions, FIGURES, "givens", ROOM)


def _drawn(n: int, rng: np.random.Generator, givens: tuple[int, int]) -> list[Question]:
    puzzles, solutions = sudoku.sample_boards(test_seeds(), n, rng, givens)
    return [_question(puzzle, solution) for puzzle, solution in zip(puzzles, solutions, strict=True)]


def _question(puzzle: np.ndarray, solution: np.ndarray, unique: bool = True) -> Question:
    return Question(
        sudoku.format_puzzle(puzzle),
        sudoku.format_solution(solution) if solution.all() else "",
        partial(_score, puzzle, solution, unique),
        sudoku.bucket(int((puzzle > 0).sum())),
    )


def _score(puzzle: np.ndarray, solution: np.ndarray, unique: bool, text: str) -> dict[str, Any]:
    score = sudoku.score_board(puzzle, text.strip(), solution)
    # Where there are several solutions, every cell of any of them is right.
    return score | ({"cell_accuracy": 1.0} if score["solved"] and not unique else {})


def _range(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,2})(?:-(\d{1,2}))?", text.strip())
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    fewest = int(test_seeds().givens[0])
    if not fewest <= low <= high <= 80:
        raise InputError(f"givens is {text!r}: give a range LOW-HIGH within {fewest}-80, such as 30-45")
    return low, high


# --- puzzles from a file ---------------------------------------------------------------------------------------------


def file_suite(path: Path, n: int | None = None) -> Suite:
    """The first `n` puzzles of a file, one a line, in `parse_puzzle_line`'s form; empty lines are passed over.

    An answer counts when it is a valid grid that keeps the givens, also where there are several. Raises `InputError`
    with the number and reason of a bad line.
    """
    questions, notes = [], []
    for number, line in _lines(path):
        if len(questions) == n:
            break
        try:
            puzzle, given = sudoku.parse_puzzle_line(line)
        except ValueError as error:
            raise InputError(f"{path} line {number}: {error}: correct or remove the line") from None
        solutions = sudoku.solve(puzzle.tolist(), limit=2)
        if len(solutions) != 1:
            what = "several solutions, any of them counts" if solutions else "no solution, and counts as not solved"
            notes.append(f"line {number}: the puzzle has {what}")
        first = np.array(solutions[0] if solutions else [0] * len(puzzle), np.uint8)
        questions.append(_question(puzzle, first if given is None else given, unique=len(solutions) == 1))
    if not questions:
        raise InputError(f"{path} holds no puzzle: write one a line, 81 characters, . or 0 for a blank")
    return Suite("sudoku", questions, FIGURES, "givens", ROOM, tuple(notes))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbers and texts of the lines that are not empty."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from ((number, line) for number, line in enumerate(file, start=1) if line.strip())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}: give a file of puzzles, one a line") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text file: write one puzzle a line, 81 characters") from None
