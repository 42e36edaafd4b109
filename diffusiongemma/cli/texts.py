"""Files in and out, byte for byte: for the subcommands that change a text."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from diffusiongemma.errors import InputError


def read_text(file: str, in_place: bool) -> str:
    """A file's text, or stdin's for "-". Raises `InputError` where there is none, or it is not UTF-8, or is empty."""
    if file == "-" and in_place:
        raise InputError("needs a file: stdin cannot be written", option="in_place")
    if file == "-":
        from diffusiongemma.cli.running import read_stdin

        text, name = read_stdin(), "stdin"
    else:
        from diffusiongemma.cli.running import read_prompt

        text, name = read_prompt(Path(file)), file
    if not text.strip():
        raise InputError(f"{name} is empty: give some text")
    return text


def write_result(file: str, text: str, in_place: bool, as_json: dict[str, Any] | None, backup: bool = False) -> None:
    """The text to stdout, exactly, or to the file; with `as_json` that object to stdout."""
    if in_place:
        replace_text(Path(file), text, backup)
    if as_json is not None:
        _to_stdout(json.dumps(as_json, ensure_ascii=False) + "\n")
    elif not in_place:
        _to_stdout(text)


def _to_stdout(text: str) -> None:
    """Bytes, so that no line end and no character is changed on the way."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8"))
    sys.stdout.buffer.flush()


def replace_text(path: Path, text: str, backup: bool = False) -> None:
    """Put a text in a file's place: whole or not at all, with the file's permissions, through links; with `backup` what
    was there is kept in FILE~.

    Raises `InputError` where that is not possible; the file is then as it was.
    """
    from diffusiongemma.files import write_whole

    try:
        if backup:
            shutil.copy2(path, f"{path}~")
        write_whole(path, text)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}, nothing was changed") from None
