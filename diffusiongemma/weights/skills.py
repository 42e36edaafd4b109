"""What a checkpoint was taught, as `skills.json` beside its weights says: a list of names of `tasks`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

SKILLS = "skills.json"
IMAGES, SUDOKU_PICTURES = "images", "sudoku-pictures"


def sees(skills: Sequence[str]) -> bool:
    """Whether a model with a vision tower and these skills was taught to use it: it says so, or says nothing."""
    return not skills or IMAGES in skills or SUDOKU_PICTURES in skills


def sees_sudokus_alone(skills: Sequence[str]) -> bool:
    """Whether pictures of sudokus are all that it was taught to see."""
    return SUDOKU_PICTURES in skills and IMAGES not in skills


def load_skills(directory: Path) -> tuple[str, ...]:
    """None for a checkpoint that does not say."""
    try:
        told = json.loads((directory / SKILLS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()
    return tuple(skill for skill in told if isinstance(skill, str)) if isinstance(told, list) else ()


def add_skill(directory: Path, skill: str) -> None:
    """Note that the checkpoint in `directory` was taught it."""
    skills = sorted({*load_skills(directory), skill})
    (directory / SKILLS).write_text(json.dumps(skills) + "\n", encoding="utf-8")
