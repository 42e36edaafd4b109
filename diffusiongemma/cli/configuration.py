"""The user's defaults: `config.toml` in the user's folder for configuration, such as

    model = "google/diffusiongemma-26B-A4B-it"
    [run]
    steps = 16

What is written on the command line goes first, then `DIFFUSIONGEMMA_MODEL`, then this file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from diffusiongemma.errors import InputError


def config_path() -> Path:
    """`DIFFUSIONGEMMA_CONFIG`, or where this system keeps such files."""
    if given := os.environ.get("DIFFUSIONGEMMA_CONFIG"):
        return Path(given)
    from platformdirs import user_config_path

    return user_config_path("diffusiongemma") / "config.toml"


def cache_path() -> Path:
    """Where what can be fetched or made again is kept."""
    from platformdirs import user_cache_path

    return user_cache_path("diffusiongemma")


def defaults_for(name: str, command: Any) -> dict[str, Any]:
    """The defaults of one command, by the names of its parameters. Raises `InputError` for names that it has not."""
    told = _read(config_path())
    if not told:
        return {}
    known = {_flag(parameter): parameter.name for parameter in command.params}
    shared = {known[key]: value for key, value in told.items() if not isinstance(value, dict) and key in known}
    own = told.get(name, {})
    if unknown := sorted(set(own) - set(known)):
        raise InputError(f"{config_path()}: [{name}] has the unknown option {unknown[0]!r}; see {name} --help")
    return shared | {known[key]: value for key, value in own.items()}


def _flag(parameter: Any) -> str:
    return max(parameter.opts, key=len).lstrip("-")


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from None
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not TOML: {error}") from None
