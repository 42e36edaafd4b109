"""What an option takes: kinds of values, each of which tells whether it takes one and names itself in a message."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

LARGEST_SEED = 2**64 - 1


@dataclass(frozen=True)
class Whole:
    """A whole number. `served`: the most that may be asked for over HTTP."""

    least: int = 0
    most: int | None = None
    served: int = 10_000

    def takes(self, value: Any) -> bool:
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        return whole and self.least <= value and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        most = "2**64 - 1" if self.most == LARGEST_SEED else self.most
        bounds = f"of at least {self.least}" if self.most is None else f"from {self.least} to {most}"
        return f"a whole number {bounds}"


@dataclass(frozen=True)
class Number:
    """A number from `least` to `most`, or above `above`; with `or_zero` also 0."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    or_zero: bool = False

    def takes(self, value: Any) -> bool:
        if not isinstance(value, Real) or isinstance(value, bool):
            return False
        number = float(value)  # comparisons with NaN are false
        within = (self.least is None or number >= self.least) and (self.most is None or number <= self.most)
        return (self.or_zero and number == 0) or (within and (self.above is None or number > self.above))

    def __str__(self) -> str:
        if self.above is not None:
            return f"a number above {self.above}"
        bounds = f"of at least {self.least}" if self.most is None else f"from {self.least} to {self.most}"
        return f"{'0, or ' if self.or_zero else ''}a number {bounds}"


@dataclass(frozen=True)
class Word:
    """One of a few words."""

    choices: tuple[str, ...]

    def takes(self, value: Any) -> bool:
        return value in self.choices

    def __str__(self) -> str:
        return f"{', '.join(self.choices[:-1])} or {self.choices[-1]}"


@dataclass(frozen=True)
class Rule:
    """A rule of decoding: any callable, or the name of one."""

    names: tuple[str, ...] = ()

    def takes(self, value: Any) -> bool:
        return callable(value) or (isinstance(value, str) and value.replace("_", "-") in self.names)

    def __str__(self) -> str:
        return ", ".join(self.names) or "a rule, which is called"


@dataclass(frozen=True)
class Ids:
    """Token ids."""

    def takes(self, value: Any) -> bool:
        return isinstance(value, (tuple, list)) and all(isinstance(token, int) for token in value)

    def __str__(self) -> str:
        return "token ids"


@dataclass(frozen=True)
class Switch:
    """True or False."""

    def takes(self, value: Any) -> bool:
        return isinstance(value, bool)

    def __str__(self) -> str:
        return "true or false"


@dataclass(frozen=True)
class Other:
    """What is looked at where it is used: texts, a schema, a mapping. `kind` only tells its type."""

    what: str
    kind: Callable[[Any], bool] = lambda _: True

    def takes(self, value: Any) -> bool:
        return self.kind(value)

    def __str__(self) -> str:
        return self.what


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def are_texts(value: Any) -> bool:
    """A single one is told apart, or taken, by whoever uses them."""
    several = isinstance(value, Collection) and not isinstance(value, (bytes, bytearray))
    return isinstance(value, str) or (several and all(isinstance(text, str) for text in value))


def is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def are_mappings(value: Any) -> bool:
    return isinstance(value, Sequence) and all(isinstance(one, Mapping) for one in value)


TEXT, TEXTS, SOME_TEXTS = Other("a text", is_text), Other("texts", are_texts), Other("at least one text", are_texts)
SCHEMA = Other("a JSON Schema")
MANY = (TEXTS, SOME_TEXTS)
Values = Whole | Number | Word | Rule | Ids | Switch | Other
