"""From what a caller asks of an answer, in texts, to what an engine holds to, in tokens of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from diffusiongemma.chat.messages import thought_ids
from diffusiongemma.control.compiling import compile_constraint
from diffusiongemma.control.constraint import Constraint
from diffusiongemma.control.tokens.bias import LogitBias
from diffusiongemma.errors import InputError, check_kind
from diffusiongemma.request_options import RequestOptions

if TYPE_CHECKING:
    from diffusiongemma.api import DiffusionGemma


def pins_of(model: DiffusionGemma, pins: Mapping[int, int | str] | None) -> dict[int, int]:
    """Tokens by position. Raises `InputError` for a text that is not one token."""
    return {position: _one_token(model, token, "pins") for position, token in (pins or {}).items()}


def stops_of(model: DiffusionGemma, asked: RequestOptions) -> tuple[str, ...]:
    """The texts that end an answer. Raises `InputError` where tokens have no texts."""
    if asked.stops and model.tokenizer is None:
        raise InputError(f"{model.directory} has no tokenizer files: end answers by tokens", option="stop")
    return asked.stops


def bias_of(model: DiffusionGemma, bias: Mapping[int | str, float] | None) -> LogitBias | None:
    """What is added to the logits of some tokens. Raises `InputError` for two amounts for one token."""
    amounts: dict[int, float] = {}
    for token, amount in (bias or {}).items():
        found = _one_token(model, token, "logit_bias")
        if amounts.setdefault(found, amount) != amount:
            message = f"{token!r} is token {found}, which has another bias too: keep one"
            raise InputError(message, option="logit_bias")
    return LogitBias.of(amounts, model.config.vocab_size) if amounts else None


def _one_token(model: DiffusionGemma, text: int | str, option: str) -> int:
    if not isinstance(text, str):
        return text
    if model.tokenizer is None:
        raise InputError(f"{model.directory} has no tokenizer files: give token ids instead of texts", option=option)
    ids = model.tokenizer.encode(text, add_special_tokens=False)
    if len(ids) != 1:
        raise InputError(f"{text!r} is {len(ids)} tokens, and one is asked for: give one token", option=option)
    return int(ids[0])


def constraint_of(
    model: DiffusionGemma, asked: RequestOptions, compiled: Constraint | None, end_ids: Sequence[int]
) -> Constraint | None:
    """The form that was asked for, compiled, or the one that is `compiled` already. Raises `InputError` for both, and
    for a form that cannot be guaranteed."""
    structure = asked.structure
    check_kind(compiled, Constraint | None, "constraint")
    if compiled is not None and structure:
        raise InputError("the answer has a form already: leave it out", option=next(iter(structure)))
    if not structure:
        return compiled
    if model.tokenizer is None:
        message = f"{model.directory} has no tokenizer files, and this is a matter of text: leave it out"
        raise InputError(message, option=next(iter(structure)))
    thought = thought_ids(model.tokenizer) if asked.think else None
    return compile_constraint(vocabulary=model.vocabulary, end_ids=end_ids, preamble=thought, **structure)
