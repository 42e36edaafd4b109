"""One of a few texts."""

from __future__ import annotations

from diffusiongemma.control.languages import language as lang
from diffusiongemma.errors import InputError


def choices_language(choices: tuple[str, ...], option: str = "choices") -> lang.Language:
    """Exactly one of the given texts. Raises `InputError` for none and for an empty one."""
    if not choices:
        raise InputError("the list is empty: give at least one", option=option)
    if "" in choices:
        raise InputError("an empty choice can't be told from no answer: give every choice some text", option=option)
    return lang.words(choices)
