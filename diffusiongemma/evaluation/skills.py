"""The tasks whose answers can be checked: which figures count and what the questions are grouped by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from diffusiongemma.evaluation.questions import Question, Suite
from diffusiongemma.tasks import TASKS, Example

_TRIES = 50  # draws per question wanted, before a task is taken to have no more different ones


@dataclass(frozen=True)
class Skill:
    """How a task is reported: the figures of its score, and the entry of `meta` that groups its examples."""

    figures: tuple[str, ...]
    grouping: str
    room: int  # tokens; the longest answers seen have half as many in the embedded model's tokenizer


SKILLS = {
    "extraction": Skill(("exact", "valid_json", "fields"), "style", 256),
    "repair": Skill(("exact", "over_correction"), "edit", 192),
    "words": Skill(("exact",), "kind", 96),
    "answers": Skill(("exact", "overlap"), "kind", 96),
}


def skill_suite(name: str, n: int, seed: int) -> Suite:
    """`n` different questions of a task's test half; fewer where it has no more."""
    skill, task = SKILLS[name], TASKS[name]
    examples = _different(partial(task.generate, split="test"), n, np.random.default_rng(seed))
    questions = [
        Question(e.prompt, e.answer, partial(task.score, e), str(e.meta[skill.grouping]), _structure(e))
        for e in examples
    ]
    notes = () if len(questions) == n else (f"the test half has {len(questions)} different questions, not {n}",)
    return Suite(name, questions, skill.figures, skill.grouping, skill.room, notes)


def _structure(example: Example) -> dict[str, Any]:
    """The shape that the question asks for, where the task states one."""
    return {"json_schema": example.meta["schema"]} if "schema" in example.meta else {}


def _different(draw: Callable[[np.random.Generator], Example], n: int, rng: np.random.Generator) -> list[Example]:
    """Up to `n` examples with different prompts: asking the same twice would make the intervals too narrow."""
    found: dict[str, Example] = {}
    for _ in range(_TRIES * n):
        if len(found) == n:
            break
        example = draw(rng)
        found.setdefault(example.prompt, example)
    return list(found.values())
