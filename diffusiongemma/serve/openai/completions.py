"""POST /v1/completions: text that goes on from a prompt, as a job; with a suffix, see `suffix.py`."""

from __future__ import annotations

from diffusiongemma.engine.request import Request
from diffusiongemma.serve.errors import FieldOf, blaming, refusal
from diffusiongemma.serve.job import Dialect, Job
from diffusiongemma.serve.native.diffusion_field import fields_of, structure_of
from diffusiongemma.serve.openai.bodies import CompletionRequest
from diffusiongemma.serve.openai.chat import choices_of, response_options
from diffusiongemma.serve.openai.options import check_common, decoding, prompts_of
from diffusiongemma.serve.openai.output import CompletionOutput
from diffusiongemma.serve.service import Service
from diffusiongemma.serve.tool_calls import CallMode


def completion_job(body: CompletionRequest, service: Service) -> Job:
    """Choices of the first prompt, then those of the next. Raises `ApiError` or `InputError` for what cannot be
    honoured."""
    check_common(body, service.settings)
    if body.diffusion is not None and body.diffusion.think:
        raise refusal("a plain completion has no thought channel: use chat", "diffusion.think")
    prompts, count = prompts_of(body), body.n or 1
    if len(prompts) * count > service.settings.max_requests + service.settings.max_queue:
        raise refusal(f"{len(prompts) * count} answers are more than the server takes at all", "prompt")
    requests = [choice for prompt in prompts for choice in choices_of(_request(prompt, body, service), count)]
    options = response_options(body, body.logprobs is not None, CallMode())
    shared = range(0, len(requests), count)
    output = CompletionOutput(service.settings.model_name, options, service.texts, len(requests), shared)
    return Job(requests, output, options.stream, options.frames)


def completion_fields(body: CompletionRequest) -> FieldOf:
    own = {"max_new_tokens": "max_tokens"}
    return fields_of(body, own if body.logprobs is None else own | {"top_logprobs": "logprobs"})


COMPLETION = Dialect(completion_job, completion_fields)


def _request(prompt: str | list[int], body: CompletionRequest, service: Service) -> Request:
    model = service.model
    with blaming("prompt"):
        encoded = model.prompt(prompt, raw=isinstance(prompt, str))
    frames = body.diffusion is not None and body.diffusion.frames
    options = decoding(body, model) | {"frames": bool(frames)}
    with blaming(structure_of(options) or "prompt"):
        return model.request(encoded, **options)
