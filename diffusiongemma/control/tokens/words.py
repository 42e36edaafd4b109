"""Per-request controls over tokens and words: bias on single tokens, words that never or surely appear."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.regex import regex_language
from diffusiongemma.diffusion.readout import Adjust
from diffusiongemma.errors import InputError

STRONGEST_BIAS = 100.0


@dataclass(frozen=True)
class LogitBias:
    """Amounts added to the logits of single tokens, before the temperature: a token becomes likelier or not.

    What must never be written is banned as a word instead: there, other tokens can't spell it either.
    """

    tokens: tuple[int, ...]
    amounts: tuple[float, ...]

    @classmethod
    def of(cls, bias: Mapping[int, float], vocab_size: int) -> LogitBias:
        """Raises `InputError` for tokens that are not in the vocabulary and amounts beyond ±100."""
        for token, amount in bias.items():
            if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < vocab_size:
                raise InputError(f"logit-bias: token {token!r} is not in the vocabulary of {vocab_size:,}")
            if isinstance(amount, bool) or not isinstance(amount, int | float) or not abs(amount) <= STRONGEST_BIAS:
                raise InputError(f"logit-bias of token {token} is {amount!r}: give a number from -100 to 100")
        return cls(tuple(bias), tuple(float(amount) for amount in bias.values()))

    def __call__(self, logits: Tensor, first: int) -> None:
        """Add to logits [n, V] in place; `first`, the position of the first row, does not matter."""
        tokens = torch.tensor(self.tokens, device=logits.device)
        amounts = torch.tensor(self.amounts, dtype=logits.dtype, device=logits.device)
        logits.index_add_(1, tokens, amounts.expand(len(logits), -1))


def together(*adjusts: Adjust | None) -> Adjust | None:
    """One change of logits that makes all of these, in order; None if there is none."""
    present = [adjust for adjust in adjusts if adjust is not None]

    def adjust(logits: Tensor, first: int) -> None:
        for one in present:
            one(logits, first)

    return adjust if present else None


def words_language(
    base: lang.Language = lang.ANY_TEXT,
    banned: Iterable[str] = (),
    required: Iterable[str] = (),
    ignore_case: bool = False,
) -> lang.Language:
    """The texts of `base` in which no banned string and every required string appears, wherever tokens begin and end.

    Strings are looked for in the text as written (in JSON: escapes included). Raises `InputError` for an empty string
    and for one that is both.
    """
    banned, required = tuple(dict.fromkeys(banned)), tuple(dict.fromkeys(required))
    if "" in banned + required:
        raise InputError("banned and required words must have text: remove the empty one")
    if conflicts := [word for word in required if any(_found(other, word, ignore_case) for other in banned)]:
        raise InputError(f"the required word {conflicts[0]!r} contains a banned one: drop one of the two")
    flags = re.IGNORECASE if ignore_case else 0
    if banned:
        unwanted = lang.either(*(regex_language(re.escape(word), flags) for word in banned))
        base = lang.Without(base, lang.containing(unwanted))
    return lang.both(base, *(lang.containing(regex_language(re.escape(word), flags)) for word in required))


def _found(word: str, text: str, ignore_case: bool) -> bool:
    return re.search(re.escape(word), text, re.IGNORECASE if ignore_case else 0) is not None
