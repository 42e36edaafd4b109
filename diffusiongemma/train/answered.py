"""Conversations to learn from out of requests that a model has answered: data that one model writes for another."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusiongemma.errors import InputError
from diffusiongemma.files import written_whole
from diffusiongemma.train.chats import parse

COMPLETE = ("stop", "tool_calls")  # why an answer that is whole ended
Answered = tuple[dict[str, Any], dict[str, Any]]  # bodies of a chat request and of its answer, OpenAI's


@dataclass(frozen=True)
class Written:
    """How many conversations were written, and how many answers were none to learn from."""

    chats: int
    left_out: int


def write_chats(path: Path, answered: Iterable[Answered]) -> Written:
    """A line for each whole answer, as `chats.check` reads them; the file is replaced whole.

    Left out are answers that were cut off or refused, say nothing, or belong to pictures. Raises `InputError` where the
    file cannot be written.
    """
    chats = left_out = 0
    try:
        with written_whole(path) as file:
            for body, response in answered:
                for line in _lines(body, response):
                    chats, left_out = (chats + 1, left_out) if line else (chats, left_out + 1)
                    file.write(line)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    return Written(chats, left_out)


def _lines(body: dict[str, Any], response: dict[str, Any]) -> Iterator[bytes]:
    """The line of each choice, or nothing."""
    for choice in response["choices"]:
        said = {name: choice["message"].get(name) for name in ("content", "tool_calls")}
        message = {"role": "assistant"} | {name: value for name, value in said.items() if value}
        chat = {"messages": [*body["messages"], message]}
        if body.get("tools") and body.get("tool_choice") != "none":
            chat["tools"] = body["tools"]
        line = json.dumps(chat, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        yield line if choice.get("finish_reason") in COMPLETE and len(message) > 1 and _teaches(line) else b""


def _teaches(line: bytes) -> bool:
    try:
        parse(line)
    except InputError:
        return False
    return True
