"""What `run` does when it is given nothing to do: a sudoku, and a look at whether the answer is right."""

from __future__ import annotations

# 33 givens, one solution, from seeds that training never sees.
PUZZLE = """\
753.....1
....9.35.
2.931....
.92..61..
6.4.2..3.
.....94..
145.8276.
3..17...5
.8......."""
PROMPT = "Solve this sudoku:\n" + PUZZLE


def verdict(answer: str) -> str:
    """One sentence on the answer to `PROMPT`."""
    from diffusiongemma.tasks.sudoku import is_valid_solution, parse_puzzle_line, parse_solution

    puzzle, _ = parse_puzzle_line(PUZZLE.replace("\n", ""))
    board = parse_solution(answer)
    if board is None:
        return "✗ this is not nine lines of nine digits: another --seed may do better"
    if not is_valid_solution(board, puzzle):
        return "✗ not a solution: another --seed may do better"
    return "✓ every row, column and box holds 1 to 9, and the givens are kept"
