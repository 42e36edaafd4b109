"""`sudoku`, and prompts of `run` that are one."""

from __future__ import annotations

import json
import os
import sys

import pytest

import diffusiongemma as dg
from diffusiongemma.tasks.sudoku import format_puzzle, is_valid_solution, parse_puzzle_line, parse_solution

pytest_plugins = ["cli_fixtures"]
EASY = "5.73.94..32..5..9..6.24...5283..45.7.915728.667.13824.952.6.781.3.8.7..4.4.9..62."
PUZZLE = parse_puzzle_line(EASY)[0]
ZEROS = "\n".join(EASY[i : i + 9].replace(".", "0") for i in range(0, 81, 9))


@pytest.fixture(scope="module")
def nano() -> dg.DiffusionGemma:
    return dg.load("nano")


def is_solved(text: str) -> bool:
    board = parse_solution(text)
    return board is not None and is_valid_solution(board, PUZZLE)


def test_a_sudoku_in_any_spelling_is_solved_and_judged(cli, tmp_path):
    drawn = tmp_path / "mine.txt"
    drawn.write_text("my puzzle\r\n\r\n" + ZEROS.replace("0", "_ ").replace("\n", "\r\n"))
    answers = [cli("sudoku", drawn), cli("sudoku", EASY), cli("sudoku", "-", stdin=ZEROS.encode())]
    for done in answers:
        assert is_solved(done.out) == (done.code == 0) == ("✓ solved" in done.err)
    assert len({done.out for done in answers}) == 1, "the same board, the same answer"
    assert answers[0].code == 0, "an easy one"


@pytest.mark.parametrize("text", [EASY[:-1], EASY + ".", EASY[:40]])
def test_a_board_of_too_few_or_many_cells_is_no_missing_file(cli, text):
    done = cli("sudoku", text)
    assert done.code == 2 and f"it has {len(text)} cells, and a board has 81" in done.err


def test_a_model_that_cannot_says_where_and_ends_with_one(cli, model):
    """The givens stand, whatever the model."""
    done = cli("sudoku", EASY, *model, "--steps", 2)
    assert done.code == 1 and "✗ not solved" in done.err and "was not taught sudoku" in done.err


def test_givens_are_held(nano):
    from diffusiongemma.cli.sudoku import held

    board = [int(c) for c in ZEROS if c.isdigit()]
    text = nano.generate(format_puzzle(PUZZLE), steps=1, seed=3, verify="never", **held(nano, board)).text
    assert all(text[cell + cell // 9] == str(given) for cell, given in enumerate(board) if given)


@pytest.mark.parametrize(
    "puzzle, said",
    [("55" + EASY[2:], "the 5 at row 1, column 1 stands twice"), ("." * 81, "several solutions")],
)
def test_puzzles_without_one_solution_are_told(cli, puzzle, said):
    done = cli("sudoku", puzzle, "--steps", 4)
    assert said in done.err and (done.code == 1 or "several" in said)


def test_json_is_one_object_a_puzzle(cli):
    lines = cli("sudoku", "-", "--json", stdin=f"puzzle\n{EASY}\n{'5' + EASY[:80]}\n".encode())
    first, second = map(json.loads, lines.out.splitlines())
    assert first["puzzle"] == EASY.replace(".", "0") and first["solved"] == is_solved(first["text"])
    assert not second["solved"] and "no solution" in second["verdict"] and lines.code == 1 and lines.err == ""


def test_what_is_no_sudoku_is_a_mistake(cli, tmp_path):
    file = tmp_path / "letter.txt"
    file.write_text("Dear Ann")
    done = cli("sudoku", file)
    assert done.code == 2 and "no sudoku found" in done.err and "FILE" in done.err


def test_run_reads_a_sudoku_prompt_where_the_model_was_taught_it(cli, model):
    done = cli("run", "Please solve this:\n" + ZEROS)
    assert is_solved(done.out) == ("✓ solved" in done.err) and "read as a sudoku with 48 givens" in done.err
    untaught = cli("run", "Please solve this:\n" + ZEROS, *model, "--steps", 2)
    assert "sudoku" not in untaught.err


def test_nothing_given_is_the_demonstration(cli, monkeypatch):
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        done = cli("sudoku", "--seed", 0)
    assert ("✓" in done.err) == (done.code == 0) and len(done.out.split()) == 9


def test_a_checkpoint_keeps_what_it_was_taught(nano, tmp_path):
    assert "sudoku" in nano.skills
    nano.save_pretrained(tmp_path / "copy")
    assert dg.load(tmp_path / "copy").skills == nano.skills
    assert dg.load("nano-base").skills == ()
