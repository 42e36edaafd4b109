"""Shapes as the language of their JSON texts.

Every text of the language parses and meets the schema. Not every text that meets it is in the language: values are
spelled in one way, keys come in the order declared, properties that the schema does not speak of are
written only where it asks for them, and recursion ends at a stated depth.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache, reduce
from operator import and_

from diffusiongemma.control.json_schema import shapes
from diffusiongemma.control.json_schema.arrangements import (
    Count,
    Member,
    containing,
    in_order,
    listed,
    with_prefix,
)
from diffusiongemma.control.json_schema.combining import intersected
from diffusiongemma.control.json_schema.distinct import KINDS, distinct_nested, distinct_plain, kinds_of, one_of_each
from diffusiongemma.control.json_schema.keywords import is_other
from diffusiongemma.control.json_schema.nesting import ANY_VALUE, MOST_ITEMS, Nesting, Reach
from diffusiongemma.control.json_schema.parts import Parts
from diffusiongemma.control.json_schema.problems import Refusal, all_of, refusal
from diffusiongemma.control.json_schema.schema import SchemaReader
from diffusiongemma.control.json_schema.shapes import LONGEST_COUNT, NOTHING, Contains, Shape, Terms, merged
from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.dfa import TooLarge

MOST_PATTERNS = 12
MOST_WAYS = 12  # to have a property that there must be
MOST_PLACES = 10_000  # values that the schema speaks of, recursion unrolled
SHORTEST_LIMIT = 16
MOST_COUNTED = 4096  # characters counted, all strings together
COMMA, COLON = lang.literal(","), lang.literal(":")
Place = tuple[Terms, int, int]  # what is written, how often inside itself, and how deep where that matters


class Writer:
    """Writes the shapes of one schema as far as a reach goes."""

    def __init__(self, parts: Parts, reader: SchemaReader, reach: Reach, nesting: Nesting) -> None:
        self.parts, self.reader, self.reach, self.nesting = parts, reader, reach, nesting
        self.heads: set[Terms] = set()  # terms inside themselves of which `nesting` does not know
        self.inside: dict[Terms, dict[Terms, None]] = {}  # by terms, those directly inside
        self._counted: Counter[int] = Counter()  # how often strings are written, by their limits in characters
        self._times = 1
        self._most_items = 0
        self._open: list[Terms] = []
        self._levels: Counter[int] = Counter()  # by component, how many of its heads are open
        self._written: dict[Place, tuple[lang.Language, Counter[int]] | None] = {}
        self._refused: list[Refusal] = []

    @property
    def longest(self) -> tuple[int, int]:
        """The largest limits that there are, of characters and of items."""
        return max(self._counted, default=0), self._most_items

    @property
    def writes_free_values(self) -> bool:
        return any(terms == ANY_VALUE for terms, *_ in self._written)

    def root(self) -> lang.Language:
        """Raises one refusal for all places that can't be guaranteed."""
        language = self.value(self.reader.root_terms)
        if self._refused:
            raise all_of(self._refused)
        return language

    def counts_that_fit(self) -> int:
        """How far each string can be counted, as all of them share what can be counted."""
        counts = self.reach.counts
        while counts > SHORTEST_LIMIT and sum(n * min(m, counts) for m, n in self._counted.items()) > MOST_COUNTED:
            counts = counts * 3 // 4
        return counts

    def value(self, terms: Terms) -> lang.Language:
        """Texts of values that meet all terms."""
        return self.resolved_value(self.reader.resolved(terms))

    def resolved_value(self, terms: Terms) -> lang.Language:
        if terms == NOTHING:
            return lang.NEVER
        if self._open:
            self.inside.setdefault(self._open[-1], {})[terms] = None
        component = self.nesting.component.get(terms)
        level = 0 if component is None else self._levels[component]
        is_head = terms in self.nesting.heads
        if is_head and level > (self.reach.recursions if terms else self.reach.free):
            return lang.NEVER
        place = terms, level, 0 if self.reach.deepest is None else min(len(self._open), self.reach.deepest)
        if place not in self._written:
            self._written[place] = None
            self._levels[component or 0] += is_head
            self._written[place] = self._new(terms)
            self._levels[component or 0] -= is_head
        found = self._written[place]
        if found is None:  # it is being written
            self.heads.add(terms)
            return lang.literal("null")
        for most, times in found[1].items():
            self._counted[most] += times * self._times
        return found[0]

    def _new(self, terms: Terms) -> tuple[lang.Language, Counter[int]]:
        """What is written for terms for the first time, and what is counted in it."""
        if len(self._written) > MOST_PLACES:
            message = "it allows too much nesting in too many places: name what may stand inside"
            raise TooLarge(message, option="json_schema")
        outside = self._counted, self._times
        self._counted, self._times = Counter(), 1
        self._open.append(terms)
        found = self.guaranteed(terms), self._counted
        self._open.pop()
        self._counted, self._times = outside
        return found

    def guaranteed(self, terms: Terms) -> lang.Language:
        """The same; a refusal is kept, so that all others are found too."""
        try:
            return lang.either(*(self.shape(shape) for shape in self.reader.shapes(terms)))
        except Refusal as error:
            self._refused.append(error)
            return lang.literal("null")

    @property
    def here(self) -> str:
        return self._open[-1][0].where if self._open[-1] else ""

    def shape(self, shape: Shape) -> lang.Language:
        match shape:
            case shapes.NullShape():
                return lang.literal("null")
            case shapes.BooleanShape(values):
                return lang.either(*(lang.literal(json.dumps(value)) for value in sorted(values, reverse=True)))
            case shapes.NumberShape():
                return self.parts.number(shape)
            case shapes.StringShape():
                return self.string(shape)
            case shapes.ArrayShape():
                return lang.sequence(lang.literal("["), self.items(shape), lang.literal("]"))
            case shapes.ObjectShape():
                return lang.sequence(lang.literal("{"), self.properties(shape), lang.literal("}"))

    def string(self, shape: shapes.StringShape) -> lang.Language:
        if shape.most is not None:
            self._counted[shape.most] += self._times
        return self.parts.string(shape, LONGEST_COUNT if shape.most is None else self.reach.counts)

    # -- arrays

    @contextlib.contextmanager
    def repeated(self, most: int | None) -> Iterator[None]:
        """Inside, what is written comes so many times (where there is no limit, it is written once)."""
        before, self._times = self._times, self._times * max(1, most or 1)
        yield
        self._times = before

    def items(self, shape: shapes.ArrayShape) -> lang.Language:
        most = self.counted(max([shape.least, *(contains.least for contains in shape.contains)]), shape.most)
        with self.repeated(most):
            return self.counted_items(shape, Count(shape.least, most))

    def counted(self, needed: int, most: int | None) -> int | None:
        """The most that there may be as it is written: as far as the reach counts, or as there must be."""
        if most is None:
            return None
        self._most_items = max(self._most_items, most)
        return min(most, max(needed, self.reach.items))

    def counted_items(self, shape: shapes.ArrayShape, count: Count) -> lang.Language:
        several = shape.unique and count.allows_more(1)
        if several and not shape.prefix and not shape.contains:
            return self.distinct_items(shape, count)
        prefix = [self.value(terms) for terms in shape.prefix]
        body = with_prefix(prefix, self.value(shape.rest), count, COMMA)
        more = [self.distinct_items(shape, count)] if several else []
        return lang.both(body, *(self.items_that_contain(shape, contains) for contains in shape.contains), *more)

    def items_that_contain(self, shape: shapes.ArrayShape, contains: Contains) -> lang.Language:
        places = [*shape.prefix, shape.rest]
        meeting = lang.either(*(self.value(merged(place, contains.terms)) for place in places))
        if contains.most is None:
            others = [self.value(place) for place in places]
        else:  # those that must not be counted
            others = [self.value(merged(place, (t.negation,))) for place in places for t in contains.terms]
        return containing(meeting, lang.either(*others), Count(contains.least, contains.most), COMMA)

    def distinct_items(self, shape: shapes.ArrayShape, count: Count) -> lang.Language:
        """Lists of items of any place that differ: arrays and objects in the value that comes first in them."""
        places = (*shape.prefix, shape.rest)
        kinds = list(dict.fromkeys(kind for terms in places for kind in self.reader.shapes(terms)))
        plain = lang.either(*(self.shape(kind) for kind in kinds if not is_nested(kind)))
        nested = [kind for kind in kinds if is_nested(kind)]
        found = self.with_nested(places, plain, nested, count) if nested else distinct_plain(plain, count)
        if found is None:
            mend = f"at most {len(KINDS)} items that are not listed can be told apart: add an enum, or remove it"
            raise refusal("uniqueItems", self.here, mend)
        return found

    def with_nested(
        self, places: Iterable[Terms], plain: lang.Language, nested: list[Shape], count: Count
    ) -> lang.Language | None:
        item = lang.either(*map(self.value, places))
        if count.least > 1 or all(map(self.is_flat, nested)):
            self._most_items = MOST_ITEMS  # fewer are told apart where that is too large
            most = max(count.least, len(KINDS) if self.reach.items > 50 else 3 if self.reach.items > 12 else 1)
            return distinct_nested(item, self.openings(nested), count, most)
        alone = listed(item, Count(count.least, 1), COMMA)  # each level would take several times the last
        return alone if plain is lang.NEVER else lang.either(alone, distinct_plain(plain, count) or lang.NEVER)

    def is_flat(self, shape: Shape) -> bool:
        """Whether there is nothing nested in its items or named properties."""
        if isinstance(shape, shapes.ObjectShape):
            inside = [terms for _, terms, _ in self.parts.members(shape)]
        else:
            inside = [*shape.prefix, shape.rest] if isinstance(shape, shapes.ArrayShape) else []
        return not any(is_nested(kind) for terms in inside for kind in self.reader.shapes(terms))

    def openings(self, kinds: Iterable[Shape]) -> list[lang.Language]:
        """What comes before the value by which arrays and objects are told apart; of objects it is that of one
        property, which comes first in each."""
        found: dict[str, lang.Language] = {}
        for kind in kinds:
            if isinstance(kind, shapes.ArrayShape):
                found["["] = lang.literal("[")
            elif isinstance(kind, shapes.ObjectShape) and (name := self.told_apart_by(kind)) is not None:
                found.setdefault("{", lang.literal("{" + json.dumps(name, ensure_ascii=False) + ":"))
        return list(found.values())

    def told_apart_by(self, shape: shapes.ObjectShape) -> str | None:
        """The first property that is required, or one before it, and may be a text or a number."""
        for name, (_, terms, required) in zip(self.parts.names(shape), self.parts.members(shape), strict=True):
            values = [] if terms == NOTHING else self.reader.shapes(terms)
            if any(isinstance(value, shapes.StringShape | shapes.NumberShape) for value in values):
                return name
            if required:
                break
        return None

    # -- objects

    def properties(self, shape: shapes.ObjectShape) -> lang.Language:
        return self.with_others(shape) if shape.others else self.plain_properties(shape)

    def with_others(self, shape: shapes.ObjectShape) -> lang.Language:
        """Objects with a property that must be there: one that is required anyway, one of the named, or one without a
        name, which then is the last."""
        other, *more = shape.others
        fewer = replace(shape, others=tuple(more))
        named = [name for name, terms in shape.properties if is_other(name, other) and terms != NOTHING]
        if not other.terms and any(is_other(name, other) for name in shape.required):
            return self.properties(fewer)
        ways = []
        for name in named[: MOST_WAYS // len(shape.others) ** 2]:
            needed = shapes.ObjectShape(properties=((name, other.terms),), required=(name,))
            if (way := intersected(fewer, needed)) is not None and self.reader.possible(way):
                assert isinstance(way, shapes.ObjectShape)
                ways.append(self.properties(way))
        last = reduce(and_, shape.others)
        return lang.either(*ways, self.plain_properties(replace(shape, others=()), last))

    def plain_properties(self, shape: shapes.ObjectShape, last: shapes.Other | None = None) -> lang.Language:
        members = self.members(shape)
        most = self.counted(max(shape.least, len(members)), shape.most)
        count = Count(shape.least, most)
        with self.repeated(most):
            undeclared = self.undeclared_property(shape) if last is None else self.other_property(shape, last)
        if last is not None:
            return in_order([*members, Member(undeclared, required=True)], count, COMMA, count.end)
        end = self.end_of_properties(undeclared, len(members), count)
        return in_order(members, count, COMMA, end)

    def members(self, shape: shapes.ObjectShape) -> list[Member]:
        """The named properties that can be written, in the order they are declared."""
        members = []
        all_that_may_be = self.reach.deepest is None or len(self._open) <= self.reach.deepest
        for key, terms, required in self.parts.members(shape):
            if not (required or all_that_may_be):
                continue
            text = lang.sequence(key, COLON, self.resolved_value(terms))
            if text is not lang.NEVER or required:
                members.append(Member(text, required))
        return members

    def undeclared_property(self, shape: shapes.ObjectShape) -> lang.Language:
        """A property without a name in the schema, where the schema asks for such; keys are split by patterns."""
        asked = any(rest.patterns or rest.declared for rest in shape.rests) or shape.least > len(shape.properties)
        if any(not set(terms) & set(NOTHING) for _, terms in shape.properties) and not asked:
            return lang.NEVER
        return self.other_property(shape, shapes.Other())

    def other_property(self, shape: shapes.ObjectShape, other: shapes.Other) -> lang.Language:
        """A property without a name in the schema that is this one."""
        found = []
        patterns = {pattern for rest in shape.rests for pattern, _ in rest.patterns}
        if len(patterns | {pattern for pattern, _ in other.matches}) > MOST_PATTERNS:
            raise refusal("patternProperties", self.here, f"at most {MOST_PATTERNS} patterns an object can be")
        for matches, keys in self.parts.other_keys(shape, other):
            if not set(other.matches) <= set(matches):
                continue
            value = self.value(merged(terms_of_key(shape, dict(matches)), other.terms))
            if value is not lang.NEVER:
                found.append(lang.sequence(keys, COLON, value))
        return lang.either(*found)

    def end_of_properties(self, undeclared: lang.Language, named: int, count: Count) -> Callable[[int], lang.Language]:
        """What may follow the named properties: undeclared ones, or nothing."""
        if undeclared is lang.NEVER:
            return count.end
        if count.least > named + len(KINDS):
            raise refusal("minProperties", self.here, "undeclared keys may repeat: name more properties, or lower it")

        @cache
        def end(written: int) -> lang.Language:
            room = count.after(written)
            if room.least > 1:  # keys may repeat, so only those of different kinds surely count
                several = one_of_each(kinds_of(undeclared), room) or lang.NEVER
                return lang.sequence(COMMA, several) if written else several
            if written:
                return room.of(lang.sequence(COMMA, undeclared))
            return listed(undeclared, room, COMMA)

        return end


def is_nested(shape: Shape) -> bool:
    return isinstance(shape, shapes.ArrayShape | shapes.ObjectShape)


def terms_of_key(shape: shapes.ObjectShape, matches: dict[str, bool]) -> Terms:
    """What the value of an undeclared key must meet that matches some patterns and not the others."""
    terms: Terms = ()
    for rest in shape.rests:
        found = [terms for pattern, terms in rest.patterns if matches[pattern]]
        terms = merged(terms, sum(found, ()) if found else rest.additional)
    return terms
