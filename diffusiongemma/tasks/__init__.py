"""Checkable skills to train and to measure: each task module makes examples and scores answers.

`TASKS[name].generate(rng, split)` → `Example(prompt, answer, meta)`, the same for the same generator state, with
train and test disjoint; `TASKS[name].score(example, text)` → a dictionary of figures.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

import numpy as np

from diffusiongemma.tasks import answers, extraction, repair, sudoku, words
from diffusiongemma.tasks.example import Example, Split, in_split


class Task(Protocol):
    """What a task module offers; some take further, optional arguments."""

    def generate(self, rng: np.random.Generator, split: Split) -> Example: ...

    def score(self, example: Example, text: str) -> dict[str, Any]: ...


TASKS: dict[str, Task] = {
    "sudoku": cast(Task, sudoku),
    "extraction": cast(Task, extraction),
    "repair": cast(Task, repair),
    "words": cast(Task, words),
    "answers": cast(Task, answers),
}

__all__ = ["TASKS", "Example", "Split", "Task", "in_split"]
