"""What is asked, whatever the task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Question:
    """One thing to ask, an answer that is right, and the score of any answer."""

    prompt: str | list[int]  # one user message, or token ids to continue without chat markup
    wanted: str
    score: Callable[[str], dict[str, Any]]
    group: str
    # What is known of any right answer before it is given, as options of `DiffusionGemma.request`.
    structure: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """Questions whose scores have the same `figures`: shares and means in 0..1, the one that counts first."""

    name: str
    questions: list[Question]
    figures: tuple[str, ...]
    grouping: str  # what the questions' groups are: "givens", "edit", …
    room: int  # tokens that an answer may need
    notes: tuple[str, ...] = ()
    group_order: tuple[str, ...] = ()  # groups not named here follow by name
