"""Per-request controls over tokens and words: bias on single tokens, words that never or surely appear."""

import re
from collections.abc import Iterable, Mapping

import torch

from diffusiongemma.control import language as lang
from diffusiongemma.control.regex import regex_language
from diffusiongemma.errors import InputError


def apply_logit_bias(logits: torch.Tensor, bias: Mapping[int, float]) -> torch.Tensor:
    """
    logits [..., V] with `bias[token]` added to each listed token's column, as a new tensor.

    A bias makes a token likelier or not; -inf bans it as long as any other is possible. Tokens that must never be
    written are taken out of the vocabulary instead (`Vocabulary.without`). Raises `InputError` for unknown tokens.
    """
    if unknown := [token for token in bias if not 0 <= token < logits.shape[-1]]:
        raise InputError(f"logit_bias: token {unknown[0]} is not in the vocabulary of {logits.shape[-1]:,}")
    tokens = torch.tensor(list(bias), dtype=torch.long, device=logits.device)
    amounts = torch.tensor(list(bias.values()), dtype=logits.dtype, device=logits.device)
    return logits.index_add(-1, tokens, amounts.expand(*logits.shape[:-1], -1).contiguous())


def words_language(
    base: lang.Language = lang.ANY_TEXT,
    banned: Iterable[str] = (),
    required: Iterable[str] = (),
    ignore_case: bool = False,
) -> lang.Language:
    """
    The texts of `base` in which no banned string and every required string appears, wherever tokens begin and end.

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
