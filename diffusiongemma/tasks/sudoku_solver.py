"""Exact Sudoku solving on nine 81-bit boards, one per digit: bit c of board d says that cell c may still hold d + 1."""

from __future__ import annotations

import random
from collections.abc import Sequence

CELLS = 81
_ALL = (1 << CELLS) - 1


def _unit_cells() -> list[list[int]]:
    rows = [[9 * r + c for c in range(9)] for r in range(9)]
    columns = [[9 * r + c for r in range(9)] for c in range(9)]
    boxes = [[9 * (3 * (b // 3) + i // 3) + 3 * (b % 3) + i % 3 for i in range(9)] for b in range(9)]
    return rows + columns + boxes


UNIT_CELLS = _unit_cells()  # 27 lists of 9 cells: rows, columns, boxes
_UNITS = [sum(1 << c for c in unit) for unit in UNIT_CELLS]
# _NOT_PEERS[c]: every cell that may hold c's digit once c holds it (c itself included)
_NOT_PEERS = [
    _ALL & ~sum(1 << p for p in {p for unit in UNIT_CELLS if c in unit for p in unit if p != c}) for c in range(CELLS)
]


def solve(board: Sequence[int], limit: int = 2, rng: random.Random | None = None) -> list[list[int]]:
    """Solutions of a puzzle, at most `limit` of them; an empty list when there is none.

    `board` is 81 digits row by row, 0 for a blank. With `rng`, guesses are made in random order, so that an empty
    board with limit 1 gives a random full grid.
    """
    candidates = [_ALL] * 9
    for cell, digit in enumerate(board):
        if digit:
            candidates[digit - 1] &= _NOT_PEERS[cell]
    for cell, digit in enumerate(board):
        if digit:
            if not candidates[digit - 1] >> cell & 1:
                return []
            _fix(candidates, digit - 1, 1 << cell)
    found: list[list[int]] = []
    _search(candidates, 0, limit, rng, found)
    return found


def has_other_solution(board: Sequence[int], cell: int, digit: int) -> bool:
    """Whether a solvable puzzle has a solution in which `cell`, blank in `board`, does not hold `digit`."""
    candidates = [_ALL] * 9
    own = [0] * 9
    for other, value in enumerate(board):
        if value:
            candidates[value - 1] &= _NOT_PEERS[other]
            own[value - 1] |= 1 << other
    filled = sum(own)
    candidates = [board_d & ~filled | own_d for board_d, own_d in zip(candidates, own, strict=True)]
    candidates[digit - 1] &= ~(1 << cell)
    found: list[list[int]] = []
    _search(candidates, filled, 1, None, found)
    return bool(found)


def _fix(candidates: list[int], digit: int, cell_bit: int) -> None:
    """Cell holds `digit`: no other digit may stand there."""
    for other in range(9):
        if other != digit:
            candidates[other] &= ~cell_bit


def _search(candidates: list[int], placed: int, limit: int, rng: random.Random | None, found: list[list[int]]) -> None:
    """Depth-first search; `placed` are the cells whose digit has already been struck from their peers."""
    placed = _propagate(candidates, placed)
    if placed < 0:
        return
    if placed == _ALL:
        found.append(_digits(candidates))
        return
    cell_bit = _fewest_candidates(candidates, placed, rng)
    options = [digit for digit in range(9) if candidates[digit] & cell_bit]
    if rng is not None:
        rng.shuffle(options)
    for digit in options:
        branch = candidates.copy()
        _fix(branch, digit, cell_bit)
        _search(branch, placed, limit, rng, found)
        if len(found) >= limit:
            return


def _propagate(candidates: list[int], placed: int) -> int:
    """Places naked and hidden singles, in place, until nothing changes; returns the placed cells, -1 at a clash."""
    while True:
        some = several = 0
        for board in candidates:
            several |= some & board
            some |= board
        if some != _ALL:
            return -1
        fresh = some & ~several & ~placed
        if fresh:
            if not _strike_peers(candidates, fresh):
                return -1
            placed |= fresh
            continue
        if placed == _ALL:
            return placed
        hidden = _fix_hidden_singles(candidates, placed)
        if hidden < 0:
            return -1
        if not hidden:
            return placed


def _strike_peers(candidates: list[int], fresh: int) -> bool:
    for digit in range(9):
        board = candidates[digit]
        hits = board & fresh
        while hits:
            low = hits & -hits
            if not board & low:  # a peer placed a moment ago holds the same digit
                return False
            board &= _NOT_PEERS[low.bit_length() - 1]
            hits ^= low
        candidates[digit] = board
    return True


def _fix_hidden_singles(candidates: list[int], placed: int) -> int:
    """Digits with one place left in some row, column or box; the number fixed, -1 when a unit has no place for one."""
    fixed = 0
    for digit in range(9):
        board = candidates[digit]
        if not board & ~placed:
            continue
        for unit in _UNITS:
            places = board & unit
            if not places & (places - 1):
                if not places:
                    return -1
                if places & ~placed:
                    _fix(candidates, digit, places)
                    placed |= places
                    fixed += 1
    return fixed


def _fewest_candidates(candidates: list[int], placed: int, rng: random.Random | None) -> int:
    """One unplaced cell, as a bit, with as few candidates as any."""
    at_least = [_ALL] + [0] * 10  # at_least[k]: cells with k or more candidates
    for board in candidates:
        for k in range(9, 0, -1):
            at_least[k] |= at_least[k - 1] & board
    cells = next(exact for k in range(2, 10) if (exact := at_least[k] & ~at_least[k + 1] & ~placed))
    if rng is None:
        return cells & -cells
    return 1 << rng.choice([c for c in range(CELLS) if cells >> c & 1])


def _digits(candidates: list[int]) -> list[int]:
    solution = [0] * CELLS
    for digit, board in enumerate(candidates, start=1):
        while board:
            low = board & -board
            solution[low.bit_length() - 1] = digit
            board ^= low
    return solution
