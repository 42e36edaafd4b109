"""The questions of a decision: what may be asked, how the model is asked it, and the labels it answers with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diffusiongemma.errors import InputError

TYPES = ("noul", "choice", "score")
FIELDS = ("type", "instructions", "criteria")
FEWEST, MOST_LEVELS, MOST_LABELS, MOST_QUESTIONS = 2, 10, 256, 64


@dataclass(frozen=True)
class Question:
    """`labels` are the texts that the model may answer, `keys` what each of them is called in the answer, `criteria`
    what is said of each ("" for nothing)."""

    name: str
    type: str
    instructions: str
    labels: tuple[str, ...]
    keys: tuple[str, ...]
    criteria: tuple[str, ...]

    @classmethod
    def of(cls, name: str, asked: Any) -> Question:
        """From its object on the wire. Raises `InputError` for what cannot be asked."""
        if not isinstance(asked, Mapping):
            raise _refusal(name, "give an object with `type` and `instructions`")
        if unknown := [field for field in asked if field not in FIELDS]:
            raise _refusal(name, f"{unknown[0]!r} is not known here, leave it out: known are {', '.join(FIELDS)}")
        kind, instructions = asked.get("type"), asked.get("instructions")
        if kind not in TYPES:
            raise _refusal(name, f"there is no type {kind!r}: give noul, choice or score")
        if not isinstance(instructions, str) or not instructions.strip():
            raise _refusal(name, "its instructions are empty: say what is to be decided")
        read = {"noul": _noul, "choice": _choice, "score": _score}[kind]
        question = cls(name, kind, instructions, *read(name, asked.get("criteria")))
        if any(not _is_text(text) for text in (instructions, *question.labels, *question.criteria)):
            raise _refusal(name, "half a surrogate pair is no character: convert it first")
        return question

    @property
    def legend(self) -> dict[str, str] | None:
        """What each level of a score stands for."""
        return dict(zip(self.keys, self.criteria, strict=True)) if self.type == "score" else None

    def message(self, state: str) -> str:
        """As a user asks it; the state comes first, so that questions about the same one begin alike."""
        said = zip(self.labels, self.criteria, strict=True)
        lines = [f"{label}: {criterion}" for label, criterion in said if criterion]
        shown = ", ".join(self.labels[:-1]) + f" or {self.labels[-1]}"
        asked = {"noul": "Answer yes or no.", "choice": f"Choose one: {shown}", "score": f"Score: {shown}?"}
        parts = [state, "\n".join([self.instructions, *lines, asked[self.type]])]
        return "\n\n".join(part for part in parts if part)


def questions_of(asked: Any) -> list[Question]:
    """Raises `InputError` for what cannot be asked."""
    if not isinstance(asked, Mapping) or not all(isinstance(name, str) for name in asked):
        raise InputError("give an object with a question under each name", option="questions")
    if not 1 <= len(asked) <= MOST_QUESTIONS:
        raise InputError(f"there are {len(asked)}: give 1 to {MOST_QUESTIONS}", option="questions")
    return [Question.of(name, question) for name, question in asked.items()]


def state_text(state: Any) -> str:
    """What is decided about: a text as it is, anything else as JSON. Raises `InputError`."""
    try:
        text = state if isinstance(state, str) else json.dumps(state, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"it can't be written as JSON: {error}", option="state") from error
    if not _is_text(text):
        raise InputError("half a surrogate pair is no character: convert it first", option="state")
    return text


Parts = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]  # labels, keys, criteria


def _noul(name: str, criteria: Any) -> Parts:
    said = {} if criteria is None else criteria
    if not isinstance(said, Mapping) or not set(said) <= {"true", "false"}:
        raise _refusal(name, "its criteria are an object with true and false: name these, or leave it out")
    return ("Yes", "No"), ("true", "false"), _texts(name, [said.get("true"), said.get("false")])


def _choice(name: str, criteria: Any) -> Parts:
    if not isinstance(criteria, Mapping) or not all(isinstance(label, str) for label in criteria):
        raise _refusal(name, "its criteria are an object: give each label with what it stands for")
    labels = tuple(criteria)
    if not FEWEST <= len(labels) <= MOST_LABELS:
        raise _refusal(name, f"it has {len(labels)} labels: give {FEWEST} to {MOST_LABELS}")
    if "" in labels:
        raise _refusal(name, "an empty label can't be told from no answer: give every label some text")
    return labels, labels, _texts(name, criteria.values())


def _score(name: str, criteria: Any) -> Parts:
    if isinstance(criteria, str) or not isinstance(criteria, Sequence):
        raise _refusal(name, "its criteria are a list: give a text for each level, the lowest first")
    if not FEWEST <= len(criteria) <= MOST_LEVELS:
        raise _refusal(name, f"it has {len(criteria)} levels: give {FEWEST} to {MOST_LEVELS}")
    numbers = tuple(str(level) for level in range(len(criteria)))
    return numbers, numbers, _texts(name, criteria)


def _texts(name: str, criteria: Any) -> tuple[str, ...]:
    texts = tuple("" if text is None else text for text in criteria)
    if not all(isinstance(text, str) for text in texts):
        raise _refusal(name, "a criterion is no text: write what it means")
    return texts


def _is_text(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _refusal(name: str, message: str) -> InputError:
    return InputError(f"of {name[:100]!r}: {message}", option="questions")
