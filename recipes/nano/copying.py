"""Texts, strings and small tables to write out once more: the plainest short instruction there is.

To repeat what stands in the prompt, line by line, is also the first thing that any task with a long answer needs.
"""

from __future__ import annotations

import string

import numpy as np

ALPHABETS = (string.ascii_lowercase, string.ascii_uppercase, string.digits, string.digits + string.ascii_lowercase)
SEPARATORS = ("", "", " ", ", ")  # between the cells of a row
REQUESTS = ("Copy this:", "Repeat this:", "Write this once more:", "Say this again:")
MOST_CELLS = 72
PLACEHOLDERS = ".-_*"


def random_table(rng: np.random.Generator) -> str:
    """Rows of single characters, some of them a placeholder; one row makes a line."""
    rows = int(rng.integers(1, 11))
    columns = int(rng.integers(1, min(12, MOST_CELLS // rows) + 1))
    alphabet = ALPHABETS[int(rng.integers(len(ALPHABETS)))]
    separator = SEPARATORS[int(rng.integers(len(SEPARATORS)))] if rows * columns <= MOST_CELLS // 2 else ""
    cells = rng.choice(list(alphabet), (rows, columns))
    blank = rng.random((rows, columns)) < rng.choice([0.0, 0.3, 0.6])
    cells = np.where(blank, PLACEHOLDERS[int(rng.integers(len(PLACEHOLDERS)))], cells)
    return "\n".join(separator.join(row) for row in cells)


def copying_pair(rng: np.random.Generator) -> tuple[str, str]:
    """(request with a table, the table)."""
    table = random_table(rng)
    return f"{REQUESTS[int(rng.integers(len(REQUESTS)))]}\n{table}", table
