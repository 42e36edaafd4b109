"""What a user can get wrong. Each message is one line that says what to do next; the command line exits with 2."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

LONGEST_VALUE = 200  # characters of a value that a message shows
_NAME = re.compile(r"`([a-z_]+)`")


class _Nothing:
    """No value: a class, so that it stays itself in an error that another process sends."""


class UserError(ValueError):
    """The user's mistake, told in one line."""

    def worded(self, spelling: Callable[[str], str]) -> str:
        """The message for a surface that spells options its own way, such as `--min-new-tokens` for `min_tokens`."""
        return str(self)


class ModelNotFound(UserError):
    """No model under that name, directory or hub id."""


class CheckpointError(UserError):
    """A checkpoint that is there but cannot be used: files missing, shapes or settings that do not fit."""


class InputError(UserError):
    """A prompt, image, video, schema or option that cannot be used as it is.

    `option` is the option at fault by its name in Python, `got` the value it had; the message then says only what to
    do. A message names other options in backquotes, by their names in Python, so that every surface can spell them.
    """

    def __init__(self, message: str, *, option: str | None = None, got: object = _Nothing):
        self.message, self.option, self.got = message, option, got
        super().__init__(self.worded(lambda name: name))

    def worded(self, spelling: Callable[[str], str]) -> str:
        text = _NAME.sub(lambda found: spelling(found[1]), self.message)
        if self.option is None:
            return text
        value = "" if self.got is _Nothing else f" is {_shown(self.got)}"
        return f"{spelling(self.option)}{value}: {text}"


def _shown(value: object) -> str:
    """A value in one line, whatever it is."""
    try:
        text = re.sub(r"\s*\n\s*", " ", repr(value))
    except Exception:  # whatever an object of somebody else does there
        text = f"a {type(value).__name__}"
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


class ContextExceeded(InputError):
    """Prompt and answer are longer together than what the model reads."""


def check_kind(value: Any, kind: Any, option: str) -> None:
    """Raises `InputError` for a value of another type."""
    if not isinstance(value, kind):
        wanted = str(getattr(kind, "__name__", kind)).replace("NoneType", "None")
        raise InputError(f"give {wanted}", option=option, got=value)
