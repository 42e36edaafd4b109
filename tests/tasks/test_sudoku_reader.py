"""Boards in every spelling that people have them in are the same board."""

from __future__ import annotations

import pytest

from diffusiongemma.tasks.sudoku_reader import about_answer, about_puzzle, clashes, read_board, read_boards, sudoku_of
from diffusiongemma.tasks.sudoku_solver import solve

ROWS = "53..7.... 6..195... .98....6. 8...6...3 4..8.3..1 7...2...6 .6....28. ...419..5 ....8..79".split()  # noqa: SIM905
LINE = "".join(ROWS)
BOARD = [int(c.replace(".", "0")) for c in LINE]
SOLUTION = solve(BOARD)[0]


def with_blank(blank: str) -> str:
    return "\n".join(ROWS).replace(".", blank)


def in_boxes(row: str, between: str = " ", bar: str = " | ") -> str:
    return bar.join(between.join(row[i : i + 3]) for i in (0, 3, 6))


def drawn(blank: str = ".", rule: str = "------+-------+------") -> str:
    rows = [in_boxes(row).replace(".", blank) for row in ROWS]
    return "\n".join([*rows[:3], rule, *rows[3:6], rule, *rows[6:]])


def framed(blank: str) -> str:
    rule = "+-------+-------+-------+"
    rows = ["| " + in_boxes(row).replace(".", blank) + " |" for row in ROWS]
    return "\n".join([rule, *rows[:3], rule, *rows[3:6], rule, *rows[6:], rule])


SOLVED = "".join(map(str, SOLUTION))
SPELLINGS = {
    **{f"blank {blank}": with_blank(blank) for blank in ".0_xX?*#-·□"},
    "one line": LINE,
    "one line of zeros": LINE.replace(".", "0"),
    "one line, spaces": " ".join(LINE),
    "quoted": f'"{LINE}"',
    "in three lines": "\n".join(LINE[i : i + 27] for i in (0, 27, 54)),
    "after words": "Please solve: " + LINE,
    "a line before": "Solve this sudoku:\n" + with_blank("."),
    "two lines before, one after": "Hello!\nCould you solve this?\n\n" + with_blank("_") + "\n\nThanks a lot.",
    "spaces between": "\n".join(" ".join(row) for row in ROWS),
    "CRLF": "\r\n".join(ROWS) + "\r\n",
    "empty lines": "\n\n".join(ROWS),
    "rules": drawn(),
    "rules of zeros": drawn("0"),
    "equals": drawn("_", "=" * 21),
    "dashes alone": drawn("?", "-" * 21),
    "eleven dashes": drawn(".", "---+---+---").replace(" ", ""),
    "framed": framed("."),
    "framed, spaces": framed(" "),
    "box drawing": framed(".").replace("|", "│").replace("-", "─").replace("+", "┼"),
    "doubled boxes": framed("0").replace("|", "║").replace("-", "═").replace("+", "╬"),
    "spaces for blanks": with_blank(" "),
    "spaces, ends cut off": "\n".join(line.rstrip() for line in with_blank(" ").splitlines()),
    "spaces in columns of two": "\n".join(" ".join(row.replace(".", " ")) for row in ROWS),
    "CSV": "\n".join(",".join(row.replace(".", "0")) for row in ROWS),
    "CSV, empty fields": "\n".join(",".join(row).replace(".", "") for row in ROWS),
    "CSV, semicolons": "\n".join(";".join(row).replace(".", "") for row in ROWS),
    "CSV, quoted": "\n".join(",".join(f'"{c}"' for c in row).replace(".", "") for row in ROWS),
    "tabs": "\n".join("\t".join(row).replace(".", "") for row in ROWS),
    "one line of CSV": ",".join(LINE.replace(".", "0")),
    "Kaggle": f"quizzes,solutions\n{LINE.replace('.', '0')},{SOLVED}\n",
    "Kaggle, quoted, CRLF": f'puzzle,solution\r\n"{LINE.replace(".", "0")}","{SOLVED}"\r\n',
    "Kaggle, 3 million": f"id,puzzle,solution,clues,difficulty\n1,{LINE},{SOLVED},30,0.0\n",
    "JSON": "[" + ",\n".join(str([int(c) for c in row.replace(".", "0")]) for row in ROWS) + "]",
    "JSON in one line": str([[int(c) for c in row.replace(".", "0")] for row in ROWS]),
    "Markdown": "\n".join("| " + " | ".join(row.replace(".", " ")) + " |" for row in ROWS),
    "Markdown, a rule": "\n".join(["|" + "---|" * 9, *("|" + "|".join(row.replace(".", " ")) + "|" for row in ROWS)]),
    "full width": with_blank(".").translate(str.maketrans("0123456789.", "０１２３４５６７８９．")),
    "indented": "\n".join("    " + row for row in ROWS),
    "a byte order mark": "\ufeff" + with_blank("."),
}  # fmt: skip


@pytest.mark.parametrize("text", SPELLINGS.values(), ids=SPELLINGS)
def test_every_spelling_is_the_same_board(text: str) -> None:
    assert read_board(text) == BOARD
    assert list(read_boards(text)) == [BOARD]


def test_rows_of_blanks_are_rows() -> None:
    """Dashes and underscores make rules too; nine of them where rows are spelt so are a row."""
    for blank in "._0-*?":
        rows = [row.replace(".", blank) for row in ROWS]
        rows[4] = blank * 9
        found = read_board("\n".join(rows))
        assert found is not None and found[36:45] == [0] * 9 and found[45:] == BOARD[45:], blank
    empty_middle = [*ROWS[:4], "", *ROWS[5:]]
    found = read_board("\n".join(row.replace(".", " ") for row in empty_middle))
    assert found is not None and found[36:45] == [0] * 9 and found[45:] == BOARD[45:]


def test_a_file_of_many_gives_them_in_order() -> None:
    other = LINE[::-1]
    assert list(read_boards(f"{LINE}\n{other}\n")) == [BOARD, BOARD[::-1]]
    assert list(read_boards(with_blank(".") + "\n\n" + "\n".join(ROWS).replace(".", "0")[::-1])) == [BOARD, BOARD[::-1]]


@pytest.mark.parametrize(
    "text",
    ["", "hello", "\n".join(ROWS[:8]), LINE[:80], LINE + "1", "1 2 3", "a table\n| a | b |\n|---|---|", "-" * 81 + "x"],
)
def test_what_is_no_board_is_none(text: str) -> None:
    assert read_board(text) is None


def test_a_prompt_about_something_else_is_not_taken_for_a_sudoku() -> None:
    assert sudoku_of("Solve this sudoku:\n" + with_blank("0")) == BOARD
    assert sudoku_of("Why is the sky blue?") is None
    assert sudoku_of("word " * 60 + "\n" + with_blank(".")) is None
    assert sudoku_of(f"{LINE}\n{LINE[::-1]}") is None


def test_puzzles_and_answers_are_judged_in_words() -> None:
    assert about_puzzle(BOARD) == "" and about_answer(BOARD, SOLUTION) == ""
    twice = [5, 5, *BOARD[2:]]
    assert clashes(twice) == [0, 1] and about_puzzle(twice).startswith("no solution: the 5 at row 1, column 1 ")
    assert about_puzzle([0] * 81).startswith("several solutions")
    blocked = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, *[0] * 71]
    blocked[:10] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert about_puzzle(blocked) == "no solution"
    assert about_answer(BOARD, None) == about_answer(BOARD, BOARD) == "this is not nine lines of nine digits"
    changed = [9 - SOLUTION[0], *SOLUTION[1:]]
    assert "the given 5 at row 1, column 1 was changed" in about_answer(BOARD, changed)
    swapped = SOLUTION[:]
    swapped[2], swapped[3] = swapped[3], swapped[2]
    assert "cells clash" in about_answer(BOARD, swapped)
