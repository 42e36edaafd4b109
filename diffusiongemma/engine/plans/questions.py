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
    what is said of each (None for nothing): texts, or anything that JSON can say, as `instructions` may be."""

    name: str
    type: str
    instructions: Any
    labels: tuple[str, ...]
    keys: tuple[str, ...]
    criteria: tuple[Any, ...]

    @classmethod
    def of(cls, name: str, asked: Any) -> Question:
        """From its object on the wire. Raises `InputError` for what cannot be asked."""
        if not isinstance(asked, Mapping):
            raise InputError("give an object with `type` and `instructions`")
        if unknown := [field for field in asked if field not in FIELDS]:
            raise InputError(f"{unknown[0]!r} is not known here, leave it out: known are {', '.join(FIELDS)}")
        kind, instructions = asked.get("type"), asked.get("instructions")
        if kind not in TYPES:
            raise InputError(f"there is no type {kind!r}: give noul, choice or score")
        read = {"noul": _noul, "choice": _choice, "score": _score}[kind]
        question = cls(name, kind, instructions, *read(asked.get("criteria")))
        said = [_said(content) for content in (instructions, *question.labels, *question.criteria)]
        if kind == "noul" and not (said[0].strip() or any(said[3:])):
            raise InputError("its instructions are empty: say what is to be decided")
        return question

    @property
    def legend(self) -> dict[str, Any] | None:
        """What each level of a score stands for."""
        return dict(zip(self.keys, self.criteria, strict=True)) if self.type == "score" else None

    def message(self, state: str) -> str:
        """As a user asks it; the state comes first, so that questions about the same one begin alike."""
        said = zip(self.labels, (content_text(criterion) for criterion in self.criteria), strict=True)
        lines = [f"{label}: {criterion}" for label, criterion in said if criterion]
        shown = ", ".join(self.labels[:-1]) + f" or {self.labels[-1]}"
        asked = {"noul": "Answer yes or no.", "choice": f"Choose one: {shown}", "score": f"Score: {shown}?"}
        question = [content_text(self.instructions), *lines, asked[self.type]]
        return "\n\n".join(part for part in (state, "\n".join(filter(None, question))) if part)


def questions_of(asked: Any) -> list[Question]:
    """Raises `InputError` for what cannot be asked."""
    if not isinstance(asked, Mapping) or not all(isinstance(name, str) for name in asked):
        raise InputError("give an object with a question under each name", option="questions")
    if not 1 <= len(asked) <= MOST_QUESTIONS:
        raise InputError(f"there are {len(asked)}: give 1 to {MOST_QUESTIONS}", option="questions")
    return [_question(name, question) for name, question in asked.items()]


def _question(name: str, asked: Any) -> Question:
    try:
        return Question.of(name, asked)
    except InputError as error:
        raise InputError(f"of {name[:100]!r}: {error.message}", option="questions") from None


def state_text(state: Any) -> str:
    """What is decided about: a text as it is, anything else as JSON. Raises `InputError`."""
    try:
        return "null" if state is None else content_text(state)
    except ValueError as error:
        raise InputError(str(error), option="state") from error


def content_text(content: Any) -> str:
    """A text as it is, anything else as JSON, "" for None. Raises `ValueError`."""
    try:
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"it can't be written as JSON: {error}") from error
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError("half a surrogate pair is no character: convert it first")
    return "" if content is None else text


Parts = tuple[tuple[str, ...], tuple[str, ...], tuple[Any, ...]]  # labels, keys, criteria


def _noul(criteria: Any) -> Parts:
    said = {} if criteria is None else criteria
    if not isinstance(said, Mapping) or not set(said) <= {"true", "false"}:
        raise InputError("its criteria are an object with true and false: name these, or leave it out")
    return ("Yes", "No"), ("true", "false"), (said.get("true"), said.get("false"))


def _choice(criteria: Any) -> Parts:
    if not isinstance(criteria, Mapping) or not all(isinstance(label, str) for label in criteria):
        raise InputError("its criteria are an object: give each label with what it stands for")
    labels = tuple(criteria)
    if not FEWEST <= len(labels) <= MOST_LABELS:
        raise InputError(f"it has {len(labels)} labels: give {FEWEST} to {MOST_LABELS}")
    if "" in labels:
        raise InputError("an empty label can't be told from no answer: give every label some text")
    return labels, labels, tuple(criteria.values())


def _score(criteria: Any) -> Parts:
    if isinstance(criteria, str) or not isinstance(criteria, Sequence):
        raise InputError("its criteria are a list: give a text for each level, the lowest first")
    if not FEWEST <= len(criteria) <= MOST_LEVELS:
        raise InputError(f"it has {len(criteria)} levels: give {FEWEST} to {MOST_LEVELS}")
    numbers = tuple(str(level) for level in range(len(criteria)))
    return numbers, numbers, tuple(criteria)


def _said(content: Any) -> str:
    try:
        return content_text(content)
    except ValueError as error:
        raise InputError(str(error)) from error
