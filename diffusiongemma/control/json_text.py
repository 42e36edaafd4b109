"""
Writing shapes as JSON text: from a schema to the language of the texts to generate.

Every text of the language parses and meets the schema. Not every text that meets it is in the language: values are
spelled in one way, keys come in one order unless it is left free, properties that the schema does not speak of are
written only where it asks for them, and recursion ends at a stated depth.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from diffusiongemma.control import language as lang
from diffusiongemma.control.json_keywords import refusal
from diffusiongemma.control.json_schema import SchemaReader
from diffusiongemma.control.json_shapes import (
    NOTHING,
    ArrayShape,
    BooleanShape,
    Contains,
    NullShape,
    NumberShape,
    ObjectShape,
    Shape,
    StringShape,
    Terms,
)
from diffusiongemma.control.nfa import compile_language
from diffusiongemma.errors import InputError

MOST_FREE_KEYS = 8  # 2^n situations
MOST_UNIQUE_VALUES = 8
MOST_PATTERNS = 3


@dataclass(frozen=True)
class JsonStyle:
    """
    How the JSON is written.

    whitespace: none (`{"a":1,"b":2}`), single (`{"a": 1, "b": 2}`) or optional (a space or none at each place).
    key_order: declared, or free (any order; at most 8 properties an object).
    recursion_depth: how often a schema may stand inside itself; any_depth: the same for values without a schema.
    """

    whitespace: Literal["none", "single", "optional"] = "none"
    key_order: Literal["declared", "free"] = "declared"
    recursion_depth: int = 3
    any_depth: int = 2

    @property
    def space(self) -> lang.Language:
        return {"none": lang.EMPTY, "single": SPACE, "optional": lang.optional(SPACE)}[self.whitespace]


SPACE = lang.literal(" ")


def json_schema_language(schema: Any, style: JsonStyle = JsonStyle()) -> lang.Language:
    """
    The language of JSON texts that meet `schema` (a JSON Schema of draft 2020-12 as an object or its text).

    Raises `InputError` naming keyword and place for what is not a schema, can't be guaranteed or can't be met.
    """
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except json.JSONDecodeError as error:
            raise InputError(f"schema: it is not JSON: {error}") from error
    writer = _Writer(SchemaReader(schema), style)
    try:
        language = writer.value(writer.reader.root_terms)
    except RecursionError as error:
        raise InputError("schema: it is nested too deeply: flatten it") from error
    if language is lang.NEVER or compile_language(language).is_empty:
        raise InputError("schema: no finite JSON value meets it: look for contradictions or recursion without an end")
    return language


class _Writer:
    def __init__(self, reader: SchemaReader, style: JsonStyle) -> None:
        self.reader, self.style = reader, style
        self.comma = lang.sequence(lang.literal(","), style.space)
        self.colon = lang.sequence(lang.literal(":"), style.space)
        self._open: list[Terms] = []
        self._written: dict[tuple[Any, ...], lang.Language] = {}

    def value(self, terms: Terms) -> lang.Language:
        """Texts of values that meet all terms."""
        if terms == NOTHING:
            return lang.NEVER
        depth = self.style.recursion_depth if terms else self.style.any_depth
        if self._open.count(terms) > depth:
            return lang.NEVER
        key = (terms, tuple(self._open))
        if key not in self._written:
            self._open.append(terms)
            self._written[key] = lang.either(*(self.shape(shape) for shape in self.reader.shapes(terms)))
            self._open.pop()
        return self._written[key]

    def shape(self, shape: Shape) -> lang.Language:
        match shape:
            case NullShape():
                return lang.literal("null")
            case BooleanShape(values):
                return lang.either(*(lang.literal(json.dumps(value)) for value in sorted(values, reverse=True)))
            case NumberShape():
                return shape.language
            case StringShape(content):
                return lang.Quoted(content)
            case ArrayShape():
                return self.array(shape)
            case ObjectShape():
                return self.object(shape)

    # -- arrays

    def array(self, shape: ArrayShape) -> lang.Language:
        if shape.unique and (shape.most is None or shape.most > 1):
            return self.distinct_items(shape)
        items = [self.value(terms) for terms in shape.prefix]
        body = self.list_of(items, self.value(shape.rest), shape.least, shape.most)
        for contains in shape.contains:
            body = lang.both(body, self.containing(shape, contains))
        return bracketed("[", body, "]")

    def list_of(self, prefix: list[lang.Language], rest: lang.Language, least: int, most: int | None) -> lang.Language:
        """A list whose first items are `prefix`, all others `rest`, of `least` to `most` items in all."""
        more = lang.repeat(
            lang.sequence(self.comma, rest),
            max(0, least - max(1, len(prefix))),
            None if most is None else max(0, most - max(1, len(prefix))),
        )
        if not prefix:
            body = lang.sequence(rest, more)
        else:
            body = more
            for i in reversed(range(len(prefix))):
                item = prefix[i] if i == 0 else lang.sequence(self.comma, prefix[i])
                following = lang.sequence(item, body)
                body = following if i == 0 else lang.either(following, *([lang.EMPTY] if i >= least else []))
                body = (lang.EMPTY if i >= least else lang.NEVER) if most is not None and i >= most else body
        if most == 0:
            return lang.EMPTY if least == 0 else lang.NEVER
        return lang.either(body, *([lang.EMPTY] if least == 0 else []))

    def containing(self, shape: ArrayShape, contains: Contains) -> lang.Language:
        """Lists in which `least` to `most` items meet the terms, whatever else holds."""
        places = [*shape.prefix, shape.rest]
        meeting = lang.either(*(self.value(_joined(place, contains.terms)) for place in places))
        opposite = contains.terms if contains.most is None else tuple(t.negation for t in contains.terms)
        if contains.most is None:
            other = lang.either(*(self.value(place) for place in places))
        else:
            other = lang.either(*(self.value(_joined(place, (term,))) for place in places for term in opposite))
        others_before, others_after = lang.repeat(lang.sequence(other, self.comma)), lang.repeat(lang.sequence(self.comma, other))
        further = lang.sequence(others_after, self.comma, meeting)
        least, most = contains.least, contains.most
        some = lang.sequence(
            others_before,
            meeting,
            lang.repeat(further, max(0, least - 1), None if most is None else max(0, most - 1)),
            others_after,
        )
        none = lang.optional(lang.sequence(other, others_after))
        if most == 0:
            return none if least == 0 else lang.NEVER
        return lang.either(some, *([none] if least == 0 else []))

    def distinct_items(self, shape: ArrayShape) -> lang.Language:
        """All arrangements of a few listed values."""
        where = shape.rest[0].where if shape.rest else ""
        if shape.prefix or shape.contains:
            raise refusal("uniqueItems", where, "not together with prefixItems or contains: remove it")
        values = finite_texts(self.value(shape.rest), MOST_UNIQUE_VALUES)
        scalars = all(isinstance(s, NullShape | BooleanShape | StringShape | NumberShape) for s in self.reader.shapes(shape.rest))
        if values is None or not scalars:
            mend = f"only items from a list of at most {MOST_UNIQUE_VALUES} values can be: add enum to items, or remove it"
            raise refusal("uniqueItems", where, mend)
        members = [(lang.literal(text), False) for text in values]
        body = self.any_order(members, shape.least, shape.most, lambda written: lang.EMPTY)
        return bracketed("[", body, "]")

    # -- objects

    def object(self, shape: ObjectShape) -> lang.Language:
        members = self.members(shape)
        if members is None:
            return lang.NEVER
        extra = self.extra_member(shape)
        if extra is lang.NEVER or shape.least <= len(members) + 1:
            end = self.ending(extra, shape.least, shape.most)
        else:
            where = shape.rests[0].additional[0].where if shape.rests and shape.rests[0].additional else ""
            raise refusal("minProperties", where, "keys that are not declared may repeat: declare more properties")
        if self.style.key_order == "free" and len(members) > 1:
            body = self.any_order(members, shape.least, shape.most, end)
        else:
            body = self.in_order(members, shape.least, shape.most, end)
        return bracketed("{", body, "}")

    def members(self, shape: ObjectShape) -> list[tuple[lang.Language, bool]] | None:
        """Each property that can be written, in order, and whether it must be; None if one that must be can't."""
        names = dict.fromkeys([*(name for name, _ in shape.properties), *shape.required])
        allowed = compile_language(self.key_content(shape))
        members = []
        for name in names:
            value = self.value(self.reader.property_terms(shape, name)) if allowed.matches(name) else lang.NEVER
            if value is not lang.NEVER:
                key = lang.Quoted(lang.literal(name))
                members.append((lang.sequence(key, self.colon, value), name in shape.required))
            elif name in shape.required:
                return None
        return members

    def key_content(self, shape: ObjectShape) -> lang.Language:
        """What propertyNames leaves of all keys."""
        shapes = self.reader.shapes(shape.names)
        return lang.either(*(s.content for s in shapes if isinstance(s, StringShape)))

    def extra_member(self, shape: ObjectShape) -> lang.Language:
        """A property that is not declared, where the schema asks for such; keys are split by the patterns they match."""
        asked = any(rest.patterns or rest.declared for rest in shape.rests)
        if shape.properties and not asked:
            return lang.NEVER
        patterns = list(dict.fromkeys(p for rest in shape.rests for p, _ in rest.patterns))
        if len(patterns) > MOST_PATTERNS:
            raise refusal("patternProperties", "", f"at most {MOST_PATTERNS} patterns an object can be")
        declared = lang.either(*(lang.literal(name) for name, _ in shape.properties))
        keys = lang.Without(self.key_content(shape), declared)
        options = []
        for chosen in range(2 ** len(patterns)):
            matching = {p for i, p in enumerate(patterns) if chosen >> i & 1}
            key = keys
            for pattern in patterns:
                key = (lang.both if pattern in matching else lang.Without)(key, pattern_content(pattern))
            value = self.value(_extra_terms(shape, matching))
            if value is not lang.NEVER and not compile_language(key).is_empty:
                options.append(lang.sequence(lang.Quoted(key), self.colon, value))
        return lang.either(*options)

    def ending(self, extra: lang.Language, least: int, most: int | None) -> Callable[[int], lang.Language]:
        """What may follow once `written` declared members stand: undeclared ones, or nothing."""

        @lru_cache(maxsize=None)
        def end(written: int) -> lang.Language:
            needed, room = max(0, least - written), None if most is None else most - written
            if extra is lang.NEVER or room == 0:
                return lang.EMPTY if needed == 0 else lang.NEVER
            if needed > 1:  # undeclared keys may repeat, so only one of them surely counts
                return lang.NEVER
            if written:
                return lang.repeat(lang.sequence(self.comma, extra), needed, room)
            some = lang.sequence(extra, lang.repeat(lang.sequence(self.comma, extra), 0, None if room is None else room - 1))
            return some if needed else lang.optional(some)

        return end

    def in_order(
        self, members: list[tuple[lang.Language, bool]], least: int, most: int | None, end: Callable[[int], lang.Language]
    ) -> lang.Language:
        """Members in the order given, optional ones there or not."""
        counted = len(members) if most is not None else max(least, 1)  # larger numbers make no difference

        @lru_cache(maxsize=None)
        def rest(i: int, written: int) -> lang.Language:
            if i == len(members):
                return end(written)
            member, required = members[i]
            options = []
            if most is None or written < most:
                separator = self.comma if written else lang.EMPTY
                options.append(lang.sequence(separator, member, rest(i + 1, min(written + 1, counted))))
            if not required:
                options.append(rest(i + 1, written))
            return lang.either(*options)

        return rest(0, 0)

    def any_order(
        self, members: list[tuple[lang.Language, bool]], least: int, most: int | None, end: Callable[[int], lang.Language]
    ) -> lang.Language:
        """Members in any order, each at most once; situations are the sets of members already written."""
        if len(members) > MOST_FREE_KEYS:
            raise refusal("properties", "", f"a free key order takes at most {MOST_FREE_KEYS} properties: declare the order")
        needed = sum(1 << i for i, (_, required) in enumerate(members) if required)

        @lru_cache(maxsize=None)
        def rest(written: int) -> lang.Language:
            count = written.bit_count()
            options = []
            if written & needed == needed and count >= least or (written & needed == needed and end(count) is not lang.EMPTY):
                options.append(end(count))
            if most is None or count < most:
                separator = self.comma if count else lang.EMPTY
                for i, (member, _) in enumerate(members):
                    if not written >> i & 1:
                        options.append(lang.sequence(separator, member, rest(written | 1 << i)))
            return lang.either(*options)

        return rest(0)
