"""`pattern` and `patternProperties`: what every reader of a schema takes a pattern to match."""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from functools import lru_cache

from diffusiongemma.control.json_schema.scalars import StringShape
from diffusiongemma.control.json_schema.shapes import Other
from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.compiler import compile_language
from diffusiongemma.control.languages.dfa import TooLarge
from diffusiongemma.control.languages.ecma import NotEcma, as_python, is_exact
from diffusiongemma.control.languages.regex import found_language
from diffusiongemma.errors import InputError

SHORTER_REPEATS = (None, 64, 32, 16)  # of what a pattern repeats more often, where that is too large


def pattern_shape(pattern: str) -> StringShape:
    """Strings in which the pattern is found.

    JSON Schema's patterns are ECMA-262's, and many validators read them as Python's: what is written must match for
    both, or for the one that reads the pattern at all. Of what is too large less is repeated. Raises `InputError`.
    """
    return _shape_and_repeats(pattern)[0]


def most_repeats(pattern: str) -> int | None:
    """How often at most anything is repeated of a pattern that is too large otherwise; None of others."""
    return _shape_and_repeats(pattern)[1]


@lru_cache(maxsize=256)
def _shape_and_repeats(pattern: str) -> tuple[StringShape, int | None]:
    for longest in SHORTER_REPEATS:
        shape = _as_readers_take_it(pattern, longest)
        with contextlib.suppress(TooLarge):
            compile_language(shape.content)
            return shape if longest is None else replace(shape, outer=lang.ANY_TEXT), longest
    return _as_readers_take_it(pattern, None), None


def _as_readers_take_it(pattern: str, longest: int | None) -> StringShape:
    readings: list[lang.Language] = []
    problems: list[InputError] = []
    for translated, flags in ((as_python, re.ASCII), (str, 0)):
        try:
            readings.append(found_language(translated(pattern), flags, longest))
        except TooLarge:
            raise
        except InputError as error:
            problems.append(error)
    if not readings:
        raise problems[isinstance(problems[0], NotEcma)]
    if len(readings) == 1 or not re.search(r"[\\$.{]|\[\^?\]", pattern):
        return StringShape(readings[-1], None if is_exact(pattern) else lang.ANY_TEXT)
    ecma, python = readings
    return StringShape(lang.both(python, ecma), lang.either(python, ecma))


@lru_cache(maxsize=4096)
def is_found(pattern: str, name: str) -> bool | None:
    """Whether a pattern is found in a name; None where readers of the schema differ on it."""
    shape = pattern_shape(pattern)
    inner = compile_language(shape.content).matches(name)
    outer = inner if shape.outer is None else compile_language(shape.outer).matches(name)
    return inner if inner == outer else None


def is_other(name: str, other: Other) -> bool:
    """Whether all readers of the schema take a property of this name for one that must be there, by its name."""
    return name not in other.names and all(is_found(pattern, name) is does for pattern, does in other.matches)
