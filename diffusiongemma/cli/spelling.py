"""How the command line spells the options that messages name as Python does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffusiongemma.options import OPTIONS

# What else the Python interface has under another name; all others differ in dashes only.
RENAMED = {"images": "image", "videos": "video", "text": "file"}


def spelt(name: str, command: Any) -> str:
    """`--min-new-tokens` for `min_tokens`, `FILE` for an argument; the name itself where the command has no such
    option."""
    wanted = OPTIONS[name].parameter if name in OPTIONS else RENAMED.get(name, name)
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
