"""Token ids as text, for events and details."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from diffusiongemma.chat import decode


class Texts:
    """Texts of one vocabulary."""

    def __init__(self, tokenizer: Any, end_ids: Sequence[int]):
        self._tokenizer, self.end_ids = tokenizer, frozenset(end_ids)
        self.of = lru_cache(maxsize=1 << 16)(self._of)

    def _of(self, token: int) -> str:
        """One token, markup included; U+FFFD for parts of characters."""
        return decode([token], self._tokenizer, skip_special=False)

    def written(self, tokens: Sequence[int]) -> str:
        """The text of many tokens, without markup."""
        return decode(tokens, self._tokenizer)
