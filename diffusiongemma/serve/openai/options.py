"""From the fields of a body to options of `DiffusionGemma.request`; what cannot be honoured is refused by name."""

from __future__ import annotations

from typing import Any

from diffusiongemma.api import DiffusionGemma
from diffusiongemma.chat import Prompt
from diffusiongemma.request_options import check_stops
from diffusiongemma.serve.body_types import by_number, seed_of
from diffusiongemma.serve.errors import refusal
from diffusiongemma.serve.model_names import check_model
from diffusiongemma.serve.native.diffusion_field import branch_of, diffusion_options
from diffusiongemma.serve.openai.bodies import Common, CompletionRequest
from diffusiongemma.serve.settings import Settings

MOST_STOPS = 32
SHAPING = (
    *("temperature", "top_p", "top_k", "min_p"),
    *("frequency_penalty", "presence_penalty", "repetition_penalty"),
)


def check_common(body: Common, settings: Settings) -> None:
    """Raises `ApiError` for fields whose value cannot be honoured."""
    check_model(body.model, settings)
    if body.stream_options is not None and body.stream_options.include_usage and not body.stream:
        raise refusal("stream_options goes with stream: true", "stream_options")
    if body.diffusion is not None and body.diffusion.frames and not body.stream:
        raise refusal("frames are events of a stream: send stream: true", "diffusion.frames")


def stops_of(body: Common) -> tuple[str, ...]:
    stops = (body.stop,) if isinstance(body.stop, str) else tuple(dict.fromkeys(body.stop or ()))
    if len(stops) > MOST_STOPS:
        raise refusal(f"stop takes at most {MOST_STOPS} texts", "stop")
    return tuple(stop for stop in stops if stop)


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


def decoding(body: Common, model: DiffusionGemma) -> dict[str, Any]:
    """Options of `DiffusionGemma.request`, without the prompt."""
    options: dict[str, Any] = {"seed": seed_of(body.seed)}
    options |= {name: value for name in SHAPING if (value := getattr(body, name)) is not None}
    penalty = body.repeat_penalty
    if penalty is not None and options.setdefault("repetition_penalty", penalty) != penalty:
        raise refusal("repetition_penalty and repeat_penalty differ: send one", "repeat_penalty")
    if (count := alternatives_of(body)) is not None:
        options["top_logprobs"] = count
    if (most := max_tokens_of(body)) is not None:
        options["max_new_tokens"] = most
    if body.logit_bias:
        options["logit_bias"] = by_number(body.logit_bias, "logit_bias", model.config.vocab_size)
    options |= diffusion_options(body.diffusion, model)
    check_stops(options.get("choices"), stops_of(body))
    if body.diffusion is not None and body.diffusion.branch is not None:
        options["branch"] = branch_of(body.diffusion.branch, options.get("mode", model.generation.mode))
    return options


def fitting(options: dict[str, Any], prompt: Prompt, model: DiffusionGemma, cut: bool = False) -> dict[str, Any]:
    """The options, with the checkpoint's own length, which nobody asked for, cut to what fits behind the prompt.

    So is a length beyond the model's whole context: agents send 32,000 whatever the model. `cut` is for dialects in
    which a length is always an upper bound: there any is cut.
    """
    whole = model.config.max_position_embeddings
    wanted = options.get("max_new_tokens", whole)
    if wanted < whole and not cut:
        return options
    left = whole - len(prompt.ids)
    if options.get("mode", model.generation.mode) != "ar":
        left -= left % model.config.canvas_length  # canvases are denoised whole
    wanted = options.get("max_new_tokens", model.generation.max_new_tokens)
    return options | {"max_new_tokens": max(left, 1)} if left < wanted else options


def prompts_of(body: CompletionRequest) -> list[str] | list[list[int]]:
    """The prompts of a completion, each a text or token ids."""
    prompt: Any = body.prompt
    single = isinstance(prompt, str) or (bool(prompt) and isinstance(prompt[0], int))
    prompts = [prompt] if single else prompt
    if not prompts or not all(prompts):
        raise refusal("the prompt is empty: give at least one token", "prompt")
    return prompts
