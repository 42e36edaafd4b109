"""Token ids as text, for events and details."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from diffusiongemma.chat import decode
from diffusiongemma.control.tokens.vocabulary import Vocabulary


class Texts:
    """Texts of one vocabulary. `vocabulary` is called when bytes are first asked for: a large one takes a second."""

    def __init__(self, tokenizer: Any, end_ids: Sequence[int], vocabulary: Callable[[], Vocabulary]):
        self._tokenizer, self.end_ids, self._vocabulary = tokenizer, frozenset(end_ids), vocabulary
        self.of = lru_cache(maxsize=1 << 16)(self._of)

    def _of(self, token: int) -> str:
        """One token, markup included; U+FFFD for parts of characters."""
        return decode([token], self._tokenizer, skip_special=False)

    def bytes_of(self, token: int) -> bytes:
        """What one token adds to the UTF-8 of a text, perhaps a part of a character; nothing for markup."""
        return self._vocabulary().token_bytes[token] or b""

    def placed(self) -> BytePlaces:
        """Where the tokens of one answer stand in its text."""
        return BytePlaces(self)

    def written(self, tokens: Sequence[int]) -> str:
        """The text of many tokens, without markup."""
        return decode(tokens, self._tokenizer)


class BytePlaces:
    """Takes the tokens of one answer in order; says of each what it writes of the text, and from which character on.

    Thoughts and calls are not part of the text. A character may be written by several tokens: each stands at it.
    """

    _HIDDEN = {"<|channel>": "<channel|>", "<|tool_call>": "<tool_call|>"}  # what is no part of the text, and its end

    def __init__(self, texts: Texts):
        self._texts, self._characters, self._until = texts, 0, ""

    def of(self, token: int) -> tuple[bytes, int]:
        text = self._texts.of(token)
        if self._until:
            self._until = "" if text == self._until else self._until
            return b"", self._characters
        if text in self._HIDDEN:
            self._until = self._HIDDEN[text]
            return b"", self._characters
        written = self._texts.bytes_of(token)
        offset = self._characters - _goes_on(written[:1])
        self._characters += sum(not _goes_on(written[i : i + 1]) for i in range(len(written)))
        return written, max(0, offset)


def _goes_on(byte: bytes) -> bool:
    """Whether a byte of UTF-8 goes on with a character that has begun."""
    return bool(byte) and byte[0] & 0xC0 == 0x80
