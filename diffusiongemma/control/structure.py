"""What an answer must be: what users state, as values that can be compared and hashed, and the language of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypedDict

from diffusiongemma.control.json_schema.nesting import MOST_STATES
from diffusiongemma.control.json_schema.text import read_schema
from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.choices import choices_language
from diffusiongemma.control.languages.regex import regex_language
from diffusiongemma.control.languages.template import template_language
from diffusiongemma.control.languages.words import words_language
from diffusiongemma.control.notice import CHARS_A_TOKEN, Notice
from diffusiongemma.errors import InputError

LONGEST_REPEAT = 4096  # of what a pattern repeats more often
Warn = Callable[[Notice], object]


def _unheard(_: Notice) -> None:
    """What is said to nobody."""


class Grammar(Protocol):
    """Anything that knows its language. Equal values have the same one.

    Of schemas that allow without limit as much is written as automata of so many states hold.
    """

    def language(self, warn: Warn = _unheard, most_states: int = MOST_STATES) -> lang.Language: ...


class Stated(TypedDict, total=False):
    """The options that state a structure; at most one of the first four."""

    json_schema: Any
    strict_schema: bool
    regex: str | None
    choices: Collection[str] | None
    template: str | None
    banned_words: Collection[str]
    required_words: Collection[str]


@dataclass(frozen=True)
class Structure:
    """What the text must be: at most one of the first four, with words that must or must not be in it."""

    json_schema: str | None = None
    regex: str | None = None
    choices: tuple[str, ...] | None = None
    template: str | None = None
    banned_words: tuple[str, ...] = ()
    required_words: tuple[str, ...] = ()
    strict_schema: bool = False

    @classmethod
    def of(cls, stated: Stated) -> Structure:
        """Raises `InputError` for what is not of the right form."""
        for name in ("choices", "banned_words", "required_words"):
            if isinstance(stated.get(name), str):
                raise InputError("give a list of texts, not one text", option=name)
        schema, choices = stated.get("json_schema"), stated.get("choices")
        return cls(
            json_schema=schema if schema is None or isinstance(schema, str) else _as_json(schema),
            regex=stated.get("regex"),
            choices=None if choices is None else tuple(choices),
            template=stated.get("template"),
            banned_words=tuple(stated.get("banned_words") or ()),
            required_words=tuple(stated.get("required_words") or ()),
            strict_schema=bool(stated.get("strict_schema")),
        )

    def language(self, warn: Warn = _unheard, most_states: int = MOST_STATES) -> lang.Language:
        """Raises `InputError` for what is malformed, contradictory or can't be guaranteed; what constrains nothing, or
        is written in part, goes to `warn`."""
        return words_language(self._text(warn, most_states), self.banned_words, self.required_words)

    def _text(self, warn: Warn, most_states: int) -> lang.Language:
        kinds = ("json_schema", "regex", "choices", "template")
        stated = [kind for kind in kinds if getattr(self, kind) is not None]
        if len(stated) > 1:
            raise InputError(f"it and `{stated[0]}` can't both be asked for: choose one", option=stated[1])
        if self.json_schema is not None:
            language, notices = read_schema(self.json_schema, self.strict_schema, most_states)
            for notice in notices:
                warn(notice)
            return language
        if self.regex is not None:
            clipped: list[int] = []
            language = regex_language(self.regex, longest=LONGEST_REPEAT, clip=clipped.append)
            if clipped:
                text = f"`regex` is written in part: what it repeats {max(clipped):,} times, {LONGEST_REPEAT:,} at most"
                warn(Notice(text, LONGEST_REPEAT // CHARS_A_TOKEN))
            return language
        if self.choices is not None:
            return choices_language(self.choices)
        return lang.ANY_TEXT if self.template is None else template_language(self.template)


def _as_json(schema: Any) -> str:
    try:
        return json.dumps(schema)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"it can't be written as JSON: {error}", option="json_schema") from error


@dataclass(frozen=True)
class ToolCalls:
    """`NAME{…}` with the name of one of the tools, and arguments of its schema (as JSON text)."""

    schemas: tuple[tuple[str, str], ...]

    def language(self, warn: Warn = _unheard, most_states: int = MOST_STATES) -> lang.Language:
        """Raises `InputError` naming the tool whose schema cannot be guaranteed."""
        return lang.either(*(self._call(name, schema, warn, most_states) for name, schema in self.schemas))

    def _call(self, name: str, schema: str, warn: Warn, most_states: int) -> lang.Language:
        try:
            arguments, notices = read_schema(schema, most_states=most_states)
            for notice in notices:
                warn(replace(notice, text=f"of {name}: {notice.text}"))
        except InputError as error:
            raise InputError(f"of {name}: {error.message}", option="tools") from error
        # Arguments are an object whatever the schema says of other values.
        opening = lang.sequence(lang.literal("{"), lang.ANY_TEXT)
        return lang.sequence(lang.literal(name), lang.both(arguments, opening))
