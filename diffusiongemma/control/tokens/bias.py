"""Bias on single tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

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
                message = f"token {token!r} is not in the vocabulary of {vocab_size:,}"
                raise InputError(message, option="logit_bias")
            if isinstance(amount, bool) or not isinstance(amount, int | float) or not abs(amount) <= STRONGEST_BIAS:
                message = f"token {token} has {amount!r}: give a number from -100 to 100"
                raise InputError(message, option="logit_bias")
        return cls(tuple(bias), tuple(float(amount) for amount in bias.values()))

    def __call__(self, logits: Tensor, first: int) -> None:
        """Add to logits [n, V] in place; `first`, the position of the first row, does not matter."""
        tokens = torch.tensor(self.tokens, device=logits.device)
        amounts = torch.tensor(self.amounts, dtype=logits.dtype, device=logits.device)
        logits.index_add_(1, tokens, amounts.expand(len(logits), -1))


def combined(*adjusts: Adjust | None) -> Adjust | None:
    """One change of logits that makes all of these, in order; None if there is none."""
    present = [adjust for adjust in adjusts if adjust is not None]

    def adjust(logits: Tensor, first: int) -> None:
        for one in present:
            one(logits, first)

    return adjust if present else None
