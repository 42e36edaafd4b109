"""`Run`: all that decides how a training goes. Presets are runs; every field has a name, such as `objective.draws`."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from diffusiongemma.errors import InputError
from diffusiongemma.train.config import DataConfig, TrainConfig
from diffusiongemma.train.objective import Objective
from diffusiongemma.train.rollouts import Rollouts
from diffusiongemma.weights.lora import LoraConfig

PARTS: dict[str, type] = {
    "train": TrainConfig,
    "objective": Objective,
    "rollouts": Rollouts,
    "lora": LoraConfig,
    "data": DataConfig,
}
OPTIONAL = ("rollouts", "lora")
NONE = "none"
KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}


@dataclass(frozen=True)
class Run:
    """How long and how fast, towards what, on whose canvases, which weights (None: all), and on how much at a time."""

    train: TrainConfig = field(default_factory=TrainConfig)
    objective: Objective = field(default_factory=Objective)
    rollouts: Rollouts | None = None
    lora: LoraConfig | None = None
    data: DataConfig = field(default_factory=DataConfig)

    def changed(self, changes: Mapping[str, Any]) -> Run:
        """This run with fields in another state: {"train.steps": 100, "lora.rank": 4, "rollouts": None}.

        A field of a part that is None turns the part on, its other fields as they are by default. Raises `InputError`
        for a value out of range.
        """
        parts: dict[str, Any] = {}
        for part, kind in PARTS.items():
            mine = {name.partition(".")[2]: x for name, x in changes.items() if name.startswith(f"{part}.")}
            before = None if part in changes else getattr(self, part)
            parts[part] = _replaced(part, before or kind(), mine) if mine else before
        return Run(**parts)


def _replaced(part: str, before: Any, changes: dict[str, Any]) -> Any:
    try:
        return replace(before, **changes)
    except InputError as error:
        if error.option is None:
            raise
        raise InputError(f"{part}.{error.option} is {error.got!r}: {error.message}") from None


@cache
def field_types() -> dict[str, Any]:
    """Name → type of all that `parse_changes` can set."""
    found: dict[str, Any] = {}
    for part, kind in PARTS.items():
        hints = get_type_hints(kind)
        found |= {f"{part}.{f.name}": hints[f.name] for f in fields(kind) if _readable(hints[f.name])}
    return found


def _readable(kind: Any) -> bool:
    return kind in KINDS or (bool(get_args(kind)) and all(k in (*KINDS, type(None), ...) for k in get_args(kind)))


def parse_changes(texts: Sequence[str]) -> dict[str, Any]:
    """["objective.draws=2", "rollouts=none"] → {"objective.draws": 2, "rollouts": None}; the last of a name counts.

    Raises `InputError` for an unknown name, telling all there are, and for a value that is not of the field's type.
    """
    changes: dict[str, Any] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if name in OPTIONAL and value == NONE:
            changes[name] = None
        elif name in field_types() and equals:
            changes[name] = _parse(name, value)
        else:
            names = [*field_types(), *(f"{part}={NONE}" for part in OPTIONAL)]
            raise InputError(f"--set {text}: write NAME=VALUE with one of the names {', '.join(names)}")
    return changes


def _parse(name: str, text: str) -> Any:
    kind = field_types()[name]
    options = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    if text == NONE and type(None) in options:
        return None
    one = next(option for option in options if option is not type(None))
    try:
        if get_origin(one) is tuple:
            values = text.split(",")
            kinds = get_args(one)
            kinds = kinds[:1] * len(values) if kinds[-1] is ... else kinds
            return tuple(_value(of, value.strip()) for of, value in zip(kinds, values, strict=True))
        return _value(one, text)
    except ValueError:
        word = KINDS.get(one, f"{len(get_args(one))} values with a comma between")
        raise InputError(f"--set {name}={text}: give {word}{' or none' if len(options) > 1 else ''}") from None


def _value(kind: type, text: str) -> Any:
    if kind is bool:
        if text not in ("true", "false"):
            raise ValueError
        return text == "true"
    return kind(text)
