"""What each token writes, as bytes. Constraints are about text, so token bytes, never ids, decide what is allowed.

Two families of tokenizers are read: byte-level BPE (GPT-2's printable alphabet for bytes) and sentencepiece style
("▁" for a space, "<0xNN>" for a byte), which Gemma uses.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from diffusiongemma.control.tokens.trie import TokenTrie, trie_of_bytes, trie_of_characters
from diffusiongemma.errors import InputError

BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """token_bytes[i] is what token i writes; None marks tokens that write no text (special, unused): a constraint never
    lets them stand for text.
    """

    token_bytes: tuple[bytes | None, ...]

    def __len__(self) -> int:
        return len(self.token_bytes)

    @cached_property
    def fingerprint(self) -> str:
        """Equal for vocabularies that write the same."""
        digest = hashlib.sha256()
        for written in self.token_bytes:
            digest.update(b"-" if written is None else b"%d:%b" % (len(written), written))
        return digest.hexdigest()

    @cached_property
    def trie(self) -> TokenTrie:
        return trie_of_bytes(sorted((written, token) for token, written in enumerate(self.token_bytes) if written))

    @cached_property
    def trie_of_characters(self) -> TokenTrie:
        """Of those tokens that are whole characters."""
        texts = enumerate(map(_text, self.token_bytes))
        return trie_of_characters(sorted((text, token) for token, text in texts if text))

    @cached_property
    def without_bars(self) -> np.ndarray:
        """[V] bool, the tokens that write text without a vertical bar."""
        return np.array([text is not None and b"|" not in text for text in self.token_bytes])

    def decode(self, tokens: Iterable[int]) -> str:
        """The text that these tokens write; those that write none are skipped, broken characters become U+FFFD."""
        return b"".join(self.token_bytes[token] or b"" for token in tokens).decode("utf-8", errors="replace")

    def without(self, tokens: Iterable[int]) -> Vocabulary:
        """The same vocabulary with some tokens never to be written (banned ids)."""
        banned = set(tokens)
        return Vocabulary(tuple(None if token in banned else b for token, b in enumerate(self.token_bytes)))


def _text(written: bytes | None) -> str | None:
    try:
        return written and written.decode()  # type: ignore[return-value]
    except UnicodeDecodeError:
        return None


def vocabulary_of(tokenizer: Any, size: int | None = None) -> Vocabulary:
    """The vocabulary of a tokenizer (a fast transformers tokenizer or a `tokenizers.Tokenizer`).

    `size` is the model's number of logits where that is more than the tokenizer's tokens; ids past the end write
    nothing. Raises `InputError` for a tokenizer whose tokens do not stand for fixed bytes.
    """
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(backend, "to_str"):
        raise InputError("constraints need a fast tokenizer (tokenizer.json); this one is of another kind")
    description = json.loads(backend.to_str())
    byte_level, space_mark = _decoding(description.get("decoder"))
    special = {added["id"] for added in description.get("added_tokens", []) if added["special"]}
    special |= set(getattr(tokenizer, "all_special_ids", ()))
    written: list[bytes | None] = [None] * max(size or 0, backend.get_vocab_size(with_added_tokens=True))
    for token, number in backend.get_vocab(with_added_tokens=True).items():
        if number not in special and number < len(written):
            text = byte_level_bytes(token) if byte_level else sentencepiece_bytes(token, space_mark)
            written[number] = text or None
    return Vocabulary(tuple(written[:size]))


def _decoding(decoder: dict[str, Any] | None) -> tuple[bool, str]:
    """(is it byte-level?, the mark that stands for a space) of a tokenizer.json decoder."""
    parts: Sequence[dict[str, Any]] = (decoder or {}).get("decoders") or [decoder or {}]
    kinds = {part.get("type") for part in parts}
    if "ByteLevel" in kinds:
        return True, ""
    for part in parts:
        if part.get("type") == "Metaspace":
            return False, part["replacement"]
        if part.get("type") == "Replace" and part.get("content") == " ":
            return False, part["pattern"]["String"]
    raise InputError(
        f"constraints need a byte-level or sentencepiece-style tokenizer; this one decodes by {sorted(map(str, kinds))}"
    )


def sentencepiece_bytes(token: str, space_mark: str = "▁") -> bytes:
    """What a sentencepiece-style token writes: `<0xNN>` is that byte, the mark a space."""
    if byte := BYTE_TOKEN.fullmatch(token):
        return bytes([int(byte[1], 16)])
    return token.replace(space_mark, " ").encode()


def byte_level_bytes(token: str) -> bytes:
    """What a byte-level token writes: each character stands for one byte; added tokens are written as they are."""
    alphabet = _byte_alphabet()
    if all(c in alphabet for c in token):
        return bytes(alphabet[c] for c in token)
    return token.encode()


@lru_cache(maxsize=1)
def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins: printable Latin-1 bytes stand for themselves, the rest count up from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(rest)}
