"""Sudoku questions: puzzles from the committed test seeds, or anybody's from a file."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, MutableSequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from diffusiongemma.errors import InputError
from diffusiongemma.evaluation.questions import Question, Suite
from diffusiongemma.tasks import sudoku
from diffusiongemma.tasks.sudoku import BUCKETS, Seeds

# The 400 puzzles of `SeedBank.build().test`, one a line: no symmetric copy of their grids is in the training half.
TEST_SEEDS = Path(__file__).parents[1] / "tasks" / "sudoku_test_seeds.txt"
MOST_GIVENS = 60  # puzzles with more are too easy to tell models apart
FIGURES = ("solved", "cell_accuracy", "clues_kept")
MOST_GUESSES = 10_000  # about two seconds; puzzles with one solution take a handful
ROOM = 96  # tokens: 81 digits and 8 line ends, one token each, and the end


@lru_cache(maxsize=1)
def held_out_seeds() -> Seeds:
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
    return _suite(questions)


def _suite(questions: list[Question], notes: list[str] | None = None) -> Suite:
    return Suite("sudoku", questions, FIGURES, "givens", ROOM, tuple(notes or ()), tuple(BUCKETS))


def _drawn(n: int, rng: np.random.Generator, givens: tuple[int, int]) -> list[Question]:
    puzzles, solutions = sudoku.sample_boards(held_out_seeds(), n, rng, givens)
    return [_question(puzzle, solution) for puzzle, solution in zip(puzzles, solutions, strict=True)]


def _question(puzzle: np.ndarray, solution: np.ndarray, unique: bool = True) -> Question:
    return Question(
        sudoku.format_puzzle(puzzle),
        sudoku.format_solution(solution) if solution.all() else "",
        partial(_score, puzzle, solution, unique),
        sudoku.bucket(int((puzzle > 0).sum())),
        {"regex": _form(puzzle)},
    )


def _form(puzzle: np.ndarray) -> str:
    """The answers that keep the givens, as a regular expression: each of the other cells is 1 to 9."""
    return sudoku.format_solution(puzzle).replace("0", "[1-9]")


def _score(puzzle: np.ndarray, solution: np.ndarray, unique: bool, text: str) -> dict[str, Any]:
    score = sudoku.score_board(puzzle, text.strip(), solution)
    # Where there are several solutions, every cell of any of them is right.
    return score | ({"cell_accuracy": 1.0} if score["solved"] and not unique else {})


def _range(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,2})(?:-(\d{1,2}))?", text.strip())
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    fewest = int(held_out_seeds().givens[0])
    if not fewest <= low <= high <= 80:
        raise InputError(f"give a range LOW-HIGH within {fewest}-80, such as 30-45", option="givens", got=text)
    return low, high


# --- puzzles from a file ---------------------------------------------------------------------------------------------


def file_suite(path: Path, n: int | None = None) -> Suite:
    """The first `n` puzzles of a file, one a line, in `parse_puzzle_line`'s form; empty lines are passed over.

    An answer counts when it is a valid grid that keeps the givens, also where there are several. Raises `InputError`
    with the number and reason of a bad line.
    """
    questions: list[Question] = []
    notes: list[str] = []
    for number, line in _lines(path):
        if len(questions) == n:
            break
        try:
            puzzle, given = sudoku.parse_puzzle_line(line)
        except ValueError as error:
            raise InputError(f"{path} line {number}: {error}: correct or remove the line") from None
        solutions, note = _solved(puzzle)
        if note:
            notes.append(f"line {number}: the puzzle {note}")
        solution = given if given is not None else np.array(solutions[0] if solutions else [0] * 81, np.uint8)
        questions.append(_question(puzzle, solution, unique=not note))
    if not questions:
        raise InputError(f"{path} holds no puzzle: write one a line, 81 characters, . or 0 for a blank")
    return _suite(questions, notes)


def _solved(puzzle: np.ndarray) -> tuple[list[list[int]], str]:
    """Up to two solutions, and what is wrong when there is not exactly one."""
    try:
        solutions = sudoku.solve(puzzle.tolist(), limit=2, rng=_Guesses(MOST_GUESSES))
    except _TooManyGuesses:
        return [], f"is not solved within {MOST_GUESSES:,} guesses; it may have no solution or several"
    if not solutions:
        return [], "has no solution and counts as not solved"
    return solutions, "" if len(solutions) == 1 else "has several solutions; any of them counts"


class _TooManyGuesses(Exception):
    pass


class _Guesses(random.Random):
    """Orders the solver's guesses, and ends its search after so many: a few impossible puzzles take it minutes."""

    def __init__(self, most: int):
        super().__init__(0)
        self.left = most

    def shuffle(self, x: MutableSequence[Any]) -> None:
        self.left -= 1
        if self.left < 0:
            raise _TooManyGuesses
        super().shuffle(x)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbers and texts of the lines that are not empty."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from ((number, line) for number, line in enumerate(file, start=1) if line.strip())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}: give a file of puzzles, one a line") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text file: write one puzzle a line, 81 characters") from None
