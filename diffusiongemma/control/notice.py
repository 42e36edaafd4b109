"""What users are told of a structure that is kept, but not as they may think."""

from __future__ import annotations

from dataclasses import dataclass

CHARS_A_TOKEN = 8  # more than most tokens hold, and the most that one counts for where counts are taken in steps


@dataclass(frozen=True)
class Notice:
    """A part of it constrains nothing, or less is written than it allows. That matters to answers of more than `beyond`
    tokens; others could not hold more anyway."""

    text: str
    beyond: int = 0
