"""People's own conversations: a file of JSON lines, checked, indexed by byte offsets, and made into examples.

A line is `{"messages": [{"role": …, "content": …}, …]}`, optionally with `tools`, or `{"prompt": …, "response": …}`.
Files of any size are read line by line; only 16 bytes a line stay in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diffusiongemma.chat import canonical, render
from diffusiongemma.chat.prompt import encode_text
from diffusiongemma.config import ModelConfig
from diffusiongemma.errors import InputError
from diffusiongemma.train.data import TURN_END, Tokenised, fill_canvases

MOST_SHOWN = 20  # bad lines told one by one


@dataclass(frozen=True)
class Chat:
    """Checked messages in the shape of `chat.canonical`, and the tools declared to the model."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None


# --- the file -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BadLines:
    """The first few lines that cannot be used, as (number from 1, reason), and how many there are."""

    shown: list[tuple[int, str]] = field(default_factory=list)
    count: int = 0

    def __str__(self) -> str:
        lines = [f"line {number}: {reason}" for number, reason in self.shown]
        more = self.count - len(self.shown)
        return "\n".join([*lines, *([f"and {more:,} more"] if more else [])])


class ChatFile:
    """The usable lines of a checked file, by number from 0. `digest` names its contents."""

    def __init__(self, path: Path, spans: np.ndarray, digest: str):
        self.path, self.spans, self.digest = path, spans, digest  # spans [n, 2]: first byte and length

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, number: int) -> Chat:
        """Raises `InputError` when the file has gone or changed since it was checked."""
        start, length = (int(x) for x in self.spans[number])
        try:
            with self.path.open("rb") as file:
                return parse(os.pread(file.fileno(), length, start))
        except (OSError, InputError) as error:
            raise InputError(
                f"{self.path} changed while it was in use ({error}): go on with --resume when it is back"
            ) from None


def check(path: Path) -> tuple[ChatFile, BadLines]:
    """Read a file once: its usable lines, and what is wrong with the others. Empty lines count as neither.

    Raises `InputError` for a file that cannot be read or holds nothing.
    """
    spans, bad, digest, position = [], BadLines(), hashlib.blake2b(digest_size=8), 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                digest.update(line)
                if line.strip():
                    reason = _problem(line)
                    bad = bad if reason is None else _with(bad, number, reason)
                    spans += [(position, len(line))] if reason is None else []
                position += len(line)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}: give a file of JSON lines") from None
    if not spans and not bad.count:
        raise InputError(f"{path} is empty: write one conversation a line, as JSON")
    return ChatFile(path, np.array(spans, np.int64).reshape(-1, 2), digest.hexdigest()), bad


def _with(bad: BadLines, number: int, reason: str) -> BadLines:
    shown = [*bad.shown, (number, reason)] if bad.count < MOST_SHOWN else bad.shown
    return BadLines(shown, bad.count + 1)


def _problem(line: bytes) -> str | None:
    try:
        parse(line)
    except InputError as error:
        return str(error)
    return None


def parse(line: bytes) -> Chat:
    """One line. Raises `InputError` with the reason why it cannot be used."""
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"is not UTF-8 (byte {error.start + 1:,} of the line)") from None
    except json.JSONDecodeError as error:
        raise InputError(f"is not JSON: {error.msg} at character {error.pos + 1:,}") from None
    except RecursionError:
        raise InputError("is nested too deeply") from None
    if not isinstance(value, dict):
        raise InputError(f"is a JSON {type(value).__name__}, not an object: write one conversation a line")
    chat = Chat(canonical(_messages(value)), _tools(value))
    _require_teachable(chat.messages)
    return chat


def _messages(value: dict[str, Any]) -> list[Any]:
    if "messages" in value:
        if not isinstance(value["messages"], list):
            raise InputError("has messages that are no list")
        return value["messages"]
    if "prompt" not in value or "response" not in value:
        raise InputError("has neither messages nor prompt and response")
    for name in ("prompt", "response"):
        if not isinstance(value[name], str):
            raise InputError(f"has a {name} that is no text")
    pair = (("user", "prompt"), ("assistant", "response"))
    return [{"role": role, "content": value[name]} for role, name in pair]


def _tools(value: dict[str, Any]) -> list[dict[str, Any]] | None:
    tools = value.get("tools")
    if tools is not None and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        raise InputError("has tools that are no list of objects")
    return tools or None


def _require_teachable(messages: list[dict[str, Any]]) -> None:
    if any(not isinstance(message["content"], str) for message in messages):
        raise InputError("has an image or a video: only text can be trained on")
    spoken = [message["role"] for message in messages if message["role"] != "system"]
    if spoken[:1] != ["user"]:
        raise InputError("does not begin with a message of the user")
    if not answers(messages):
        raise InputError("has no answer to learn: add a message of the assistant that is not empty")


def answers(messages: Sequence[dict[str, Any]]) -> list[int]:
    """The assistant's messages that say something, by their position."""
    said = (m["role"] == "assistant" and bool(m["content"].strip() or m.get("tool_calls")) for m in messages)
    return [position for position, useful in enumerate(said) if useful]


# --- examples -------------------------------------------------------------------------------------------------------


def encode_chat(chat: Chat, tokenizer: Any, config: ModelConfig, rng: np.random.Generator, limit: int) -> Tokenised:
    """One answer of a conversation, each with a chance in proportion to its canvases, behind what led to it.

    At most `limit` tokens in all. Of a prompt that is too long the oldest turns are left out, the system message
    stays; if that is not enough, the beginning is cut off behind the BOS. An answer that is too long is cut to
    whole canvases and then has no end token.
    """
    width = config.canvas_length
    positions = answers(chat.messages)
    texts = [chat.messages[i]["content"] for i in positions]
    canvases = np.array([1 + len(ids) // width for ids in tokenizer(texts, add_special_tokens=False).input_ids])
    turn = positions[int(rng.choice(len(positions), p=canvases / canvases.sum()))]
    answer = _answer(chat, turn, tokenizer)
    prompt = _prompt(chat, turn, tokenizer, limit - width)
    room = (limit - len(prompt)) // width * width
    return Tokenised(prompt, fill_canvases(answer[:room], config), min(len(answer), room))


def _answer(chat: Chat, turn: int, tokenizer: Any) -> list[int]:
    """What the model is to write as message `turn`, with the end of the turn."""
    before = render(chat.messages[:turn], tokenizer, tools=chat.tools)
    after = render(chat.messages[: turn + 1], tokenizer, tools=chat.tools, add_generation_prompt=False)
    if after.startswith(before) and TURN_END in after[len(before) :]:
        return encode_text(after[len(before) : after.rindex(TURN_END) + len(TURN_END)], tokenizer)
    # A template that writes past answers in another way than the model does.
    text = chat.messages[turn]["content"].strip()
    return tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True) + tokenizer.encode(
        TURN_END, add_special_tokens=False
    )


def _prompt(chat: Chat, turn: int, tokenizer: Any, room: int) -> list[int]:
    messages = chat.messages[:turn]
    system = [message for message in messages[:1] if message["role"] == "system"]
    users = [i for i, message in enumerate(messages) if message["role"] == "user"]
    ids: list[int] = []
    for first in users:
        kept = messages if first == users[0] else [*system, *messages[first:]]
        ids = encode_text(render(kept, tokenizer, tools=chat.tools), tokenizer)
        if len(ids) <= room:
            return ids
    return [ids[0], *ids[len(ids) - room + 1 :]]
