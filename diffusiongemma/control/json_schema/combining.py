"""Shapes together: what several of them say, all but some of them, one less another."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import lru_cache

from diffusiongemma.control.json_schema.scalars import (
    BooleanShape,
    NotNegatable,
    NullShape,
    NumberShape,
    StringShape,
    smaller,
    within,
)
from diffusiongemma.control.json_schema.shapes import ANY_SHAPES, ArrayShape, ObjectShape, Shape, Shapes, Spoken, merged
from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.compiler import compile_language
from diffusiongemma.errors import InputError

MOST_LEFT = 200  # alternatives, where others are taken away


def intersected(a: Shape, b: Shape) -> Shape | None:
    """What both say, or None where that is plainly nothing (types apart, bounds crossed)."""
    match a, b:
        case NullShape(), NullShape():
            return a
        case BooleanShape(), BooleanShape():
            values = a.values & b.values
            return BooleanShape(values) if values else None
        case StringShape(), StringShape():
            return _strings(a, b)
        case NumberShape(), NumberShape():
            return _numbers(a, b)
        case ArrayShape(), ArrayShape():
            return _arrays(a, b)
        case ObjectShape(), ObjectShape():
            return _objects(a, b)
    return None


def intersected_unions(a: Shapes, b: Shapes) -> Shapes:
    if a == ANY_SHAPES or b == ANY_SHAPES:
        return b if a == ANY_SHAPES else a
    pairs = (intersected(x, y) for x in a for y in b)
    return list(dict.fromkeys(shape for shape in pairs if shape is not None))


def negated(shapes: Shapes, whole: bool = True) -> Shapes:
    """Everything else. Raises `NotNegatable`; unless `whole`, that part of it which can be told."""
    result = ANY_SHAPES
    for shape in shapes:
        others = [other for other in ANY_SHAPES if type(other) is not type(shape)]
        result = _few(intersected_unions(result, others + shape.opposite(whole)), whole)
    return [silent(shape) for shape in result]


def without(shapes: Shapes, others: Shapes, whole: bool = True) -> Shapes:
    """The first less the others, pair by pair, of which only those that overlap must be negated. Raises
    `NotNegatable`; unless `whole`, that part of it which can be told."""
    for other in others:
        shapes = _few([left for shape in shapes for left in _less(shape, other, whole)], whole)
    return list(dict.fromkeys(shapes))


def _few(shapes: Shapes, whole: bool) -> Shapes:
    if whole and len(shapes) > MOST_LEFT:
        raise NotNegatable("the opposite of so many alternatives")
    return shapes[:MOST_LEFT]


def _less(shape: Shape, other: Shape, whole: bool) -> Shapes:
    if not intersected_unions(loosened([shape]), loosened([other])):
        return [shape]
    if isinstance(shape, ObjectShape) and isinstance(other, ObjectShape) and shape.is_closed and other.is_closed:
        return _less_closed(shape, other)
    return intersected_unions([shape], [silent(opposite) for opposite in other.opposite(whole)])


def _less_closed(shape: ObjectShape, other: ObjectShape) -> list[Shape]:
    """Of two closed shapes, what the first has alone: some property that the other does not name, or that breaks a rule
    of it."""
    unnamed = [name for name, _ in shape.properties if name not in dict(other.properties)]
    broken = [ObjectShape(required=(name,)) for name in unnamed] + other.broken_rules()
    return [left for one in broken if (left := intersected(shape, one)) is not None]


def silent(shape: Shape) -> Shape:
    """The same, having evaluated nothing: what stands under `not` does not, however often it is negated."""
    if isinstance(shape, ObjectShape):
        return replace(shape, spoken=Spoken())
    return replace(shape, spoken=0, speaks_of_all=False) if isinstance(shape, ArrayShape) else shape


def loosened(shapes: Shapes) -> Shapes:
    """All that any reader of the schema would take for these shapes (strings inside arrays and objects aside)."""
    return [s.loosened if isinstance(s, StringShape) else s for s in shapes]


@lru_cache(maxsize=1024)
def _strings(a: StringShape, b: StringShape) -> StringShape | None:
    least, most = max(a.least, b.least), smaller(a.most, b.most)
    if most is not None and least > most:
        return None
    for few, other in ((a, b), (b, a)):
        if few.listed and few.outer is None:
            return _listed(few.listed, other, least, most)
    content = lang.both(a.content, b.content)
    outer = lang.both(a.outer or a.content, b.outer or b.content) if a.outer or b.outer else None
    if isinstance(content, lang.Both) and compile_language(content).is_empty and _is_nothing(outer):
        return None
    return StringShape(content, outer, least, most)


def _listed(texts: tuple[str, ...], other: StringShape, least: int, most: int | None) -> StringShape | None:
    """Those of a few texts that another shape has too."""
    texts = tuple(text for text in texts if least <= len(text) <= (len(text) if most is None else most))
    inner, taken = _texts_in(other, texts), texts
    with contextlib.suppress(InputError):  # what two readers take together may be more than an automaton can tell
        taken = inner if other.outer is None else _texts_matching(other.outer, texts)
    if not taken:
        return None
    return StringShape(lang.words(inner), None if inner == taken else lang.words(taken), listed=inner)


def _is_nothing(outer: lang.Language | None) -> bool:
    with contextlib.suppress(InputError):  # as above
        return outer is None or compile_language(outer).is_empty
    return False


def _texts_in(shape: StringShape, texts: tuple[str, ...]) -> tuple[str, ...]:
    if not shape.listed:
        return _texts_matching(shape.content, texts)
    listed = frozenset(shape.listed)
    return tuple(text for text in texts if text in listed)


def _texts_matching(content: lang.Language, texts: tuple[str, ...]) -> tuple[str, ...]:
    return texts if content is lang.ANY_TEXT else tuple(filter(compile_language(content).matches, texts))


def _numbers(a: NumberShape, b: NumberShape) -> NumberShape | None:
    if a.whole is not None and b.whole is not None and a.whole != b.whole:
        return None
    shape = within(a, b)
    return None if compile_language(shape.language).is_empty else shape


def _arrays(a: ArrayShape, b: ArrayShape) -> ArrayShape | None:
    length = max(len(a.prefix), len(b.prefix))
    least, most = max(a.least, b.least), smaller(a.most, b.most)
    if most is not None and least > most:
        return None
    return ArrayShape(
        prefix=tuple(merged(a.item(i), b.item(i)) for i in range(length)),
        rest=merged(a.rest, b.rest),
        least=least,
        most=most,
        contains=a.contains + b.contains,
        unique=a.unique or b.unique,
        spoken=max(a.spoken, b.spoken),
        speaks_of_all=a.speaks_of_all or b.speaks_of_all,
    )


def _objects(a: ObjectShape, b: ObjectShape) -> ObjectShape | None:
    least, most = max(a.least, b.least), smaller(a.most, b.most)
    if most is not None and least > most:
        return None
    properties = dict(a.properties)
    for name, terms in b.properties:
        properties[name] = merged(properties.get(name, ()), terms)
    return ObjectShape(
        properties=tuple(properties.items()),
        required=tuple(dict.fromkeys(a.required + b.required)),
        rests=tuple(dict.fromkeys(a.rests + b.rests)),
        names=merged(a.names, b.names),
        least=least,
        most=most,
        spoken=a.spoken | b.spoken,
        others=tuple(dict.fromkeys(a.others + b.others)),
    )
