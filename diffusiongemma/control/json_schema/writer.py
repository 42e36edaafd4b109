"""Shapes as the language of their JSON texts.

Every text of the language parses and meets the schema. Not every text that meets it is in the language: values are
spelled in one way, keys come in the order declared, properties that the schema does not speak of are
written only where it asks for them, and recursion ends at a stated depth.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, reduce
from operator import and_

from diffusiongemma.control.json_schema import scalars, shapes
from diffusiongemma.control.json_schema.arrangements import Count, Member, in_order, listed
from diffusiongemma.control.json_schema.arrays import items
from diffusiongemma.control.json_schema.combining import intersected
from diffusiongemma.control.json_schema.distinct import KINDS, kinds_of, one_of_each
from diffusiongemma.control.json_schema.nesting import ANY_VALUE, MOST_ITEMS, REACHES, Nesting, Reach
from diffusiongemma.control.json_schema.parts import Parts
from diffusiongemma.control.json_schema.patterns import is_other
from diffusiongemma.control.json_schema.problems import TOO_LARGE, Clips, Refusal, all_of, refusal
from diffusiongemma.control.json_schema.scalars import LONGEST_COUNT
from diffusiongemma.control.json_schema.schema import SchemaReader
from diffusiongemma.control.json_schema.shapes import NOTHING, Shape, Terms, merged
from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.dfa import TooLarge
from diffusiongemma.control.notice import CHARS_A_TOKEN

MOST_PATTERNS = 12
MOST_WAYS = 12  # to have a property that there must be
STATES_OF_A_PLACE = 8  # at least, as a rule: where the schema speaks of a value, with its key; recursion unrolled
SHORTEST_LIMIT = 16
MOST_COUNTED = 4096  # characters counted, all strings together
USUAL_LEVELS = REACHES[0].free + 1  # of values without a schema
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
        self.clips = Clips()
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
            self.narrow_depth(terms)
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

    def narrow_depth(self, terms: Terms) -> None:
        """Note that nothing more stands inside itself; a level takes a token at least. Of values without a schema that
        is said where they go less deep than they usually do."""
        where = next((opened[0].where for opened in reversed(self._open) if opened), "")
        recursions, levels = self.reach.recursions, self.reach.free + 1
        if terms:
            times = {0: "never", 1: "once at most"}.get(recursions, f"{recursions} times at most")
            left = f"{terms[0].where or '/'} stands {times} inside itself"
            self.clips.narrow("'$ref'", where, f"{left}, {TOO_LARGE}", recursions)
        elif levels < USUAL_LEVELS:
            left = "values stand in no other values" if levels == 1 else f"{levels} levels of values inside one another"
            self.clips.narrow("what has no schema", where, f"{left}, {TOO_LARGE}", levels)

    def _new(self, terms: Terms) -> tuple[lang.Language, Counter[int]]:
        """What is written for terms for the first time, and what is counted in it."""
        if len(self._written) > self.reach.states // STATES_OF_A_PLACE:
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
            case scalars.NullShape():
                return lang.literal("null")
            case scalars.BooleanShape(values):
                return lang.either(*(lang.literal(json.dumps(value)) for value in sorted(values, reverse=True)))
            case scalars.NumberShape():
                return self.parts.number(shape)
            case scalars.StringShape():
                return self.string(shape)
            case shapes.ArrayShape():
                return lang.sequence(lang.literal("["), items(self, shape), lang.literal("]"))
            case shapes.ObjectShape():
                return lang.sequence(lang.literal("{"), self.properties(shape), lang.literal("}"))

    def string(self, shape: scalars.StringShape) -> lang.Language:
        if shape.most is not None:
            self._counted[shape.most] += self._times
        language, most = self.parts.string(shape, LONGEST_COUNT if shape.most is None else self.reach.counts)
        if most is not None:
            self.clips("maxLength", self.here, f"{most:,} characters", most // CHARS_A_TOKEN)
        return language

    @contextlib.contextmanager
    def repeated(self, most: int | None) -> Iterator[None]:
        """Inside, what is written comes so many times (where there is no limit, it is written once)."""
        before, self._times = self._times, self._times * max(1, most or 1)
        yield
        self._times = before

    def items_that_fit(self, needed: int, wide: int, narrow: int) -> int:
        """How many items to write where each takes room of its own: fewer where that is too large, one at last."""
        self._most_items = MOST_ITEMS
        return max(needed, wide if self.reach.items > 50 else narrow if self.reach.items > 12 else 1)

    def counted(self, needed: int, most: int | None) -> int | None:
        """The most that there may be as it is written: as far as the reach counts, or as there must be."""
        if most is None:
            return None
        self._most_items = max(self._most_items, most)
        return min(most, max(needed, self.reach.items))

    def clip(self, keyword: str, things: str, allowed: int | None, most: int | None) -> None:
        """Note where fewer are written; a token hardly holds more than one."""
        if allowed is not None and most is not None and most < allowed:
            self.clips(keyword, self.here, f"{most:,} {things}", most)

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
        if undeclared is not lang.NEVER and last is None:
            self.clip("maxProperties", "properties", shape.most, most)
        if last is not None:
            return in_order([*members, Member(undeclared, required=True)], count, COMMA, count.end)
        end = self.end_of_properties(undeclared, len(members), count)
        return in_order(members, count, COMMA, end)

    def members(self, shape: shapes.ObjectShape) -> list[Member]:
        """The named properties that can be written, in the order they are declared."""
        named = self.parts.members(shape)
        if self.reach.deepest is not None and len(self._open) > self.reach.deepest:
            if any(terms != NOTHING and not required for _, terms, required in named):
                left = f"so deep inside only those that are required, {TOO_LARGE}"
                self.clips.narrow("'properties'", self.here, left, self.reach.deepest)
            named = [member for member in named if member[2]]
        members = []
        for key, terms, required in named:
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


def terms_of_key(shape: shapes.ObjectShape, matches: dict[str, bool]) -> Terms:
    """What the value of an undeclared key must meet that matches some patterns and not the others."""
    terms: Terms = ()
    for rest in shape.rests:
        found = [terms for pattern, terms in rest.patterns if matches[pattern]]
        terms = merged(terms, sum(found, ()) if found else rest.additional)
    return terms
