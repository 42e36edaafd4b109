"""Shapes of values with nothing inside: null, true and false, strings and numbers."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from decimal import Context, Decimal
from functools import lru_cache
from math import lcm
from typing import TYPE_CHECKING, TypeVar

from diffusiongemma.control.json_schema.numbers import (
    ANY_NUMBER,
    EXACT_DIGITS,
    WITH_FRACTION,
    decimals,
    integers,
    multiples,
)
from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.charset import ANY_CHAR
from diffusiongemma.errors import InputError

if TYPE_CHECKING:
    from diffusiongemma.control.json_schema.shapes import Shape

N = TypeVar("N", int, Decimal)
LONGEST_COUNT = 4096  # characters to which strings are counted where more are allowed


class NotNegatable(InputError):
    """A schema whose opposite no automaton can guarantee.

    `opposite()` of a shape is all values of its type that it does not have, and raises this where some of them can't be
    told; with `whole=False` it is those that can.
    """


@dataclass(frozen=True)
class NullShape:
    def opposite(self, whole: bool = True) -> list[Shape]:
        return []


@dataclass(frozen=True)
class BooleanShape:
    values: frozenset[bool] = frozenset({True, False})

    def opposite(self, whole: bool = True) -> list[Shape]:
        return [BooleanShape(frozenset({True, False}) - self.values)]


@dataclass(frozen=True)
class StringShape:
    """Strings whose value (not its JSON spelling) is in `content`.

    Where readers of a schema differ (is `\\d` only 0-9?) or a format is written in part only, `content` is what all
    agree on and `outer` what any of them takes; opposites swap the two.
    """

    content: lang.Language = lang.ANY_TEXT
    outer: lang.Language | None = None  # None: the same as content
    least: int = 0  # characters
    most: int | None = None
    listed: tuple[str, ...] = ()  # all values of `content`, where they are few and known

    @property
    def loosened(self) -> StringShape:
        """What any reader takes."""
        return replace(self, content=self.outer, outer=None, listed=()) if self.outer else self

    def opposite(self, whole: bool = True) -> list[Shape]:
        if whole and self.outer is lang.ANY_TEXT:
            raise NotNegatable("the opposite of 'format'")
        shapes: list[Shape] = []
        if self.content is not lang.ANY_TEXT and self.outer is not lang.ANY_TEXT:
            shapes.append(StringShape(_all_but(self.outer or self.content), self.outer and _all_but(self.content)))
        if self.least:
            shapes.append(StringShape(most=self.least - 1))
        if self.most is not None:
            shapes.append(StringShape(least=self.most + 1))
        return shapes

    def texts(self, longest: int = LONGEST_COUNT) -> lang.Language:
        """The values to write; characters are counted to `longest`, or as far as there must be so many."""
        if not self.least and self.most is None:
            return self.content
        most = None if self.most is None else min(self.most, max(longest, self.least))
        return lang.both(_of_length(self.least, most), self.content)


@lru_cache(maxsize=256)
def _of_length(least: int, most: int | None) -> lang.Language:
    return lang.NEVER if most is not None and least > most else lang.repeat(lang.Chars(ANY_CHAR), least, most)


@lru_cache(maxsize=256)
def _all_but(content: lang.Language) -> lang.Language:
    return lang.Without(lang.ANY_TEXT, content)


@dataclass(frozen=True)
class NumberShape:
    low: Decimal | None = None
    high: Decimal | None = None
    low_open: bool = False
    high_open: bool = False
    whole: bool | None = None  # True: integers only; False: no integers; None: both
    multiple_of: int = 1  # of 10^-places
    places: int = 0
    written: tuple[Decimal | None, Decimal | None] = (None, None)  # bounds of a format: they hold for what is written

    def opposite(self, whole: bool = True) -> list[Shape]:
        if whole and self.has_divisor:
            raise NotNegatable("the opposite of 'multipleOf'")
        shapes: list[Shape] = []
        if self.low is not None:
            shapes.append(NumberShape(high=self.low, high_open=not self.low_open))
        if self.high is not None:
            shapes.append(NumberShape(low=self.high, low_open=not self.high_open))
        if self.whole is not None:
            shapes.append(NumberShape(whole=not self.whole))
        return shapes

    @property
    def has_divisor(self) -> bool:
        return (self.multiple_of, self.places) != (1, 0)

    @property
    def language(self) -> lang.Language:
        """The numbers as they may be written; a single one, as JSON writes it."""
        if self == NumberShape():
            return ANY_NUMBER
        if self.whole is False and self.has_divisor and not self.places:
            return lang.NEVER
        if self.written != (None, None):
            return self._in_format().language
        if self.low is not None and self.low == self.high:
            return self._single(self.low)
        low, low_open = _with_margin(self.low, self.low_open, math.inf)
        high, high_open = _with_margin(self.high, self.high_open, -math.inf)
        if self.whole is True or (self.has_divisor and not self.places):
            least = None if low is None else _ceiling(low, low_open)
            most = None if high is None else -_ceiling(high.copy_negate(), high_open)
            written = lang.NEVER if least is not None and most is not None and least > most else integers(least, most)
        else:
            only = self.whole is False or self.has_divisor
            written = decimals(low, high, low_open, high_open, only)
            written = lang.both(written, WITH_FRACTION) if self.whole is False else written
        return self._divisible(written) if self.has_divisor and written is not lang.NEVER else written

    def _divisible(self, written: lang.Language) -> lang.Language:
        found = lang.both(written, multiples(self.multiple_of, self.places))
        if max(abs(self.low or Decimal(0)), abs(self.high or Decimal(0))) < 10**14:  # remainders of floats are exact
            found = lang.both(found, lang.repeat(lang.Chars(ANY_CHAR), 1, EXACT_DIGITS))
        return found

    def _in_format(self) -> NumberShape:
        bounds = replace(NumberShape(), low=self.written[0], high=self.written[1])
        inside = within(replace(self, written=(None, None)), bounds)
        return inside if inside.whole is not None else replace(inside, whole=True)

    def _single(self, value: Decimal) -> lang.Language:
        is_whole = value == int(value)
        excluded = self.low_open or self.high_open or self.whole not in (None, is_whole)
        if excluded or (self.has_divisor and value.scaleb(self.places, EXACT) % self.multiple_of):
            return lang.NEVER
        return lang.literal(str(int(value)) if is_whole else json.dumps(float(value)))


EXACT = Context(prec=400)


def _with_margin(bound: Decimal | None, is_open: bool, inward: float) -> tuple[Decimal | None, bool]:
    """An open bound beyond 2^53 as a closed one, at the next float: no reader rounds a number on to the bound then."""
    if bound is None or not is_open or abs(bound) < 2**53:
        return bound, is_open
    return Decimal(math.nextafter(float(bound), inward)), False


def _ceiling(bound: Decimal, is_open: bool) -> int:
    """The smallest integer ≥ (open: >) the bound."""
    whole = int(bound) - (bound < int(bound))
    return whole if whole == bound and not is_open else whole + 1


def within(a: NumberShape, b: NumberShape) -> NumberShape:
    """What both say, though it may be nothing."""
    low = max([(x.low, x.low_open) for x in (a, b) if x.low is not None], default=(None, False))
    high = min([(x.high, not x.high_open) for x in (a, b) if x.high is not None], default=(None, True))
    whole = a.whole if b.whole is None else b.whole
    written = (larger(a.written[0], b.written[0]), smaller(a.written[1], b.written[1]))
    places = max(a.places, b.places)
    divisor = lcm(*(x.multiple_of * 10 ** (places - x.places) for x in (a, b) if x.has_divisor))
    return NumberShape(low[0], high[0], low[1], not high[1], whole, divisor, places, written)


def smaller(a: N | None, b: N | None) -> N | None:
    return b if a is None else a if b is None else min(a, b)


def larger(a: N | None, b: N | None) -> N | None:
    return b if a is None else a if b is None else max(a, b)
