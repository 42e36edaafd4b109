"""The keywords of JSON Schema that speak of one type each, or list values, read into shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from math import isfinite
from typing import Any

from diffusiongemma.control.json_schema.combining import intersected_unions
from diffusiongemma.control.json_schema.dialects import at
from diffusiongemma.control.json_schema.formats import FORMATS, NUMBERS, UNWRITTEN, format_language
from diffusiongemma.control.json_schema.numbers import EXACT_DIGITS
from diffusiongemma.control.json_schema.patterns import pattern_shape
from diffusiongemma.control.json_schema.problems import malformed, refusal, schema_error
from diffusiongemma.control.json_schema.scalars import BooleanShape, NullShape, NumberShape, StringShape
from diffusiongemma.control.json_schema.shapes import (
    ANY_SHAPES,
    NOTHING,
    ArrayShape,
    Contains,
    ObjectShape,
    Rest,
    Shape,
    Shapes,
    Spoken,
    Term,
    Terms,
)
from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.dfa import TooLarge
from diffusiongemma.errors import InputError

TYPED_KEYWORDS = {
    *("type", "const", "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "pattern", "format"),
    *("prefixItems", "items", "minItems", "maxItems", "uniqueItems", "contains", "minContains", "maxContains"),
    *("properties", "required", "patternProperties", "additionalProperties", "propertyNames"),
    *("minProperties", "maxProperties"),
}
TYPES: dict[str, Shape] = {
    "null": NullShape(),
    "boolean": BooleanShape(),
    "integer": NumberShape(whole=True),
    "number": NumberShape(),
    "string": StringShape(),
    "array": ArrayShape(),
    "object": ObjectShape(),
}
LARGEST_DIVISOR, MOST_PLACES = 5000, 8


def unknown_format(raw: Mapping[str, Any]) -> bool:
    return "format" in raw and not (
        isinstance(raw["format"], str) and raw["format"] in {*FORMATS, *NUMBERS, *UNWRITTEN}
    )


def strings(value: Any, keyword: str, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise malformed(keyword, where, "a list of strings")
    return tuple(value)


def subschemas(raw: Mapping[str, Any], keyword: str, where: str) -> Terms:
    if not isinstance(raw[keyword], list) or not raw[keyword]:
        raise malformed(keyword, where, "a list of schemas")
    return tuple(Term(at(where, keyword, i), schema) for i, schema in enumerate(raw[keyword]))


def mapping(raw: Mapping[str, Any], keyword: str, where: str) -> Mapping[str, Any]:
    value = raw.get(keyword, {})
    if not isinstance(value, Mapping):
        raise malformed(keyword, where, "an object")
    return value


def count(raw: Mapping[str, Any], keyword: str, where: str) -> int | None:
    value = raw.get(keyword)
    if value is None and keyword not in raw:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value) or value < 0:
        raise malformed(keyword, where, "a whole number, 0 or more")
    return int(value)


def number(raw: Mapping[str, Any], keyword: str, where: str) -> Decimal | None:
    value = raw.get(keyword)
    if value is None and keyword not in raw:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise malformed(keyword, where, "a number")
    return exact(value)


def exact(value: int | float) -> Decimal:
    """The number that a reader of the schema has: a float's shortest decimal form, or all its digits if it is whole."""
    return Decimal(value) if isinstance(value, int) or value.is_integer() else Decimal(repr(value))


# -- values and types


def listed_shapes(raw: Mapping[str, Any], where: str) -> Shapes:
    """What `type`, `const` and `enum` leave."""
    union = ANY_SHAPES
    if "type" in raw:
        names = [raw["type"]] if isinstance(raw["type"], str) else strings(raw["type"], "type", where)
        if unknown := [name for name in names if name not in TYPES]:
            raise schema_error(f"type {unknown[0]!r} at {where or '/'} is unknown: use {', '.join(TYPES)}")
        distinct = [name for name in dict.fromkeys(names) if not (name == "integer" and "number" in names)]
        union = intersected_unions(union, [TYPES[name] for name in distinct])
    if "const" in raw:
        union = intersected_unions(union, [value_shape(raw["const"], f"{where}/const")])
    if "enum" in raw:
        if not isinstance(raw["enum"], list) or not raw["enum"]:
            raise malformed("enum", where, "a list of values")
        union = intersected_unions(union, _enum(raw["enum"], f"{where}/enum"))
    return union


def _enum(values: list[Any], where: str) -> Shapes:
    texts = [value for value in values if isinstance(value, str)]
    others = [value_shape(v, f"{where}/{i}") for i, v in enumerate(values) if not isinstance(v, str)]
    distinct = tuple(dict.fromkeys(texts))
    listed = StringShape(lang.words(distinct), listed=distinct if len(distinct) <= lang.MANY_WORDS else ())
    return ([listed] if texts else []) + list(dict.fromkeys(others))


def value_shape(value: Any, where: str) -> Shape:
    """The shape of exactly this value."""
    match value:
        case None:
            return NullShape()
        case bool():
            return BooleanShape(frozenset({value}))
        case int() | float():
            if not isfinite(value):
                raise malformed(where.rpartition("/")[2], where, "finite numbers")
            return NumberShape(exact(value), exact(value), whole=value == int(value))
        case str():
            return StringShape(lang.literal(value), listed=(value,))
        case list():
            items = tuple((Term(f"{where}/{i}", {"const": item}),) for i, item in enumerate(value))
            return ArrayShape(items, NOTHING, len(items), len(items))
        case Mapping():
            properties = tuple((k, (Term(at(where, k), {"const": v}),)) for k, v in value.items())
            return ObjectShape(properties, tuple(value), (Rest(frozenset(value), (), NOTHING, True),))
    raise malformed(where.rpartition("/")[2], where, "JSON")


# -- keywords by type


def typed_shapes(raw: Mapping[str, Any], where: str) -> Shapes:
    """What the keywords of each type say about values of that type; without any, nothing."""
    return [
        NullShape(),
        BooleanShape(),
        _number_shape(raw, where),
        _string_shape(raw, where),
        _array_shape(raw, where),
        _object_shape(raw, where),
    ]


def _number_shape(raw: Mapping[str, Any], where: str) -> NumberShape:
    lows = _bounds(raw, where, {"minimum": False, "exclusiveMinimum": True})
    highs = _bounds(raw, where, {"maximum": True, "exclusiveMaximum": False})
    for bound, _ in (*lows, *highs):
        if bound != int(bound) and len(bound.as_tuple().digits) > EXACT_DIGITS:
            raise refusal("a bound", where, f"{bound} has more than {EXACT_DIGITS} digits: round it")
    low, low_open = max(lows, default=(None, False))
    high, high_closed = min(highs, default=(None, True))  # at equal bounds the stricter, open one comes first
    bounds = NUMBERS.get(str(raw.get("format")))
    return NumberShape(low, high, low_open, not high_closed, None, *_divisor(raw, where), bounds or (None, None))


def _bounds(raw: Mapping[str, Any], where: str, keywords: dict[str, bool]) -> list[tuple[Decimal, bool]]:
    found = ((number(raw, keyword, where), mark) for keyword, mark in keywords.items())
    return [(bound, mark) for bound, mark in found if bound is not None]


def _divisor(raw: Mapping[str, Any], where: str) -> tuple[int, int]:
    """`multipleOf` as a whole number of 10^-places, and the places."""
    divisor = number(raw, "multipleOf", where)
    if divisor is None:
        return 1, 0
    if divisor <= 0:
        raise malformed("multipleOf", where, "a number above 0")
    places = max(0, -int(divisor.as_tuple().exponent))
    whole = int(divisor.scaleb(places))
    if places > MOST_PLACES or whole * (2 * places + 1) > LARGEST_DIVISOR:
        why = f"at most {LARGEST_DIVISOR}, with at most {MOST_PLACES} digits after the point, can be"
        raise refusal("multipleOf", where, why)
    return whole, places


def _string_shape(raw: Mapping[str, Any], where: str) -> StringShape:
    shape = StringShape(least=count(raw, "minLength", where) or 0, most=count(raw, "maxLength", where))
    if "pattern" in raw:
        shape = _narrowed(shape, pattern_shape(_pattern(raw["pattern"], where)))
    if raw.get("format") in FORMATS:
        shape = _narrowed(shape, StringShape(format_language(raw["format"]), lang.ANY_TEXT))
    return shape


def _narrowed(a: StringShape, b: StringShape) -> StringShape:
    outer = lang.both(a.outer or a.content, b.outer or b.content) if a.outer or b.outer else None
    return replace(a, content=lang.both(a.content, b.content), outer=outer)


def _pattern(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise malformed("pattern", where, "a string")
    try:
        pattern_shape(value)
    except TooLarge:
        raise
    except InputError as error:
        raise refusal("pattern", where, error.message) from error
    return value


def _array_shape(raw: Mapping[str, Any], where: str) -> ArrayShape:
    if not isinstance(raw.get("uniqueItems", False), bool):
        raise malformed("uniqueItems", where, "true or false")
    least, most = count(raw, "minItems", where), count(raw, "maxItems", where)
    contains: tuple[Contains, ...] = ()
    if "contains" in raw:
        needed = count(raw, "minContains", where)
        terms = (Term(f"{where}/contains", raw["contains"]),)
        contains = (Contains(terms, 1 if needed is None else needed, count(raw, "maxContains", where)),)
    return ArrayShape(
        prefix=tuple((term,) for term in subschemas(raw, "prefixItems", where)) if "prefixItems" in raw else (),
        rest=(Term(f"{where}/items", raw["items"]),) if "items" in raw else (),
        least=least or 0,
        most=most,
        contains=contains,
        unique=raw.get("uniqueItems", False),
        spoken=len(raw.get("prefixItems", ())),
        speaks_of_all="items" in raw,
    )


def _object_shape(raw: Mapping[str, Any], where: str) -> ObjectShape:
    properties = mapping(raw, "properties", where)
    patterns = {_pattern(p, where): s for p, s in mapping(raw, "patternProperties", where).items()}
    declared = "additionalProperties" in raw
    rest = Rest(
        names=frozenset(properties),
        patterns=tuple((p, (Term(at(where, "patternProperties", p), s),)) for p, s in patterns.items()),
        additional=(Term(f"{where}/additionalProperties", raw["additionalProperties"]),) if declared else (),
        declared=declared,
    )
    return ObjectShape(
        properties=tuple((name, (Term(at(where, "properties", name), s),)) for name, s in properties.items()),
        required=strings(raw.get("required", []), "required", where),
        rests=(rest,) if rest.patterns or rest.declared else (),
        names=(Term(f"{where}/propertyNames", raw["propertyNames"]),) if "propertyNames" in raw else (),
        least=count(raw, "minProperties", where) or 0,
        most=count(raw, "maxProperties", where),
        spoken=Spoken(frozenset(properties), tuple(patterns), declared),
    )
