"""Anchors where a pattern begins and ends say what may stand around it, and need no automaton.

Most patterns of schemas begin with `^` and end with `$`. What is left without them the kernels' library compiles, which
knows no anchors (`flat`).
"""

from __future__ import annotations

from collections.abc import Iterator

from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.charset import chars

STARTS = ("start",)
ENDS = ("end", "end or final newline")
FINAL_NEWLINE = lang.optional(lang.Chars(chars("\n")))


def without_outer_anchors(text: lang.Language) -> lang.Language:
    """The same whole texts, said without the anchors at their ends, alternatives each by itself."""
    parts = list(_parts(text))
    before, after = parts[:1] == [lang.ANY_TEXT], parts[-1:] == [lang.ANY_TEXT]
    inner = parts[before : len(parts) - after]
    if len(inner) == 1 and isinstance(inner[0], lang.Either):
        return lang.either(*(_within(list(_parts(option)), before, after) for option in inner[0].options))
    return _within(inner, before, after)


def _within(parts: list[lang.Language], before: bool, after: bool) -> lang.Language:
    """The parts, and where it says so any text before and after them."""
    first: lang.Language = lang.ANY_TEXT if before else lang.EMPTY
    last: lang.Language = lang.ANY_TEXT if after else lang.EMPTY
    while parts and _is_anchor(parts[0], STARTS):
        parts, first = parts[1:], lang.EMPTY
    while parts and _is_anchor(parts[-1], ENDS):
        nothing = last is lang.EMPTY or _is_anchor(parts[-1], ("end",))
        parts, last = parts[:-1], lang.EMPTY if nothing else FINAL_NEWLINE
    return lang.sequence(first, *parts, last)


def _is_anchor(part: lang.Language, places: tuple[str, ...]) -> bool:
    return isinstance(part, lang.Anchor) and part.at in places


def _parts(text: lang.Language) -> Iterator[lang.Language]:
    """What it is a sequence of, without sequences inside."""
    if not isinstance(text, lang.Sequence):
        yield text
        return
    for part in text.parts:
        yield from _parts(part)
