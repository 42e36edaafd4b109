"""Seed puzzles: minimal, uniquely solvable, split into train and test before any symmetry is applied."""

from __future__ import annotations

import random
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffusiongemma.files import written_whole
from diffusiongemma.tasks.sudoku_solver import CELLS, has_other_solution, solve

TRAIN_SEEDS = 4000
TEST_SEEDS = 400


@dataclass(frozen=True)
class Seeds:
    """Uniquely solvable puzzles with their solutions, uint8 [N, 81], ordered by number of givens, fewest first."""

    puzzles: np.ndarray
    solutions: np.ndarray

    def __post_init__(self) -> None:
        assert self.puzzles.shape == self.solutions.shape == (len(self.puzzles), CELLS)
        order = np.argsort((self.puzzles > 0).sum(1), kind="stable")
        object.__setattr__(self, "puzzles", self.puzzles[order])
        object.__setattr__(self, "solutions", self.solutions[order])

    def __len__(self) -> int:
        return len(self.puzzles)

    @property
    def givens(self) -> np.ndarray:
        """Number of givens of each seed, ascending, int64 [N]."""
        return (self.puzzles > 0).sum(1)


@dataclass(frozen=True)
class SeedBank:
    """The two halves of the Sudoku data. No test grid is a symmetric copy of a training grid (see `fingerprints`)."""

    train: Seeds
    test: Seeds

    @classmethod
    def build(cls, train: int = TRAIN_SEEDS, test: int = TEST_SEEDS) -> SeedBank:
        """Generates both halves, always the same for the same numbers; about 10 ms a seed on one core."""
        train_seeds = _stack([_minimal_puzzle(f"train {i}") for i in range(train)])
        known = set(fingerprints(train_seeds.solutions))
        test_pairs: list[tuple[list[int], list[int]]] = []
        attempt = 0
        while len(test_pairs) < test:
            puzzle, solution = _minimal_puzzle(f"test {attempt}")
            attempt += 1
            if fingerprints(np.array([solution], np.uint8))[0] not in known:
                test_pairs.append((puzzle, solution))
        return cls(train_seeds, _stack(test_pairs))

    @classmethod
    def load_or_build(cls, cache_dir: str | Path, train: int = TRAIN_SEEDS, test: int = TEST_SEEDS) -> SeedBank:
        """`build`, kept in `cache_dir` as one .npz file that is written whole or not at all, anew if unreadable."""
        path = Path(cache_dir) / f"sudoku-seeds-{train}-{test}.npz"
        if path.exists():
            try:
                return cls.load(path)
            except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
                warnings.warn(f"{path} cannot be read ({error}): making the seeds anew", stacklevel=2)
        bank = cls.build(train, test)
        bank.save(path)
        return bank

    @classmethod
    def load(cls, path: Path) -> SeedBank:
        with np.load(path) as data:
            return cls(
                Seeds(data["train_puzzles"], data["train_solutions"]),
                Seeds(data["test_puzzles"], data["test_solutions"]),
            )

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as file:
            np.savez_compressed(
                file,
                train_puzzles=self.train.puzzles,
                train_solutions=self.train.solutions,
                test_puzzles=self.test.puzzles,
                test_solutions=self.test.solutions,
            )


def fingerprints(solutions: np.ndarray) -> list[bytes]:
    """A value per grid that no Sudoku symmetry changes: grids that differ in it are not copies of one another.

    For two digits a and b, walking from an a along its column to the b, along that row to the next a, and so on,
    permutes the rows; the cycle lengths of all 36 such walks, sorted, survive relabelling, moving and transposing.
    Solutions [N, 81] → N byte strings.
    """
    rows = np.arange(len(solutions))[:, None, None]
    grids = solutions.reshape(-1, 9, 9).astype(np.int64) - 1
    column_of = np.argsort(grids, axis=2)  # [N, row, digit] → column of the digit in the row
    row_of = np.argsort(grids, axis=1)  # [N, digit, column] → row of the digit in the column
    signatures = []
    for a in range(9):
        for b in range(a + 1, 9):
            step = row_of[rows[:, :, 0], b, column_of[:, :, a]]  # [N, 9] row of an a → row of the b in its column
            walk = step
            signature = np.zeros(len(solutions), np.int64)
            for _ in range(2, 10):  # how many rows are back home after 2, 3, … 9 steps tells the cycle lengths
                walk = np.take_along_axis(step, walk, axis=1)
                signature = signature * 10 + (walk == np.arange(9)).sum(1)
            signatures.append(signature)
    stacked = np.sort(np.stack(signatures, axis=1), axis=1)  # [N, 36]
    return [row.tobytes() for row in stacked]


def _minimal_puzzle(name: str) -> tuple[list[int], list[int]]:
    """A puzzle that loses its unique solution with any given removed (about 21–28 givens), and that solution."""
    rng = random.Random(f"sudoku seed {name}")
    solution = solve([0] * CELLS, limit=1, rng=rng)[0]
    puzzle = solution.copy()
    for cell in rng.sample(range(CELLS), CELLS):
        digit, puzzle[cell] = puzzle[cell], 0
        if has_other_solution(puzzle, cell, digit):
            puzzle[cell] = digit
    return puzzle, solution


def _stack(pairs: list[tuple[list[int], list[int]]]) -> Seeds:
    puzzles = np.array([puzzle for puzzle, _ in pairs], np.uint8).reshape(-1, CELLS)
    solutions = np.array([solution for _, solution in pairs], np.uint8).reshape(-1, CELLS)
    return Seeds(puzzles, solutions)
