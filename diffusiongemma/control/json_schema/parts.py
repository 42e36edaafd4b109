"""What is written the same however far values nest: names of properties, numbers, texts. Each is made once a schema."""

from __future__ import annotations

from functools import cache

import numpy as np

from diffusiongemma.control.json_schema.patterns import pattern_shape
from diffusiongemma.control.json_schema.scalars import NumberShape, StringShape
from diffusiongemma.control.json_schema.schema import SchemaReader
from diffusiongemma.control.json_schema.shapes import NOTHING, ObjectShape, Other, Terms
from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.compiler import compile_language
from diffusiongemma.control.languages.dfa import DEAD, CharDfa, TooLarge
from diffusiongemma.control.languages.minimal import chars_to_end

SPARE = 16  # characters beyond the fewest of a pattern
STATES_OF_COUNT = 4  # of a pattern whose length is counted, for each character that would be counted otherwise
MOST_KINDS_OF_KEYS = 24
Matches = tuple[tuple[str, bool], ...]  # patterns, and whether a key matches


class Parts:
    def __init__(self, reader: SchemaReader) -> None:
        self._reader = reader
        self.number = cache(_number)
        self.string = cache(self._string)
        self._counted = cache(_counted)
        self.admitted = cache(self._admitted)
        self._other_keys = cache(self._other_keys_of)
        self._members: dict[int, tuple[ObjectShape, list[tuple[lang.Language, Terms, bool]]]] = {}  # by id

    def members(self, shape: ObjectShape) -> list[tuple[lang.Language, Terms, bool]]:
        """Of the named properties, in the order they are declared: the key, what the value must meet, and whether it
        must be there."""
        if id(shape) not in self._members:
            self._members[id(shape)] = shape, self._members_of(shape)
        return self._members[id(shape)][1]

    def names(self, shape: ObjectShape) -> list[str]:
        """Those of `members`."""
        return list(dict.fromkeys([*(name for name, _ in shape.properties), *shape.required]))

    def _members_of(self, shape: ObjectShape) -> list[tuple[lang.Language, Terms, bool]]:
        members: list[tuple[lang.Language, Terms, bool]] = []
        for name in self.names(shape):
            may_be = not shape.names or self.admitted(shape.names).matches(name)
            terms = self._reader.resolved(self._reader.property_terms(shape, name)) if may_be else NOTHING
            members.append((lang.Quoted(lang.literal(name)), terms, name in shape.required))
        return members

    def other_keys(self, shape: ObjectShape, other: Other) -> list[tuple[Matches, lang.Language]]:
        """The keys without a name in the schema or in `other`, split by the patterns of both that they match."""
        names = other.names | {*(name for name, _ in shape.properties), *shape.required}
        found = [pattern for rest in shape.rests for pattern, _ in rest.patterns]
        patterns = tuple(dict.fromkeys([*found, *(pattern for pattern, _ in other.matches)]))
        return self._other_keys(shape.names, names, patterns)

    def _other_keys_of(
        self, rules: Terms, names: frozenset[str], patterns: tuple[str, ...]
    ) -> list[tuple[Matches, lang.Language]]:
        keys = lang.Without(self._key_content(rules), lang.either(*map(lang.literal, sorted(names))))
        split: list[tuple[Matches, lang.Language]] = [] if compile_language(keys).is_empty else [((), keys)]
        for pattern in patterns:
            parts = [
                ((*matches, (pattern, does)), keys_matching(found, pattern, does))
                for matches, found in split
                for does in (False, True)
            ]
            split = [(matches, found) for matches, found in parts if not compile_language(found).is_empty]
            if len(split) > MOST_KINDS_OF_KEYS:
                raise TooLarge("patterns of properties overlap in too many ways: give fewer", option="json_schema")
        return [(matches, lang.Quoted(found)) for matches, found in split]

    def _string(self, shape: StringShape, counts: int) -> tuple[lang.Language, int | None]:
        """The language, and the most characters where that is fewer than the shape allows. It is counted as far as a
        pattern needs and some more; less far where it and its length together can't be compiled."""
        if shape.most is not None and shape.content is not lang.ANY_TEXT:
            shortest = int(chars_to_end(compile_language(shape.content))[0])
            counts = max(counts, min(shape.most, shortest + SPARE))
        reached = counts if shape.most is None else min(counts, shape.most)  # beyond, all counts say the same
        texts = self._counted(shape, reached)
        if texts is None:
            pattern = compile_language(shape.content)
            counts = max(STATES_OF_COUNT * counts // pattern.num_states, int(chars_to_end(pattern)[0]))
            texts = shape.texts(counts)
        return lang.Quoted(texts), _clipped(shape, counts)

    def _admitted(self, rules: Terms) -> CharDfa:
        """What propertyNames leaves of all keys."""
        return compile_language(self._key_content(rules))

    def _key_content(self, rules: Terms) -> lang.Language:
        if not rules:
            return lang.ANY_TEXT
        return lang.either(*(s.texts() for s in self._reader.shapes(rules) if isinstance(s, StringShape)))


def keys_matching(keys: lang.Language, pattern: str, does: bool) -> lang.Language:
    found_in = pattern_shape(pattern)
    return lang.both(keys, found_in.content) if does else lang.Without(keys, found_in.outer or found_in.content)


def _number(shape: NumberShape) -> lang.Language:
    return shape.language


def _counted(shape: StringShape, counts: int) -> lang.Language | None:
    """The texts, counted so far; None where that is too large."""
    language = shape.texts(counts)
    try:
        compile_language(language)
    except TooLarge:
        return None
    return language


def _clipped(shape: StringShape, counts: int) -> int | None:
    most = max(counts, shape.least)
    if shape.most is None or shape.most <= most:
        return None
    return most if shape.content is lang.ANY_TEXT or _has_longer(compile_language(shape.content), most) else None


def _has_longer(dfa: CharDfa, most: int) -> bool:
    """Whether there is a text of more than so many characters."""
    reached = np.zeros(1, np.int64)
    for _ in range(most + 1):
        following = np.unique(dfa.next[reached])
        following = following[following != DEAD]
        if np.array_equal(following, reached):
            break
        reached = following
    return bool(len(reached))
