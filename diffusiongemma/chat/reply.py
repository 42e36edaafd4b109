"""A model's reply taken apart: thoughts, text, tool calls. Lenient: whatever the model wrote, parsing never raises."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

_CALL, _QUOTE = "<|tool_call>", '<|"|>'
_TURN_MARKS = re.compile(r"<(?:pad|eos|bos|turn\|)>|<\|tool_response>|<\|turn>(?:model\n|assistant\n)?")
# A channel ends at its closing tag or, where that is missing, before the next channel or tool call.
_CHANNEL = re.compile(
    r"<\|channel>(?:thoughts?\b)?[ \t]*\n?(?P<thought>.*?)(?:(?P<end><channel\|>)\n*|(?=<\|channel>|<\|tool_call>)|\Z)",
    re.DOTALL | re.IGNORECASE,
)


@dataclass(frozen=True)
class ToolCall:
    """A function the model asks for."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What a model said. `thinking` is None where it thought nothing; `raw` is the text as it was decoded."""

    thinking: str | None
    text: str
    tool_calls: tuple[ToolCall, ...]
    raw: str


def parse_reply(text: str, thinking: bool = False) -> Reply:
    """Take apart a reply decoded *with* its special tokens. `thinking`: whether thinking was asked for.

    Several thought channels are joined by blank lines. A channel left open up to the end of the reply holds the answer
    too: without thinking all of it is the answer; with thinking the answer is the last paragraph, if there are two.
    A closing tag without an opening one closes a channel that began with the reply. A tool call that cannot be read
    stays in the text, markup and all.
    """
    thoughts, answer = split_thoughts(_TURN_MARKS.sub("", text), thinking)
    answer, calls = _split_calls(answer)
    return Reply("\n\n".join(thoughts) or None, answer, calls, raw=text)


def split_thoughts(text: str, thinking: bool = False) -> tuple[list[str], str]:
    """(thoughts without the empty ones, the rest of the text); see `parse_reply` for what is done with broken tags."""
    thoughts: list[str] = []

    def take(match: re.Match[str]) -> str:
        thought, rest = match["thought"], ""
        if match["end"] is None and match.end() == len(text):
            thought, rest = _split_open_channel(thought) if thinking else ("", thought)
        thoughts.append(thought.strip())
        return rest

    text = _with_opening_tag(text)
    rest = _CHANNEL.sub(take, text).replace("<channel|>", "")
    return [thought for thought in thoughts if thought], rest


def _with_opening_tag(text: str) -> str:
    before, closing_tag, after = text.partition("<channel|>")
    return "<|channel>" + text if closing_tag and after.strip() and "<|channel>" not in before else text


def _split_open_channel(text: str) -> tuple[str, str]:
    thought, blank_line, answer = text.rstrip().rpartition("\n\n")
    return (thought, answer) if blank_line else (text, "")


def _split_calls(text: str) -> tuple[str, tuple[ToolCall, ...]]:
    kept, calls, position = [], [], 0
    while (start := text.find(_CALL, position)) >= 0:
        body = start + len(_CALL)
        try:
            call, end = _read_call(text, body)
        except (ValueError, RecursionError):
            kept.append(text[position:body])
            position = body
            continue
        kept.append(text[position:start].rstrip())
        calls.append(call)
        position = end
    return "".join(kept) + text[position:], tuple(calls)


def _read_call(text: str, position: int) -> tuple[ToolCall, int]:
    head = re.compile(r"\s*call:\s*([\w.:/-]+)\s*(?=[{(])").match(text, position)
    if head is None:
        raise ValueError("no name")
    reader = _Arguments(text, head.end())
    arguments = reader.mapping()
    return ToolCall(head[1], arguments), reader.skip(r"\s*(?:<tool_call\|>\s*)?")


class _Arguments:
    """Reads `{key:value,…}`. Also taken, because models drift: JSON's quotes, single quotes, `(key=value)`, a trailing
    comma. Raises ValueError where that fails."""

    def __init__(self, text: str, position: int):
        self.text, self.position = text, position

    def skip(self, pattern: str) -> int:
        """Step over `pattern` (which may match nothing) and return the position."""
        match = re.compile(pattern).match(self.text, self.position)
        self.position = match.end() if match else self.position
        return self.position

    def accept(self, mark: str) -> bool:
        """Step over `mark` and the white space before it, if it is there."""
        self.skip(r"\s*")
        found = self.text.startswith(mark, self.position)
        self.position += len(mark) * found
        return found

    def expect(self, *marks: str) -> str:
        for mark in marks:
            if self.accept(mark):
                return mark
        raise ValueError(f"expected one of {marks} at {self.position}")

    def mapping(self) -> dict[str, Any]:
        close = {"{": "}", "(": ")"}[self.expect("{", "(")]
        pairs: dict[str, Any] = {}
        while not self.accept(close):
            key = self.key()
            self.expect(":", "=")
            pairs[key] = self.value()
            if not self.accept(","):
                self.expect(close)
                break
        return pairs

    def array(self) -> list[Any]:
        self.expect("[")
        items = []
        while not self.accept("]"):
            items.append(self.value())
            if not self.accept(","):
                self.expect("]")
                break
        return items

    def key(self) -> str:
        key = self.string()
        return self.bare(r"[^\s:=,{}\[\]()<>\"']+") if key is None else key

    def value(self) -> Any:
        text = self.string()
        if text is not None:
            return text
        if self.text.startswith("{", self.position):
            return self.mapping()
        if self.text.startswith("[", self.position):
            return self.array()
        return _bare_value(self.bare(r"[^,{}\[\]()<>]+").strip())

    def string(self) -> str | None:
        """The quoted string here, None if there is none."""
        if self.accept(_QUOTE):
            return self.until(_QUOTE)
        if self.accept('"'):
            text, self.position = json.JSONDecoder(strict=False).raw_decode(self.text, self.position - 1)
            return text
        return self.until("'") if self.accept("'") else None

    def until(self, mark: str) -> str:
        start, end = self.position, self.text.find(mark, self.position)
        if end < 0:
            raise ValueError(f"no closing {mark}")
        self.position = end + len(mark)
        return self.text[start:end]

    def bare(self, pattern: str) -> str:
        start = self.position
        if self.skip(pattern) == start:
            raise ValueError(f"nothing at {start}")
        return self.text[start : self.position]


def _bare_value(text: str) -> Any:
    constants = {"true": True, "false": False, "null": None, "None": None, "True": True, "False": False}
    if text in constants:
        return constants[text]
    if re.fullmatch(r"-?\d+", text, re.ASCII):
        return int(text)
    if re.fullmatch(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", text, re.ASCII) and math.isfinite(float(text)):
        return float(text)
    return text
