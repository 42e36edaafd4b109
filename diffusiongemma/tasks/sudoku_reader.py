"""Sudoku boards in the spellings that people have them in: nine lines, one line, CSV, Kaggle's files, drawn grids.

A blank is a dot, a zero, `_`, `x`, `?`, `*`, `-` and the like, a space in its column or an empty field. Lines that hold
no part of a board are skipped. Nothing heavy is imported here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from diffusiongemma.tasks.sudoku_solver import CELLS, UNIT_CELLS, solve

BLANKS = ".0_xX?*#-·•∙□☐⬜▢"
_CELL = f"0-9{re.escape(BLANKS)}"
_RULE = re.compile(r"[-=+|:_.*#~\s\u2500-\u257f]*")  # between the rows of a drawn grid; \u2500: box drawing
_BARS = re.compile("[|!¦\u2500-\u257f]")
_WHOLE = re.compile(rf"(?<![{_CELL}\w])[{_CELL}]{{{CELLS}}}(?![{_CELL}\w])")
_LOOSE = re.compile(rf"[{_CELL}\s,;|\[\]]+")
_WIDE = str.maketrans("０１２３４５６７８９．，；｜？＊＿\u3000\u00a0", "0123456789.,;|?*_  ")
_MOST_WORDS = 200  # characters beside the board, in a text that is nothing else than a sudoku to solve

Board = list[int]  # 81 digits row by row, 0 for a blank


def read_boards(text: str) -> Iterator[Board]:
    """The boards of a text, in their order; of a line with several (puzzle and solution) the one with most blanks."""
    found = False
    rows: list[Board] = []
    lines = text.removeprefix("\ufeff").translate(_WIDE).splitlines()
    for line in lines:
        if (whole := _whole_board(line)) is not None:
            found, rows = True, []
            yield whole
        elif (row := _row(line)) is not None:
            rows.append(row)
            if len(rows) == 9:
                found = True
                yield [digit for one in rows for digit in one]
                rows = []
        elif not _RULE.fullmatch(line):
            rows = []
    if not found and (loose := _by_columns(lines) or _loose(lines)) is not None:
        yield loose


def read_board(text: str) -> Board | None:
    """The first board of a text, None where there is none."""
    return next(read_boards(text), None)


def cells_in(text: str) -> int:
    """How many cells a text has that is made of nothing else; 0 for any other."""
    cells = re.sub(r"[\s|,;]", "", text)
    return len(cells) if re.fullmatch(rf"[{_CELL}]+", cells) else 0


def sudoku_of(prompt: str) -> Board | None:
    """The board of a prompt that is a sudoku to solve and little else; None for any other."""
    boards = list(read_boards(prompt))
    words = re.sub(rf"[{_CELL}\s]", "", prompt)
    return boards[0] if len(boards) == 1 and len(words) <= _MOST_WORDS else None


def _digits(cells: Iterable[str]) -> Board:
    return [int(cell) if cell in "123456789" else 0 for cell in cells]


def _whole_board(line: str) -> Board | None:
    """81 cells in one line, or in one field of it, spaces between them or not."""
    found = _WHOLE.findall(line)
    if not found and _LOOSE.fullmatch(line):
        found = [cells for cells in [re.sub(r"[\s|\[\]]", "", line)] if _WHOLE.fullmatch(cells)]
        found = found or [cells for cells in [re.sub(r"[\s|,;\[\]]", "", line)] if _WHOLE.fullmatch(cells)]
    if not found:
        return None
    return min(map(_digits, found), key=lambda board: sum(digit > 0 for digit in board))


def _row(line: str) -> Board | None:
    """Nine cells: one after the other, with anything usual between them, or as fields of which some are empty."""
    line = line.strip("\r\n")
    cells = re.sub(r"[\s\"'\[\]]", "", _BARS.sub("", line))
    for between in ("", ",;"):
        packed = cells.translate(dict.fromkeys(map(ord, between)))
        if re.fullmatch(rf"[{_CELL}]{{9}}", packed) and not (packed == "-" * 9 and "+" not in cells and _is_rule(line)):
            return _digits(packed)
    return next((row for mark in ",;\t|" if (row := _fields(line, mark)) is not None), None)


def _is_rule(line: str) -> bool:
    """Dashes that divide boxes rather than stand for blanks: longer than a row, or with bars or crosses in it."""
    return bool(_RULE.fullmatch(line)) and (len(line.strip()) != 9 or bool(_BARS.search(line)))


def _fields(line: str, mark: str) -> Board | None:
    fields = [field.strip().strip("\"'") for field in _BARS.sub(mark, line).strip("[] ").split(mark)]
    if mark == "|":
        fields = fields[1 if line.lstrip()[:1] in "|│║┃" else 0 :]
        fields = fields[:-1] if len(fields) == 10 and not fields[-1] else fields
    empty = [field == "" for field in fields]
    if len(fields) != 9 or all(empty) or not all(re.fullmatch(rf"[{_CELL}]?", field) for field in fields):
        return None
    return _digits(field or "." for field in fields)


def _by_columns(lines: Sequence[str]) -> Board | None:
    """Nine lines in which a space is a blank: nine columns, or seventeen with a space between two of them."""
    drawn = [line.rstrip("\r\n") for line in lines if not (line.strip() and _RULE.fullmatch(line))]
    for start in range(len(drawn) - 8):
        block = [_in_columns(line) for line in drawn[start : start + 9]]
        if all(row is not None for row in block) and any(any(row) for row in block if row):
            return [digit for row in block if row for digit in row]
    return None


def _in_columns(line: str) -> Board | None:
    boxes = [box for box in _BARS.split(line)]
    if len(boxes) == 5 and not boxes[0].strip() and not boxes[-1].strip():
        boxes = boxes[1:-1]
    if len(boxes) == 4 and not (boxes[0].strip() and boxes[-1].strip()):
        boxes = boxes[:-1] if not boxes[-1].strip() else boxes[1:]
    if len(boxes) == 3:
        parts = [_box(box) for box in boxes]
        cells = "".join(part for part in parts if part is not None) if None not in parts else "-" * 99
    else:
        cells = line if len(line) <= 9 else line[::2] if not line[1::2].strip() else line
    return _digits(cells.ljust(9)) if re.fullmatch(rf"[{_CELL} ]{{0,9}}", cells) else None


def _box(text: str) -> str | None:
    """Three cells: `5 3` in three columns, or in five to seven with spaces between them."""
    if len(text) <= 3:
        return text.ljust(3)
    first = 1 if len(text) == 7 else 0
    spread = text[first::2][:3]
    return spread.ljust(3) if len(text) <= 7 and not text[1 - first :: 2].strip() else None


def _loose(lines: Sequence[str]) -> Board | None:
    """81 cells over any number of lines that hold nothing else."""
    cells = "".join(re.sub(r"[\s,;|\[\]]", "", line) for line in lines if _LOOSE.fullmatch(line) and not _is_rule(line))
    return _digits(cells) if len(cells) == CELLS else None


# --- what can be said of a board ------------------------------------------------------------------------------------


def place(cell: int) -> str:
    return f"row {cell // 9 + 1}, column {cell % 9 + 1}"


def clashes(board: Sequence[int]) -> list[int]:
    """Cells whose digit stands twice in a row, column or box."""
    wrong = set()
    for unit in UNIT_CELLS:
        for cell in unit:
            if board[cell] and any(board[other] == board[cell] for other in unit if other != cell):
                wrong.add(cell)
    return sorted(wrong)


def about_puzzle(board: Sequence[int]) -> str:
    """ "" for a puzzle with one solution, else what is wrong with it, in a sentence."""
    if twice := clashes(board):
        return f"no solution: the {board[twice[0]]} at {place(twice[0])} stands twice in a row, column or box"
    found = solve(board, limit=2)
    return "" if len(found) == 1 else "several solutions: any of them counts" if found else "no solution"


def about_answer(puzzle: Sequence[int], answer: Sequence[int] | None) -> str:
    """ "" for a solution of the puzzle, else where it is wrong."""
    if answer is None or not all(answer):
        return "this is not nine lines of nine digits"
    changed = [cell for cell, given in enumerate(puzzle) if given and answer[cell] != given]
    if changed:
        return f"the given {puzzle[changed[0]]} at {place(changed[0])} was changed"
    twice = clashes(answer)
    if not twice:
        return ""
    where = " and ".join(place(cell) for cell in [c for c in twice if answer[c] == answer[twice[0]]][:2])
    return f"{len(twice)} cells clash, the first with two {answer[twice[0]]}s: {where}"
