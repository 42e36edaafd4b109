"""What counts as a prompt, as several, and which options go with each of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from diffusiongemma.chat import Prompt
from diffusiongemma.errors import InputError


def check_prompt(prompt: Any) -> None:
    """Raises `InputError` for what is no prompt at all."""
    if not isinstance(prompt, (str, Tensor, Prompt, Sequence)) or isinstance(prompt, (bytes, bytearray)):
        message = "is no prompt: give a text, a list of messages, token ids, or a list of these"
        raise InputError(message, option="prompt", got=prompt)
    if not isinstance(prompt, (str, Tensor, Prompt)) and not len(prompt):
        raise InputError("is empty: give a text, messages or token ids", option="prompt")


def is_batch(prompt: Any) -> bool:
    """A list of prompts, rather than one prompt that is a list of ids or of messages."""
    if isinstance(prompt, (str, Tensor, Prompt)):
        return False
    return not all(isinstance(item, (int, dict)) for item in prompt)


# Options whose value is a list: a list of lists is one per prompt.
_LISTS = ("tools", "choices", "banned_words", "required_words", "stop")


def options_of(options: dict[str, Any], index: int, count: int) -> dict[str, Any]:
    """Those of one of several prompts: a list has a value for each. Raises `InputError` for one of another length."""
    chosen = {}
    for name, value in options.items():
        per_prompt = isinstance(value, list) and (name not in _LISTS or all(isinstance(v, list) for v in value))
        if per_prompt and len(value) != count:
            message = f"{len(value)} values for {count} prompts: give one value, or one per prompt"
            raise InputError(message, option=name)
        chosen[name] = value[index] if per_prompt else value
    return chosen
