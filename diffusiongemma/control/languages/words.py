"""Words that must not, or must, be in a text."""

from __future__ import annotations

from collections.abc import Iterable

from diffusiongemma.control.languages import language as lang
from diffusiongemma.errors import InputError


def words_language(
    base: lang.Language = lang.ANY_TEXT, banned: Iterable[str] = (), required: Iterable[str] = ()
) -> lang.Language:
    """The texts of `base` in which no banned string and every required string appears, wherever tokens begin and end.

    Strings are looked for in the text as written (in JSON: escapes included). Raises `InputError` for an empty string
    and for one that is both.
    """
    banned, required = tuple(dict.fromkeys(banned)), tuple(dict.fromkeys(required))
    for option, words in (("banned_words", banned), ("required_words", required)):
        if "" in words:
            raise InputError("every word must have text: remove the empty one", option=option)
    if conflicts := [word for word in required if any(other in word for other in banned)]:
        message = f"the required word {conflicts[0]!r} contains one of `banned_words`: drop one of the two"
        raise InputError(message, option="required_words")
    if banned:
        base = lang.Without(base, lang.containing(lang.either(*map(lang.literal, banned))))
    return lang.both(base, *(lang.containing(lang.literal(word)) for word in required))
