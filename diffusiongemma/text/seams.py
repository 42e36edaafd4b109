"""Text to tokens and back where every byte counts: what stands beside a hole, and what the hole may share with it."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from diffusiongemma.control.compiling import CompileJob, compiled_here
from diffusiongemma.control.constraint import Constraint
from diffusiongemma.control.structure import Structure
from diffusiongemma.control.tokens.vocabulary import Vocabulary
from diffusiongemma.errors import InputError

ABOVE_ALL = b"\xff"  # no UTF-8 text contains this byte


class TextTokens:
    """Exact passage between text and tokens of one tokenizer."""

    def __init__(self, tokenizer: Any, vocabulary: Vocabulary, end_ids: Iterable[int]):
        self.tokenizer, self.vocabulary, self.end_ids = tokenizer, vocabulary, tuple(end_ids)

    @cached_property
    def any_text(self) -> Constraint:
        """Any text of whole characters, without special tokens."""
        return compiled_here(CompileJob.of(Structure(), self.vocabulary, self.end_ids))

    def encode(self, text: str) -> list[int]:
        """Tokens that write exactly `text`: markers in it are ordinary text. Raises `InputError` where the vocabulary
        cannot write it."""
        wanted = utf8(text)
        pieces = [text] if self._marker is None else re.split(self._marker, text)
        # Half a marker is no marker; the tokenizer sees both halves as what they are, characters.
        ids = [token for piece in pieces for token in self.tokenizer.encode(piece, add_special_tokens=False)]
        return ids if self._writes(ids) == wanted else self._spelt(wanted)

    def bytes_of(self, tokens: Iterable[int]) -> bytes:
        return b"".join(self.vocabulary.token_bytes[token] or b"" for token in tokens)

    def starting_with(self, start: bytes) -> tuple[int, ...]:
        """The tokens whose text begins with `start` (or is it)."""
        return _between(self._forwards, start)

    def ending_with(self, end: bytes) -> tuple[int, ...]:
        """The tokens whose text ends with `end` (or is it)."""
        return _between(self._backwards, end[::-1])

    def _writes(self, ids: list[int]) -> bytes | None:
        written = [self.vocabulary.token_bytes[token] if token < len(self.vocabulary) else None for token in ids]
        return None if None in written else b"".join(part for part in written if part is not None)

    def _spelt(self, text: bytes) -> list[int]:
        """The longest token that fits, again and again: for tokenizers that normalise or leave something out."""
        ids, at = [], 0
        while at < len(text):
            longest = min(self._longest, len(text) - at)
            token = next(
                (t for n in range(longest, 0, -1) if (t := self._by_bytes.get(text[at : at + n])) is not None), -1
            )
            if token < 0:
                raise InputError(
                    f"this model's tokenizer cannot write byte {text[at]:#04x} of the text: leave it out", option="text"
                )
            ids.append(token)
            at += len(self.vocabulary.token_bytes[token] or b"")
        return ids

    @cached_property
    def _marker(self) -> re.Pattern[str] | None:
        """Cuts every special token's text behind its first character."""
        added = getattr(self.tokenizer, "added_tokens_decoder", {}).values()
        texts = sorted({str(token) for token in added if len(str(token)) > 1}, key=len, reverse=True)
        if not texts:
            return None
        return re.compile("|".join(f"(?<={re.escape(t[0])})(?={re.escape(t[1:])})" for t in texts))

    @cached_property
    def _by_bytes(self) -> dict[bytes, int]:
        written = self.vocabulary.token_bytes
        return {text: token for token in reversed(range(len(written))) if (text := written[token]) is not None}

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._by_bytes), default=0)

    @cached_property
    def _forwards(self) -> list[tuple[bytes, int]]:
        return sorted((text, token) for token, text in enumerate(self.vocabulary.token_bytes) if text)

    @cached_property
    def _backwards(self) -> list[tuple[bytes, int]]:
        return sorted((text[::-1], token) for token, text in enumerate(self.vocabulary.token_bytes) if text)


def utf8(text: str) -> bytes:
    """Raises `InputError` for a text with half of a surrogate pair, which no bytes can stand for."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"character {error.start + 1:,} of the text is not Unicode text: convert it first", option="text"
        ) from None


def is_whole(part: bytes) -> bool:
    """Whether these bytes are characters, none of them cut."""
    try:
        part.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _between(entries: list[tuple[bytes, int]], start: bytes) -> tuple[int, ...]:
    low = bisect_left(entries, (start, -1))
    high = bisect_left(entries, (start + ABOVE_ALL * 256, -1))
    # What follows `start` may be a byte above all of UTF-8's; then it sorts past the bound and is looked at singly.
    while high < len(entries) and entries[high][0].startswith(start):
        high += 1
    return tuple(token for _, token in entries[low:high])
