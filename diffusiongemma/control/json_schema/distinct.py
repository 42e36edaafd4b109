"""Texts that surely differ in value: all of a few listed ones, or some that begin in different ways."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from diffusiongemma.control.json_schema.arrangements import Count, Member, in_any_order, in_order, listed
from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.compiler import compile_language
from diffusiongemma.control.languages.dfa import DEAD, TooLarge
from diffusiongemma.control.languages.regex import regex_language

Limited = Callable[[int], None]  # what hears how many items are written at most
MOST_VALUES = 8  # in any order, which makes 2^n situations; more come in the order listed
MOST_LISTED = 300
LARGEST = 60  # states of an item: larger ones come in the order of their kinds
LARGEST_NESTED = 500  # states of an item with arrays or objects: of larger ones there is one
COMMA = lang.literal(",")
# Values of different kinds differ: how texts begin, and others. Numbers have no exponent then, and one spelling each.
KINDS = (
    ('"[aA0hHpPxX -]', r"[15]\d*|-[1-9]\d*"),
    ('"[bBcC1iIqQyY_]', r"[26]\d*|null"),
    ('"[dDeE2jJrRzZ/]', r"[37]\d*|true"),
    ('"[fFgG3kKsS.@4]', r"[48]\d*|false"),
    ('"[lLmMnN5tT:6#7]', r"9\d*|0\.\d*[1-9]"),
    (r'"(?:[oOuUvVwW89$]|[^\x00-\x7f\\])', '0|""'),
)
WHOLE = tuple(regex_language(rf"{text}.*|{other}", re.DOTALL) for text, other in KINDS)
LEADING = tuple(regex_language(rf"(?:{text}.*|(?:{other})[,\]}}].*)", re.DOTALL) for text, other in KINDS)


def kinds_of(body: lang.Language, openings: Sequence[lang.Language] = ()) -> list[lang.Language]:
    """The texts of `body` of each kind; those with one of the openings (of an array, of an object and its first key)
    are of the kind of the value that comes first in them."""
    opened = ([lang.sequence(opening, kind) for opening in openings] for kind in LEADING)
    return [lang.both(body, lang.either(kind, *more)) for kind, more in zip(WHOLE, opened, strict=True)]


def distinct_nested(
    item: lang.Language, openings: Sequence[lang.Language], count: Count, most: int, limited: Limited
) -> lang.Language | None:
    """Distinct items with arrays or objects among them, at most so many, or one where they are large; None where there
    must be more than can be told apart."""
    alone = listed(item, Count(count.least, 1), COMMA)
    if count.least <= 1 and not _is_small(item):
        limited(1)
        return alone
    limited(most)
    several = one_of_each(kinds_of(item, openings)[:most], count)
    return several if count.least > 1 else lang.either(alone, several or lang.NEVER)


def _is_small(item: lang.Language) -> bool:
    try:
        return compile_language(item, LARGEST_NESTED).num_states <= LARGEST_NESTED
    except TooLarge:
        return False


def distinct_plain(item: lang.Language, count: Count, limited: Limited) -> lang.Language | None:
    """Distinct items that are texts, numbers, true, false or null; None where there must be more than can be told
    apart."""
    texts = finite_texts(item, MOST_LISTED)
    if texts is None:
        limited(len(KINDS))
        return one_of_each(kinds_of(item), count, compile_language(item).num_states <= LARGEST)
    once = list({_value_of(text): text for text in reversed(texts)}.values())[::-1]  # 0.0 is 0
    members = [Member(lang.literal(text)) for text in once]
    several = in_any_order if len(members) <= MOST_VALUES else in_order
    return several(members, count, COMMA, count.end)


def one_of_each(kinds: Sequence[lang.Language], count: Count, any_order: bool = False) -> lang.Language | None:
    """At most one of each kind, as many as the count says; None where it asks for more."""
    if count.least > 1 and count.least > sum(not compile_language(kind).is_empty for kind in kinds):
        return None
    members = [Member(kind) for kind in kinds]
    return (in_any_order if any_order else in_order)(members, count, COMMA, count.end)


def _value_of(text: str) -> Any:
    value = json.loads(text)
    return ("number", Decimal(text)) if isinstance(value, int | float) and not isinstance(value, bool) else text


def finite_texts(language: lang.Language, most: int) -> list[str] | None:
    """All texts of a language if there are at most so many, else None."""
    dfa = compile_language(language)
    texts: list[str] = []
    frontier = [("", 0)]
    for _ in range(dfa.num_states):  # a longer text would repeat a state, and there would be endlessly many
        texts += [text for text, state in frontier if dfa.accepting[state]]
        following = []
        for text, state in frontier:
            for atom in np.flatnonzero(dfa.next[state] != DEAD).tolist():
                for low, high in dfa.alphabet.chars_of([atom]):
                    read = range(low, min(high, low + most) + 1)
                    following += [(text + chr(c), int(dfa.next[state, atom])) for c in read]
        if len(texts) > most or len(following) > most:  # every state leads to some text
            return None
        frontier = following
    return None if frontier else texts
