"""Literal text with typed holes."""

from __future__ import annotations

import re

from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.charset import char_range, complement
from diffusiongemma.control.languages.choices import choices_language
from diffusiongemma.errors import InputError

SIGNED_INTEGER = lang.sequence(
    lang.optional(lang.literal("-")),
    lang.either(
        lang.literal("0"),
        lang.sequence(lang.Chars(char_range("1", "9")), lang.repeat(lang.DIGIT, 0, 17)),
    ),
)
HOLES: dict[str, lang.Language] = {
    "str": lang.repeat(lang.Chars(complement(((0, 0x1F), (0x7F, 0x9F)))), 1),  # one line, at least one character
    "int": SIGNED_INTEGER,
    "float": lang.sequence(
        SIGNED_INTEGER,
        lang.optional(lang.sequence(lang.literal("."), lang.repeat(lang.DIGIT, 1, 17))),
    ),
    "bool": lang.either(lang.literal("true"), lang.literal("false")),
}
HOLE = re.compile(r"\{\{|\}\}|\{(?P<name>\w+)(?::(?P<kind>[^{}]*))?\}|[{}]")


def template_language(template: str) -> lang.Language:
    """Literal text with typed holes: `"Name: {name:str} Age: {age:int}"`.

    Types are `str` (one line; the default), `int`, `float`, `bool`, or a list of choices `{x:a|b|c}`; a literal brace
    is doubled. Raises `InputError` for a lone brace, an unknown type or a template without holes.
    """
    parts: list[lang.Language] = []
    end = holes = 0
    for found in HOLE.finditer(template):
        parts.append(lang.literal(template[end : found.start()]))
        end = found.end()
        if found["name"] is None:
            parts.append(_doubled_brace(found.group(), template))
        else:
            holes += 1
            parts.append(_hole(found["name"], found["kind"]))
    if not holes:
        raise InputError("it has no hole: write one as {name:str}", option="template", got=template)
    return lang.sequence(*parts, lang.literal(template[end:]))


def _doubled_brace(found: str, template: str) -> lang.Language:
    if len(found) == 1:
        raise InputError(f"write {found * 2!r} for a brace in the text", option="template", got=template)
    return lang.literal(found[0])


def _hole(name: str, kind: str | None) -> lang.Language:
    if kind is None or kind in HOLES:
        return HOLES[kind or "str"]
    if "|" not in kind:
        message = f"hole {{{name}:{kind}}} has an unknown type: use {', '.join(HOLES)} or a|b|c"
        raise InputError(message, option="template")
    return choices_language(tuple(kind.split("|")), "template")
