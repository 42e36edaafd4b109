"""What is written between the brackets of an array."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from diffusiongemma.control.json_schema.arrangements import Count, containing, listed, with_prefix
from diffusiongemma.control.json_schema.distinct import COMMA, KINDS, Limited, distinct_nested, distinct_plain
from diffusiongemma.control.json_schema.problems import refusal
from diffusiongemma.control.json_schema.scalars import NumberShape, StringShape
from diffusiongemma.control.json_schema.shapes import NOTHING, ArrayShape, Contains, ObjectShape, Shape, Terms, merged
from diffusiongemma.control.languages import language as lang

if TYPE_CHECKING:
    from diffusiongemma.control.json_schema.writer import Writer


def items(writer: Writer, shape: ArrayShape) -> lang.Language:
    most = writer.counted(max([shape.least, *(contains.least for contains in shape.contains)]), shape.most)
    with writer.repeated(most if most is None or not shape.unique else min(most, len(KINDS))):
        return _counted(writer, shape, Count(shape.least, most))


def _counted(writer: Writer, shape: ArrayShape, count: Count) -> lang.Language:
    differ = shape.unique and count.allows_more(1)
    if differ and not shape.prefix and not shape.contains:
        return _distinct(writer, shape, count)
    prefix = [writer.value(terms) for terms in shape.prefix]
    rest = writer.value(shape.rest)
    if rest is not lang.NEVER and not differ:
        writer.clip("maxItems", "items", shape.most, count.most)
    body = with_prefix(prefix, rest, count, COMMA)
    more = [_distinct(writer, shape, count)] if differ else []
    return lang.both(body, *(_that_contain(writer, shape, contains) for contains in shape.contains), *more)


def _that_contain(writer: Writer, shape: ArrayShape, contains: Contains) -> lang.Language:
    places = [*shape.prefix, shape.rest]
    meeting = lang.either(*(writer.value(merged(place, contains.terms)) for place in places))
    if contains.most is None:
        others = [writer.value(place) for place in places]
    else:  # those that must not be counted
        others = [writer.value(merged(place, (t.negation,))) for place in places for t in contains.terms]
    return containing(meeting, lang.either(*others), Count(contains.least, contains.most), COMMA)


def _distinct(writer: Writer, shape: ArrayShape, count: Count) -> lang.Language:
    """Lists of items of any place that differ: arrays and objects in the value that comes first in them."""
    places = (*shape.prefix, shape.rest)
    kinds = list(dict.fromkeys(kind for terms in places for kind in writer.reader.shapes(terms)))
    plain = lang.either(*(writer.shape(kind) for kind in kinds if not _is_nested(kind)))
    nested = [kind for kind in kinds if _is_nested(kind)]

    def limited(most: int) -> None:
        if count.allows_more(most):
            what = "1 item" if most == 1 else f"{most} items"
            writer.clips("uniqueItems", writer.here, what, most, "more could not be told apart")

    found = (
        _with_nested(writer, places, plain, nested, count, limited) if nested else distinct_plain(plain, count, limited)
    )
    if found is None:
        mend = f"at most {len(KINDS)} items that are not listed can be told apart: add an enum, or remove it"
        raise refusal("uniqueItems", writer.here, mend)
    return found


def _with_nested(
    writer: Writer, places: Iterable[Terms], plain: lang.Language, nested: list[Shape], count: Count, limited: Limited
) -> lang.Language | None:
    item = lang.either(*map(writer.value, places))
    if count.least > 1 or all(_is_flat(writer, kind) for kind in nested):
        most = writer.items_that_fit(count.least, len(KINDS), len(KINDS) // 2)
        return distinct_nested(item, _openings(writer, nested), count, most, limited)
    alone = listed(item, Count(count.least, 1), COMMA)  # each level would take several times the last
    if plain is lang.NEVER:
        limited(1)
        return alone
    return lang.either(alone, distinct_plain(plain, count, limited) or lang.NEVER)


def _is_nested(shape: Shape) -> bool:
    return isinstance(shape, ArrayShape | ObjectShape)


def _is_flat(writer: Writer, shape: Shape) -> bool:
    """Whether there is nothing nested in its items or named properties."""
    if isinstance(shape, ObjectShape):
        inside = [terms for _, terms, _ in writer.parts.members(shape)]
    else:
        inside = [*shape.prefix, shape.rest] if isinstance(shape, ArrayShape) else []
    return not any(_is_nested(kind) for terms in inside for kind in writer.reader.shapes(terms))


def _openings(writer: Writer, kinds: Iterable[Shape]) -> list[lang.Language]:
    """What comes before the value by which arrays and objects are told apart; of objects it is that of one property,
    which comes first in each."""
    found: dict[str, lang.Language] = {}
    for kind in kinds:
        if isinstance(kind, ArrayShape):
            found["["] = lang.literal("[")
        elif isinstance(kind, ObjectShape) and (name := _told_apart_by(writer, kind)) is not None:
            found.setdefault("{", lang.literal("{" + json.dumps(name, ensure_ascii=False) + ":"))
    return list(found.values())


def _told_apart_by(writer: Writer, shape: ObjectShape) -> str | None:
    """The first property that is required, or one before it, and may be a text or a number."""
    for name, (_, terms, required) in zip(writer.parts.names(shape), writer.parts.members(shape), strict=True):
        values = [] if terms == NOTHING else writer.reader.shapes(terms)
        if any(isinstance(value, StringShape | NumberShape) for value in values):
            return name
        if required:
            break
    return None
