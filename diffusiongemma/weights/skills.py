"""What a checkpoint was taught, as `skills.json` beside its weights says: a list of names, most of them of `tasks`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

SKILLS = "skills.json"
IMAGES, SUDOKU_PICTURES, SMALL_TALK = "images", "sudoku-pictures", "small-talk"
# What a model with it can do.
WORDS = {
    "sudoku": "solve sudokus",
    SUDOKU_PICTURES: "solve square pictures of them",
    "extraction": "find facts in a few sentences",
    "repair": "mend and change short texts",
    "answers": "answer simple questions",
    "sums": "do small sums",
    SMALL_TALK: "talk a little about itself",
}


def abilities(name: str, parameters: int, skills: Sequence[str]) -> str:
    """What a model is and can do, in two sentences; "" of one that does not say what it was taught."""
    if not skills:
        return ""
    size = f"{parameters / 1e6:.1f} million" if parameters < 1e9 else f"{parameters / 1e9:.0f} billion"
    *others, last = sorted((WORDS.get(skill, skill) for skill in skills), key=[*WORDS.values(), *skills].index)
    taught = f"{', '.join(others)} and {last}" if others else last
    rest = "says that it does not know, or makes something up" if SMALL_TALK in skills else "makes something up"
    return f"{name} has {size} parameters and was taught to {taught}. Whatever else you ask, it {rest}."


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
