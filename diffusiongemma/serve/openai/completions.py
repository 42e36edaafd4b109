"""POST /v1/completions: text that goes on from a prompt, or fills the gap before a suffix."""

from __future__ import annotations

from diffusiongemma.api import DiffusionGemma
from diffusiongemma.engine.request import Request
from diffusiongemma.serve.errors import blaming, refusal
from diffusiongemma.serve.native.diffusion_field import structure_field
from diffusiongemma.serve.openai.bodies import CompletionRequest
from diffusiongemma.serve.openai.chat import choices_of, wanted_of
from diffusiongemma.serve.openai.options import check_common, decoding, prompts_of
from diffusiongemma.serve.openai.styles import Style
from diffusiongemma.serve.openai.tools import CallMode
from diffusiongemma.serve.service import Job
from diffusiongemma.serve.settings import Settings


def completion_job(body: CompletionRequest, model: DiffusionGemma, settings: Settings) -> Job:
    """Choices of the first prompt, then those of the next. Raises `ApiError` for what cannot be honoured."""
    check_common(body, settings)
    if body.diffusion is not None and body.diffusion.think:
        raise refusal("a plain completion has no thought channel: use chat", "diffusion.think")
    prompts, count = prompts_of(body), body.n or 1
    if len(prompts) * count > settings.max_requests + settings.max_queue:
        raise refusal(f"{len(prompts) * count} answers are more than the server takes at all", "prompt")
    requests = [choice for prompt in prompts for choice in choices_of(_request(prompt, body, model, settings), count)]
    wanted = wanted_of(body, body.logprobs is not None, CallMode())
    shared = tuple(range(0, len(requests), count))
    return Job(requests, wanted, Style(settings.model_name), shared)


def _request(prompt: str | list[int], body: CompletionRequest, model: DiffusionGemma, settings: Settings) -> Request:
    with blaming("prompt"):
        encoded = model.prompt(prompt, raw=isinstance(prompt, str))
        beyond = next((i for i in encoded.ids if not 0 <= i < model.config.vocab_size), None)
    if beyond is not None:
        raise refusal(f"token id {beyond} is outside the vocabulary of {model.config.vocab_size:,} tokens", "prompt")
    frames = body.diffusion is not None and body.diffusion.frames
    options = decoding(body, model) | {"frames": frames}
    with blaming(structure_field(options)):
        return model.request(encoded, **options)
