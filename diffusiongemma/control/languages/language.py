"""Regular languages over characters as small expression trees: what every kind of constraint is first written in.

Nodes compare by identity, so a subtree used in several places is compiled once for each place it continues to, and
sharing keeps optional properties, free key orders and the like from multiplying (see `nfa.NfaBuilder`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from diffusiongemma.control.languages.charset import ANY_CHAR, CharSet, char_range, chars

if TYPE_CHECKING:
    from diffusiongemma.control.languages.dfa import CharDfa


@dataclass(frozen=True, eq=False)
class Chars:
    """One character out of a set."""

    allowed: CharSet


@dataclass(frozen=True, eq=False)
class Sequence:
    parts: tuple[Language, ...]


@dataclass(frozen=True, eq=False)
class Either:
    options: tuple[Language, ...]


@dataclass(frozen=True, eq=False)
class Repeat:
    """`body` from `least` to `most` times; `most=None` is without end."""

    body: Language
    least: int
    most: int | None


@dataclass(frozen=True, eq=False)
class Anchor:
    """Matches nothing: at the start of the text, at its end, or at its end or before a final newline (`$`); at the
    start or end of a line; between a word character and none, or where that is not so."""

    at: Literal["start", "end", "end or final newline", "line start", "line end", "boundary", "no boundary"]
    words: CharSet = ()  # of the last two: the word characters


@dataclass(frozen=True, eq=False)
class Both:
    """Texts in both languages."""

    first: Language
    second: Language


@dataclass(frozen=True, eq=False)
class Without:
    """Texts of the first language that are not in the second."""

    first: Language
    second: Language


@dataclass(frozen=True, eq=False)
class Quoted:
    """A JSON string, quotes included, whose *value* is in `content`; every value is written in one canonical way."""

    content: Language


@dataclass(frozen=True, eq=False)
class Compiled:
    """A language given by its automaton."""

    dfa: CharDfa


Language = Chars | Sequence | Either | Repeat | Anchor | Both | Without | Quoted | Compiled

MANY_WORDS = 100  # more are an automaton from the start
NEVER = Either(())
EMPTY = Sequence(())
ANY_TEXT = Repeat(Chars(ANY_CHAR), 0, None)
DIGIT = Chars(char_range("0", "9"))


def sequence(*parts: Language) -> Language:
    """One after the other; a part that can never match makes the whole never match."""
    if NEVER in parts:  # nodes are equal to themselves alone
        return NEVER
    kept = tuple([part for part in parts if part is not EMPTY]) if EMPTY in parts else parts
    return kept[0] if len(kept) == 1 else Sequence(kept) if kept else EMPTY


def either(*options: Language) -> Language:
    kept = tuple(dict.fromkeys([option for option in options if option is not NEVER]))
    return kept[0] if len(kept) == 1 else Either(kept) if kept else NEVER


def repeat(body: Language, least: int = 0, most: int | None = None) -> Language:
    if body is NEVER or most == 0:
        return EMPTY if least == 0 else NEVER
    return body if (least, most) == (1, 1) else Repeat(body, least, most)


def optional(body: Language) -> Language:
    return repeat(body, 0, 1)


@lru_cache(maxsize=4096)
def literal(text: str) -> Language:
    return sequence(*map(_char, text))


@lru_cache(maxsize=4096)
def _char(c: str) -> Language:
    return Chars(chars(c))


def words(texts: Iterable[str]) -> Language:
    """Any of these texts."""
    distinct = list(dict.fromkeys(texts))
    if len(distinct) <= MANY_WORDS:
        return either(*map(literal, distinct))
    from diffusiongemma.control.languages.operations import of_words

    return Compiled(of_words(distinct))


def containing(body: Language) -> Language:
    """Texts in which `body` matches somewhere: the language of `re.search`."""
    return sequence(ANY_TEXT, body, ANY_TEXT)


def both(first: Language, *others: Language) -> Language:
    for other in others:
        first = first if other is ANY_TEXT else other if first is ANY_TEXT else Both(first, other)
    return first
