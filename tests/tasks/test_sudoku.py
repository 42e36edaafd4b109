"""Sudoku data: exact solving, seeds kept apart, symmetries that keep uniqueness, text in and out, the score."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusiongemma.tasks import sudoku
from diffusiongemma.tasks.sudoku_seeds import SeedBank, fingerprints
from diffusiongemma.tasks.sudoku_solver import UNIT_CELLS

# A widely reprinted puzzle with 21 givens and its published solution.
HARD = "800000000003600000070090200050007000000045700000100030001000068008500010090000400"
HARD_SOLUTION = "812753649943682175675491283154237896369845721287169534521974368438526917796318452"


@pytest.fixture(scope="module")
def bank() -> SeedBank:
    return SeedBank.build(train=24, test=8)


def board(text: str) -> np.ndarray:
    return np.array([int(c) for c in text], np.uint8)


def plain_solutions(puzzle: list[int]) -> list[list[int]]:
    """All solutions by trying every digit in the first blank: the plain twin of the bitboard solver."""
    if 0 not in puzzle:
        return [puzzle]
    cell = puzzle.index(0)
    taken = {puzzle[peer] for unit in UNIT_CELLS if cell in unit for peer in unit}
    tries = [puzzle[:cell] + [digit] + puzzle[cell + 1 :] for digit in range(1, 10) if digit not in taken]
    return [solution for attempt in tries for solution in plain_solutions(attempt)]


# --- solver ---------------------------------------------------------------------------------------------------------


def test_solves_a_hard_puzzle_and_proves_it_unique() -> None:
    assert sudoku.solve(board(HARD).tolist()) == [board(HARD_SOLUTION).tolist()]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(38, 60))
def test_solver_finds_exactly_the_solutions_of_plain_backtracking(seed: int, givens: int) -> None:
    rng = random.Random(seed)
    puzzle = sudoku.solve([0] * 81, limit=1, rng=rng)[0]
    for cell in rng.sample(range(81), 81 - givens):
        puzzle[cell] = 0
    expected = plain_solutions(puzzle)
    assert sorted(sudoku.solve(puzzle, limit=len(expected) + 1)) == sorted(expected)


@pytest.mark.parametrize("clash", [{0: 5, 8: 5}, {0: 5, 72: 5}, {0: 5, 20: 5}])
def test_solver_refuses_clashing_givens(clash: dict[int, int]) -> None:
    assert sudoku.solve([clash.get(cell, 0) for cell in range(81)]) == []


def test_an_empty_board_has_many_solutions_and_the_limit_holds() -> None:
    assert len(sudoku.solve([0] * 81, limit=7)) == 7


# --- seeds ----------------------------------------------------------------------------------------------------------


def test_seeds_are_unique_minimal_and_sorted(bank: SeedBank) -> None:
    for seeds in (bank.train, bank.test):
        assert (np.diff(seeds.givens) >= 0).all()
        for puzzle, solution in zip(seeds.puzzles.tolist(), seeds.solutions.tolist(), strict=True):
            assert sudoku.solve(puzzle) == [solution]
    puzzle = bank.train.puzzles[0].tolist()
    for cell in np.flatnonzero(bank.train.puzzles[0]):
        assert len(sudoku.solve(puzzle[:cell] + [0] + puzzle[cell + 1 :])) == 2


def test_no_test_grid_is_a_copy_of_a_training_grid(bank: SeedBank) -> None:
    assert not set(fingerprints(bank.train.solutions)) & set(fingerprints(bank.test.solutions))


def test_fingerprints_survive_every_symmetry_and_tell_grids_apart(bank: SeedBank) -> None:
    grids = bank.train.solutions[:1]
    single = sudoku.Seeds(bank.train.puzzles[:1], grids)
    _, copies = sudoku.sample_boards(single, 200, np.random.default_rng(0))
    assert len({c.tobytes() for c in copies}) == 200
    assert set(fingerprints(copies)) == set(fingerprints(grids))
    assert len(set(fingerprints(bank.train.solutions))) > 20


def test_the_bank_is_deterministic_and_survives_its_cache(tmp_path) -> None:
    built = SeedBank.load_or_build(tmp_path, train=3, test=2)
    cached = SeedBank.load_or_build(tmp_path, train=3, test=2)
    fresh = SeedBank.build(train=3, test=2)
    for other in (cached, fresh):
        assert (built.train.puzzles == other.train.puzzles).all() and (
            built.test.solutions == other.test.solutions
        ).all()
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]


def test_an_unreadable_cache_is_made_anew(tmp_path) -> None:
    built = SeedBank.load_or_build(tmp_path, train=2, test=1)
    path = next(tmp_path.iterdir())
    path.write_bytes(path.read_bytes()[:100])
    with pytest.warns(UserWarning, match="cannot be read"):
        again = SeedBank.load_or_build(tmp_path, train=2, test=1)
    assert (again.train.puzzles == built.train.puzzles).all()
    assert (SeedBank.load(path).test.puzzles == built.test.puzzles).all()


def test_a_cache_that_cannot_be_written_leaves_nothing_behind(tmp_path, monkeypatch) -> None:
    def disk_full(*_args: object, **_kwargs: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez_compressed", disk_full)
    with pytest.raises(OSError, match="No space"):
        SeedBank.load_or_build(tmp_path, train=1, test=1)
    assert list(tmp_path.iterdir()) == []


# --- sampling -------------------------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.tuples(st.integers(17, 70), st.integers(0, 10)))
def test_samples_are_valid_unique_and_within_the_givens_asked(
    bank: SeedBank, seed: int, low_and_width: tuple[int, int]
) -> None:
    low = low_and_width[0]
    high = max(low + low_and_width[1], int(bank.train.givens[0]))
    puzzles, solutions = sudoku.sample_boards(bank.train, 20, np.random.default_rng(seed), (low, high))
    assert puzzles.dtype == solutions.dtype == np.uint8 and puzzles.shape == solutions.shape == (20, 81)
    for puzzle, solution in zip(puzzles, solutions, strict=True):
        assert sudoku.is_valid_solution(solution, puzzle)
        assert sudoku.solve(puzzle.tolist()) == [solution.tolist()]
        assert low <= (puzzle > 0).sum() <= high


def test_samples_are_reproducible_diverse_and_spread_over_the_givens(bank: SeedBank) -> None:
    puzzles, solutions = sudoku.sample_boards(bank.train, 4000, np.random.default_rng(5), (30, 49))
    again, _ = sudoku.sample_boards(bank.train, 4000, np.random.default_rng(5), (30, 49))
    assert (puzzles == again).all()
    assert len({s.tobytes() for s in solutions}) == 4000
    counts = np.bincount((puzzles > 0).sum(1), minlength=50)[30:50]
    assert counts.sum() == 4000 and counts.min() > 140  # 200 expected, standard deviation 14
    digits = np.stack([(solutions == d).mean(0) for d in range(1, 10)])  # [9, 81]: every digit in every cell alike
    assert abs(digits - 1 / 9).max() < 0.03
    assert abs((puzzles > 0).mean(0) - (puzzles > 0).mean()).max() < 0.06


def test_too_few_givens_are_refused_with_the_mend(bank: SeedBank) -> None:
    with pytest.raises(ValueError, match="raise the upper end"):
        sudoku.sample_boards(bank.train, 1, np.random.default_rng(0), (17, 17))
    with pytest.raises(ValueError, match="low end first"):
        sudoku.sample_boards(bank.train, 1, np.random.default_rng(0), (40, 30))


def test_sampling_is_fast(bank: SeedBank) -> None:
    rng, best = np.random.default_rng(0), 0.0
    for _ in range(3):
        start = time.perf_counter()
        sudoku.sample_boards(bank.train, 10_000, rng)
        best = max(best, 10_000 / (time.perf_counter() - start))
    print(f"\nsample_boards: {best:,.0f} puzzles/s")
    assert best > 30_000  # 200,000-500,000 on an idle core


# --- text -----------------------------------------------------------------------------------------------------------


def test_texts_are_as_promised() -> None:
    prompt = sudoku.format_puzzle(board(HARD))
    assert prompt.startswith("Solve this sudoku:\n8........\n..36.....\n") and not prompt.endswith("\n")
    answer = sudoku.format_solution(board(HARD_SOLUTION))
    assert answer.split("\n")[0] == "812753649" and len(answer) == 89


@given(st.lists(st.integers(1, 9), min_size=81, max_size=81))
def test_solutions_round_trip(digits: list[int]) -> None:
    parsed = sudoku.parse_solution(sudoku.format_solution(np.array(digits, np.uint8)))
    assert parsed is not None and parsed.tolist() == digits


@given(st.lists(st.integers(0, 9), min_size=81, max_size=81), st.booleans())
def test_puzzle_lines_round_trip(digits: list[int], dots: bool) -> None:
    line = "".join(map(str, digits))
    puzzle, solution = sudoku.parse_puzzle_line(line.replace("0", ".") if dots else line)
    assert puzzle.tolist() == digits and solution is None


@given(st.text(max_size=120))
def test_no_text_breaks_the_parsers(text: str) -> None:
    assert sudoku.parse_solution(text) is None or len(text.strip()) >= 81
    assert sudoku.score_board(board(HARD), text)["solved"] is False


def test_puzzle_lines_with_solution_and_with_faults() -> None:
    puzzle, solution = sudoku.parse_puzzle_line(f"{HARD},{HARD_SOLUTION}\n")
    assert (puzzle == board(HARD)).all() and solution is not None and (solution == board(HARD_SOLUTION)).all()
    with pytest.raises(ValueError, match="80 characters"):
        sudoku.parse_puzzle_line(HARD[:-1])
    with pytest.raises(ValueError, match="'x' at character 3"):
        sudoku.parse_puzzle_line(HARD[:2] + "x" + HARD[3:])
    with pytest.raises(ValueError, match="does not solve"):
        sudoku.parse_puzzle_line(f"{HARD},{HARD_SOLUTION[::-1]}")


@pytest.mark.parametrize("text", ["", "812753649", "1" * 81, "\n".join(["12345678."] * 9), "\n".join(["1"] * 9)])
def test_answers_of_another_shape_are_none(text: str) -> None:
    assert sudoku.parse_solution(text) is None


# --- score ----------------------------------------------------------------------------------------------------------


def test_score_of_right_wrong_and_clue_breaking_answers() -> None:
    puzzle, solution = board(HARD), board(HARD_SOLUTION)
    right = sudoku.score_board(puzzle, sudoku.format_solution(solution))
    assert right == {"solved": True, "cell_accuracy": 1.0, "clues_kept": 1.0, "bucket": "<30"}

    one_off = solution.copy()
    one_off[1] = one_off[1] % 9 + 1  # a blank cell
    result = sudoku.score_board(puzzle, sudoku.format_solution(one_off), solution)
    assert not result["solved"] and result["cell_accuracy"] == 80 / 81 and result["clues_kept"] == 1.0

    relabelled = solution % 9 + 1  # a valid grid that breaks every given
    assert sudoku.is_valid_solution(relabelled)
    result = sudoku.score_board(puzzle, sudoku.format_solution(relabelled))
    assert not result["solved"] and result["clues_kept"] == 0.0 == result["cell_accuracy"]


def test_another_solution_of_an_ambiguous_puzzle_counts() -> None:
    empty = np.zeros(81, np.uint8)
    assert sudoku.score_board(empty, sudoku.format_solution(board(HARD_SOLUTION)))["solved"]


@pytest.mark.parametrize(("givens", "name"), [(60, ">=40"), (40, ">=40"), (39, "36-39"), (36, "36-39"), (35, "30-35"),
                                              (30, "30-35"), (29, "<30"), (17, "<30")])  # fmt: skip
def test_buckets(givens: int, name: str) -> None:
    assert sudoku.bucket(givens) == name


def test_generate_draws_from_the_half_asked(bank: SeedBank) -> None:
    known = {half: set(fingerprints(getattr(bank, half).solutions)) for half in ("train", "test")}
    for half in ("train", "test"):
        example = sudoku.generate(np.random.default_rng(3), half, bank)
        grid = np.array([example.meta["solution"]], np.uint8)
        assert fingerprints(grid)[0] in known[half]
        assert sudoku.score(example, example.answer)["solved"]
