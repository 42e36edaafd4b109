"""Which part of a structure makes it large: what a refusal names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from diffusiongemma.control.structure import Grammar, Structure, ToolCalls

COUNTED = re.compile(r"\{(\d*),?(\d*)\}")
SIZES = ("maxLength", "minLength", "maxItems", "minItems", "maxProperties", "minProperties")
LISTS = ("enum", "properties", "anyOf", "oneOf", "allOf", "prefixItems")
Part = tuple[int, str]  # how large, and its name


def largest_part(grammar: Grammar) -> tuple[str | None, str]:
    """The option that it is in, and its name in words."""
    if isinstance(grammar, ToolCalls):
        parts = [(size, f"{part} of {name}") for name, text in grammar.schemas for size, part in _schema_parts(text)]
        return "tools", max(parts)[1]
    if not isinstance(grammar, Structure):
        return None, "it"
    words = max((len(grammar.banned_words), "banned_words"), (len(grammar.required_words), "required_words"))
    if grammar.json_schema is not None:
        return "json_schema", max(_schema_parts(grammar.json_schema))[1]
    if grammar.regex is not None:
        return "regex", max(_pattern_parts(grammar.regex))[1]
    if grammar.choices is not None:
        return "choices", f"a list of {len(grammar.choices):,}"
    return (words[1], f"a list of {words[0]:,}") if grammar.template is None else ("template", "it")


def _pattern_parts(pattern: str) -> Iterator[Part]:
    yield 0, "the pattern" if len(pattern) > 60 else repr(pattern)
    for found in COUNTED.finditer(pattern):
        yield max(int(number or 0) for number in found.groups()), f"the repetition {found.group()}"


def _schema_parts(text: str) -> Iterator[Part]:
    yield 0, "the schema"
    try:
        pending: list[tuple[str, Any]] = [("", json.loads(text))]
    except (ValueError, RecursionError):
        return
    while pending:
        where, value = pending.pop()
        if isinstance(value, list):
            pending += [(f"{where}/{i}", item) for i, item in enumerate(value)]
        if isinstance(value, dict):
            yield from _keyword_parts(value, where)
            pending += [(f"{where}/{key}", item) for key, item in value.items()]


def _keyword_parts(schema: dict[str, Any], where: str) -> Iterator[Part]:
    for keyword, value in schema.items():
        place = f"at {where or '/'}"
        if keyword in SIZES and isinstance(value, int):
            yield value, f"{keyword!r} {place}, {value:,},"
        elif keyword in LISTS and isinstance(value, list | dict):
            yield len(value), f"{keyword!r} {place}, {len(value):,} of them,"
        elif keyword == "pattern" and isinstance(value, str):
            yield from ((size, f"{part} of 'pattern' {place}") for size, part in _pattern_parts(value))
