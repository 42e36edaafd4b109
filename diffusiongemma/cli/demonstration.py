"""What `run` and `sudoku` do when they are given nothing to do."""

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
