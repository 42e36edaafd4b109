"""From a JSON Schema to the language of the texts to generate: the widest that can be compiled."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from diffusiongemma.control.json_schema.nesting import FURTHER, MOST_STATES, REACHES, Nesting, Reach
from diffusiongemma.control.json_schema.parts import Parts
from diffusiongemma.control.json_schema.schema import SchemaReader
from diffusiongemma.control.json_schema.writer import Writer
from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.compiler import compile_language
from diffusiongemma.control.languages.dfa import TooLarge
from diffusiongemma.control.notice import Notice
from diffusiongemma.control.recursion import deep_recursion
from diffusiongemma.errors import InputError


def json_schema_language(schema: Any, strict: bool = False) -> lang.Language:
    """The language of JSON texts that meet `schema` (a JSON Schema as an object or its text).

    Raises `InputError` naming keywords and places for what is not a schema, can't be guaranteed or can't be met.
    """
    return read_schema(schema, strict)[0]


def read_schema(
    schema: Any, strict: bool = False, most_states: int = MOST_STATES
) -> tuple[lang.Language, list[Notice]]:
    """The language, and what is to be said about keywords that constrain nothing (with `strict` they are refused) or
    of which less is written than they allow."""
    try:
        if isinstance(schema, str):
            schema = json.loads(schema)
        with deep_recursion():
            reader = SchemaReader(schema, strict)
            language, clipped = _widest(reader, [replace(r, states=min(r.states, most_states)) for r in REACHES])
    except json.JSONDecodeError as error:
        raise InputError(f"it is not JSON: {error}", option="json_schema") from error
    except RecursionError as error:
        raise TooLarge("it is nested too deeply: flatten it", option="json_schema") from error
    return language, [*reader.notes.notices, *clipped]


def _widest(reader: SchemaReader, reaches: Sequence[Reach]) -> tuple[lang.Language, list[Notice]]:
    """The language of the furthest reach that can be compiled, and what is written less far in it; looked for by halves
    where that is not the first. What leads back to itself costs as much as it is unrolled, mostly to be found too
    large, so there one that unrolls it once comes before."""
    attempts = _Attempts(reader)
    unrolled = attempts.begin(reaches[0])
    narrower = attempts.worth_trying(reaches[1:])
    first, past = 0, len(narrower)
    if unrolled:
        once = next(i for i, reach in enumerate(narrower) if reach.recursions <= 1)
        first, past = (0, once) if attempts.fits(narrower[once]) else (once + 1, past)
    if first == 0 and attempts.fits(reaches[0]):
        past = 0
        if attempts.may_go_further:
            attempts.fits(FURTHER)
    while first < past:
        middle = (first + past) // 2
        first, past = (first, middle) if attempts.fits(narrower[middle]) else (middle + 1, past)
    if attempts.language is not None:
        return attempts.language, attempts.clipped
    if attempts.refused is not None:
        raise attempts.refused
    message = "no finite JSON value meets it: look for contradictions or recursion without an end"
    raise InputError("; ".join([message, *reader.notes.narrowed]), option="json_schema")


class _Attempts:
    """To write a schema, with what one learns for the next. `language` is the latest that fitted and has a text, and
    `clipped` what is written less far in it."""

    def __init__(self, reader: SchemaReader) -> None:
        self._reader, self._parts, self._nesting = reader, Parts(reader), Nesting()
        self._begun: tuple[Writer, lang.Language] | TooLarge | None = None
        self._states = 0  # of the latest
        self._free = True  # whether values without a schema are written
        self._longest = (0, 0)  # what limits of characters and of items there are
        self.language: lang.Language | None = None
        self.clipped: list[Notice] = []
        self.refused: TooLarge | None = None

    def begin(self, reach: Reach) -> bool:
        """Write the first time. Whether it has schemas that lead back to themselves; none is unrolled yet."""
        try:
            writer, _ = self._begun = self._pass(reach)
        except TooLarge as error:
            self._begun = error
            return False
        if writer.heads:
            self._know(writer)
            self._begun = None
        return self._nesting.is_recursive

    def fits(self, reach: Reach) -> bool:
        """Whether the language of a reach can be compiled, also one without a text."""
        try:
            writer, language = self._written(reach)
            dfa = compile_language(language, reach.states)
        except TooLarge as error:
            self.refused = error
            return False
        self._states = dfa.num_states
        if not dfa.is_empty:
            self.language, self.clipped = language, writer.clips.notices
        return True

    @property
    def may_go_further(self) -> bool:
        """Whether there are values without a schema in what was written last, and few."""
        return self._free and self._states <= FURTHER.states // 2

    def worth_trying(self, reaches: Iterable[Reach]) -> list[Reach]:
        """One of those that differ only in what this schema does not ask."""
        seen = {}
        for reach in reaches:
            recursions = reach.recursions if self._nesting.is_recursive else None
            free = reach.free if self._free else None
            most = min(reach.counts, self._longest[0]), min(reach.items, self._longest[1])
            seen[recursions, free, reach.deepest, reach.states, most] = reach
        return list(seen.values())

    def _written(self, reach: Reach) -> tuple[Writer, lang.Language]:
        """Once more as long as it turns out that more leads back to itself, or that strings can't be counted so far."""
        if isinstance(begun := self._begun, TooLarge):
            self._begun = None
            raise begun
        while True:
            writer, language = begun or self._pass(reach)
            begun = self._begun = None
            if writer.heads:
                self._know(writer)
            elif (counts := writer.counts_that_fit()) < reach.counts:
                reach = replace(reach, counts=counts)
            else:
                return writer, language

    def _know(self, writer: Writer) -> None:
        self._nesting = self._nesting.knowing(writer.heads, writer.inside)

    def _pass(self, reach: Reach) -> tuple[Writer, lang.Language]:
        writer = Writer(self._parts, self._reader, reach, self._nesting)
        language = writer.root()
        self._free, self._longest = writer.writes_free_values, writer.longest
        return writer, language
