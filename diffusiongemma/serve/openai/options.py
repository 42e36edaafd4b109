"""From the fields of a body to options of `DiffusionGemma.request`; what cannot be honoured is refused by name."""

from __future__ import annotations

import secrets
from dataclasses import fields
from typing import Any

from diffusiongemma.api import DiffusionGemma
from diffusiongemma.diffusion.samplers import SAMPLERS, Sampler
from diffusiongemma.engine.branch import Branch
from diffusiongemma.serve.errors import ApiError, blaming, refusal
from diffusiongemma.serve.openai.schemas import (
    BranchSpec,
    Common,
    CompletionRequest,
    DiffusionOptions,
    EarlyText,
    SamplerSpec,
)
from diffusiongemma.serve.settings import Settings

MOST_STOPS = 4
EARLY_STEPS = 2  # of early text, where a request says no more than true
_STRUCTURE = ("regex", "choices", "template")
_PASSED_ON = (
    "mode", "steps", "entropy_bound", "banned_words", "required_words", "min_tokens", "patience", "verify", *_STRUCTURE
)  # fmt: skip
_ONLY = {"frequency_penalty": 0, "presence_penalty": 0, "echo": False, "best_of": 1}


def check_model(name: str | None, settings: Settings) -> None:
    if (
        name is not None
        and name != settings.model_name
        and name not in settings.aliases
        and "*" not in settings.aliases
    ):
        message = f"no model {name[:100]!r} here: ask for {settings.model_name!r}, or leave model out"
        raise ApiError(404, message, param="model", code="model_not_found")


def check_common(body: Common, settings: Settings) -> None:
    """Raises `ApiError` for fields whose value cannot be honoured."""
    check_model(body.model, settings)
    for name, only in _ONLY.items():
        value = getattr(body, name, None)
        if value is not None and value != only:
            raise refusal(f"{name} is not supported: leave it out or send {only!r}", name, "unsupported_value")
    if body.stream_options is not None and not body.stream:
        raise refusal("stream_options goes with stream: true", "stream_options")
    if body.diffusion is not None and body.diffusion.frames and not body.stream:
        raise refusal("frames are events of a stream: send stream: true", "diffusion.frames")


def stops_of(body: Common) -> tuple[str, ...]:
    stops = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    if len(stops) > MOST_STOPS or not all(stops):
        raise refusal(f"stop takes at most {MOST_STOPS} texts, none of them empty", "stop")
    return stops


def max_tokens_of(body: Common) -> int | None:
    newer = getattr(body, "max_completion_tokens", None)
    if newer is not None and body.max_tokens is not None and newer != body.max_tokens:
        raise refusal("max_tokens and max_completion_tokens differ: send one", "max_completion_tokens")
    return newer if newer is not None else body.max_tokens


def alternatives_of(body: Common) -> int | None:
    """How many alternatives of each token a body asks for, in a field of chat, of plain completions or of diffusion."""
    plain = body.logprobs if isinstance(body, CompletionRequest) else getattr(body, "top_logprobs", None)
    wide = body.diffusion.alternatives if body.diffusion is not None else None
    if plain is not None and wide is not None and plain != wide:
        raise refusal("this and the number of OpenAI's field differ: send one", "diffusion.alternatives")
    return plain if wide is None else wide


def seed_of(seed: int | None) -> int:
    """Negative seeds count down from 2**64. One that is drawn is small enough for every JSON reader."""
    return secrets.randbits(32) if seed is None else seed % 2**64


def decoding(body: Common, model: DiffusionGemma) -> dict[str, Any]:
    """Options of `DiffusionGemma.request`, without the prompt."""
    options: dict[str, Any] = {"seed": seed_of(body.seed)}
    options |= {name: value for name in ("temperature", "top_p") if (value := getattr(body, name)) is not None}
    if (told := alternatives_of(body)) is not None:
        options["top_logprobs"] = told
    if (most := max_tokens_of(body)) is not None:
        options["max_new_tokens"] = most
    if body.logit_bias:
        options["logit_bias"] = _by_number(body.logit_bias, "logit_bias", model.config.vocab_size)
    return options | diffusion_options(body.diffusion, model)


def diffusion_options(diffusion: DiffusionOptions | None, model: DiffusionGemma) -> dict[str, Any]:
    if diffusion is None:
        return {}
    options = {name: value for name in _PASSED_ON if (value := getattr(diffusion, name)) is not None}
    if diffusion.sampler is not None:
        options["sampler"] = sampler_of(diffusion.sampler, "diffusion.sampler")
    if diffusion.pins:
        options["pins"] = _by_number(diffusion.pins, "diffusion.pins", 2**31)
    return options | _early(diffusion.early_text)


def structure_field(options: dict[str, Any]) -> str | None:
    """The field to name when a structure cannot be kept."""
    return next((f"diffusion.{name}" for name in _STRUCTURE if name in options), None)


def sampler_of(spec: str | SamplerSpec, param: str) -> Sampler:
    if isinstance(spec, str):
        spec = SamplerSpec.model_validate({"name": spec})
    kind: Any = SAMPLERS[spec.name.replace("_", "-")]
    given = spec.model_dump(exclude={"name"}, exclude_none=True)
    foreign = set(given) - {field.name for field in fields(kind)}
    if foreign:
        raise refusal(f"the sampler {spec.name} has no {foreign.pop()}: leave it out", param)
    sampler: Sampler = kind(**given)
    return sampler


def branch_of(spec: BranchSpec | None, mode: str) -> Branch | None:
    if spec is None:
        return None
    if mode == "ar":
        raise refusal("a branch leaves a canvas at a step, and mode ar has no canvas", "diffusion.branch")
    sampler = None if spec.sampler is None else sampler_of(spec.sampler, "diffusion.branch.sampler")
    with blaming("diffusion.branch"):
        return Branch(spec.canvas, spec.step, None if spec.seed is None else spec.seed % 2**64, sampler)


def prompts_of(body: CompletionRequest) -> list[str] | list[list[int]]:
    """The prompts of a completion, each a text or token ids."""
    prompt: Any = body.prompt
    single = isinstance(prompt, str) or (bool(prompt) and isinstance(prompt[0], int))
    prompts = [prompt] if single else prompt
    if not prompts or not all(prompts):
        raise refusal("the prompt is empty: give at least one token", "prompt")
    return prompts


def _early(early: bool | EarlyText | None) -> dict[str, Any]:
    if not early:
        return {}
    if early is True:
        return {"early_steps": EARLY_STEPS}
    assert isinstance(early, EarlyText)
    chosen: dict[str, Any] = {"early_steps": early.steps}
    return chosen if early.entropy is None else chosen | {"early_entropy": early.entropy}


def _by_number(given: dict[str, Any], param: str, limit: int) -> dict[int, Any]:
    try:
        numbers = {int(key): value for key, value in given.items() if key.isascii() and key.isdigit()}
    except ValueError as error:  # more digits than Python reads
        raise refusal(f"{param}: {error}", param) from None
    if len(numbers) < len(given) or any(number >= limit for number in numbers):
        raise refusal(f"the keys of {param} are whole numbers from 0 to below {limit:,}, each given once", param)
    return numbers
