"""How the command line spells the options that messages name as Python does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Options of the Python interface that have another name here; all others differ in dashes only.
RENAMED = {
    "min_tokens": "min_new_tokens",
    "choices": "choice",
    "banned_words": "ban",
    "required_words": "require",
    "images": "image",
    "videos": "video",
    "text": "file",
}


def spelt(name: str, command: Any) -> str:
    """`--min-new-tokens` for `min_tokens`, `FILE` for an argument; the name itself where the command has no such
    option."""
    wanted = RENAMED.get(name, name)
    for parameter in command.params:
        if parameter.name == wanted:
            if parameter.param_type_name == "option":
                return str(max(parameter.opts, key=len))
            return str(parameter.name.upper())
    return name


def command_of(words: Sequence[str], command: Any) -> Any:
    """The subcommand that these words call, or the group itself."""
    for word in words:
        if word in getattr(command, "commands", {}):
            command = command.commands[word]
        elif not word.startswith("-"):
            break
    return command
