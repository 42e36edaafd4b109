"""Tokens back to text, at once or as they are committed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from diffusiongemma.chat.reply import Reply, parse_reply

_UNFINISHED = "\ufffd"  # what decoders write for bytes that are not, or not yet, a character


def decode(ids: Iterable[int], tokenizer: Any, skip_special: bool = True) -> str:
    """The text of `ids`, byte for byte: no clean-up of spaces. Special tokens are left out unless asked for."""
    return tokenizer.decode(list(ids), skip_special_tokens=skip_special, clean_up_tokenization_spaces=False)


class StreamDecoder:
    """Decodes tokens in portions; what `push` and `flush` return adds up to `decode` of them all.

    A character whose bytes have not all arrived is held back until they have.
    """

    def __init__(self, tokenizer: Any, skip_special: bool = True):
        self._tokenizer, self._skip_special = tokenizer, skip_special
        self._context: list[int] = []  # the last whole portion: some decoders treat the first token apart
        self._pending: list[int] = []
        self._sent = 0  # characters of the pending text already returned

    def push(self, ids: Iterable[int]) -> str:
        """The text that `ids` completed."""
        self._pending += ids
        text = self._pending_text()
        whole = text.rstrip(_UNFINISHED)
        ready, self._sent = whole[self._sent :], max(self._sent, len(whole))
        if whole == text:
            self._context, self._pending, self._sent = self._pending or self._context, [], 0
        return ready

    def flush(self) -> str:
        """What was held back, complete or not. The decoder can be used again."""
        rest = self._pending_text()[self._sent :]
        self._context, self._pending, self._sent = [], [], 0
        return rest

    def _pending_text(self) -> str:
        seen = decode(self._context, self._tokenizer, self._skip_special)
        return decode(self._context + self._pending, self._tokenizer, self._skip_special)[len(seen) :]


class ReplyDelta(NamedTuple):
    """What was added to a reply's thinking and to its text."""

    thinking: str
    text: str


class ReplyStream:
    """`parse_reply` for a reply that is still being written: thoughts and text as they grow, no half-read markup.

    Tool calls are in `reply`, which `finish` sets. Text once given is never taken back; where a broken reply turns
    out to mean something else, the whole of what it means is given anew. With `binding` it is not: what was given stays
    the beginning of `reply`, and only what differs is added, so that all deltas together are the reply, broken or not.
    """

    def __init__(self, tokenizer: Any, thinking: bool = False, binding: bool = False):
        self._decoder, self._thinking_asked = StreamDecoder(tokenizer, skip_special=False), thinking
        self._raw, self._binding = "", binding
        self._sent = self._total = ReplyDelta("", "")
        self.reply: Reply | None = None

    def push(self, ids: Iterable[int]) -> ReplyDelta:
        """What `ids` added."""
        self._raw += self._decoder.push(ids)
        reply = parse_reply(_settled(self._raw), self._thinking_asked)
        return self._added(ReplyDelta(reply.thinking or "", reply.text.rstrip()))

    def finish(self) -> ReplyDelta:
        """What is left to say once the reply has ended."""
        self._raw += self._decoder.flush()
        self.reply = parse_reply(self._raw, self._thinking_asked)
        last = self._added(ReplyDelta(self.reply.thinking or "", self.reply.text))
        if self._binding:
            self.reply = replace(self.reply, thinking=self._total.thinking or None, text=self._total.text)
        return last

    def _added(self, now: ReplyDelta) -> ReplyDelta:
        added = ReplyDelta(*(self._continued(sent, new) for sent, new in zip(self._sent, now, strict=True)))
        self._sent = now
        self._total = ReplyDelta(*(before + new for before, new in zip(self._total, added, strict=True)))
        return added

    def _continued(self, sent: str, now: str) -> str:
        if now.startswith(sent):
            return now[len(sent) :]
        if not self._binding:
            return now
        same = next((i for i, (a, b) in enumerate(zip(sent, now, strict=False)) if a != b), min(len(sent), len(now)))
        return now[same:]


def _settled(raw: str) -> str:
    """The reply so far without a tool call that is not closed, and with an open thought channel closed."""
    call = raw.rfind("<|tool_call>")
    raw = raw[:call] if call > raw.rfind("<tool_call|>") else raw
    return raw + "<channel|>" if raw.rfind("<|channel>") > raw.rfind("<channel|>") else raw
