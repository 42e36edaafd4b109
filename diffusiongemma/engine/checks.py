"""Whether a request can run, found out once, before anything is computed for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from diffusiongemma.config import ModelConfig
from diffusiongemma.control.constraint import Constraint
from diffusiongemma.engine.holds import Holds
from diffusiongemma.engine.memory import room
from diffusiongemma.engine.request import Request
from diffusiongemma.errors import ContextExceeded, InputError
from diffusiongemma.model.cache import BLOCK, SequenceCache


def checked(request: Request, model: ModelConfig, compiled: Callable[[], Constraint | None] = lambda: None) -> Request:
    """The request with its constraint begun.

    In the order of what it costs: the numbers and positions, the prompt and the room behind it, and only then the
    constraint, which `compiled` makes. Raises `InputError`.
    """
    if not isinstance(request.cache, SequenceCache | None):
        raise InputError("give a SequenceCache, or leave it out", option="cache", got=request.cache)
    _check_modes(request, model)
    _check_pins(request, model)
    _check_canvas(request, model)
    _check_prompt(request, model)
    constraint = compiled()
    return request if constraint is None else _begun(request, constraint, model)


def _check_modes(request: Request, model: ModelConfig) -> None:
    config = request.config
    if config.verify != "never" and model.canvas_length > BLOCK:
        message = f"it takes canvases of at most {BLOCK} tokens, and they have {model.canvas_length}: leave it out"
        raise InputError(message, option="verify", got=config.verify)
    if config.mode == "ar" and request.branch is not None:
        raise InputError("it leaves a canvas at a step, and `mode` ar has no canvas: leave it out", option="branch")


def _check_pins(request: Request, model: ModelConfig) -> None:
    pins, ends, most = request.pins, request.config.eos_token_ids, request.config.max_new_tokens
    for position, token in pins.items():
        if isinstance(position, bool) or not isinstance(position, int) or position < 0:
            raise InputError(f"{position!r} is no position: give the number of a token of the answer", option="pins")
        if position >= most:
            message = f"position {position} is pinned, and `max_new_tokens` is {most}: raise it or drop the pin"
            raise InputError(message, option="pins")
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < model.vocab_size:
            message = f"token {token!r} at position {position} is not in the vocabulary of {model.vocab_size:,}"
            raise InputError(f"{message}: give another", option="pins")
    end = min((p for p, token in pins.items() if token in ends), default=most)
    if any(p > end and token not in ends for p, token in pins.items()):
        message = f"position {end} is pinned to an end token, and later ones to others: drop one"
        raise InputError(message, option="pins")


def _check_canvas(request: Request, model: ModelConfig) -> None:
    """What only a canvas can hold: text to fill in or to start from."""
    if not request.regions and request.start is None:
        return
    if request.config.mode == "ar":
        raise InputError("infilling and editing work on a canvas: leave it at diffusion", option="mode")
    if request.regions and request.config.verify != "never":
        raise InputError("the encoder cannot check what stands between other text: leave it at never", option="verify")
    for region in request.regions:
        inside = 0 <= region.start < region.stop <= request.config.max_new_tokens
        if not inside or region.start // model.canvas_length != (region.stop - 1) // model.canvas_length:
            raise InputError(f"a stretch of {region.stop - region.start} tokens to fill must lie on one canvas")
    if request.start is not None and not 0 < request.start.strength <= 1:
        raise InputError("give a number above 0 and up to 1", option="strength", got=request.start.strength)


def _check_prompt(request: Request, model: ModelConfig) -> None:
    ids, answer = request.prompt.ids, room(request.config, model.canvas_length)
    if not ids:
        raise InputError("the prompt is empty: give at least one token", option="prompt")
    bad = next((i for i in ids if not 0 <= i < model.vocab_size), None)
    if bad is not None:
        raise InputError(
            f"token id {bad} is outside the vocabulary of {model.vocab_size:,} tokens: give others", option="prompt"
        )
    if answer >= model.max_position_embeddings:
        raise InputError(
            f"the model takes {model.max_position_embeddings:,} tokens with the prompt: lower it",
            option="max_new_tokens",
            got=request.config.max_new_tokens,
        )
    if len(ids) + answer > model.max_position_embeddings:
        most = model.max_position_embeddings
        raise ContextExceeded(
            # Programs look for these words and numbers, first those of Anthropic, then of OpenAI, and send less.
            f"prompt is too long: {len(ids)} tokens > {most - answer} maximum. This model's maximum context length is "
            f"{most} tokens and up to {answer} are to be written: shorten the prompt or lower `max_new_tokens`",
            option="prompt",
        )
    if request.cache is not None and request.cache.length >= len(ids):
        raise InputError("it holds all of the prompt: leave at least one token to be encoded", option="cache")


def _begun(request: Request, constraint: Constraint, model: ModelConfig) -> Request:
    state = constraint.begin(request.config.max_new_tokens, request.config.min_tokens)
    if request.regions:
        raise InputError("a constraint on the whole answer and infilling do not go together: choose one")
    if request.pins:
        positions = 1 if request.config.mode == "ar" else model.canvas_length
        try:
            Holds.of(request).reader(state, 0, positions, torch.device("cpu"))
        except InputError as error:
            raise InputError(error.message, option=error.option or "pins") from error
    elif request.config.mode != "ar":
        state.lattice(model.canvas_length)  # refused here, or found when the canvas is opened
    return replace(request, constraint=state)
