"""POST /v1/completions: text that goes on from a prompt, as a job; with a suffix, see `suffix.py`."""

from __future__ import annotations

from diffusiongemma.engine.request import Request
from diffusiongemma.serve.errors import FieldOf, blaming, refusal
from diffusiongemma.serve.job import Dialect, Job, ResponseOptions
from diffusiongemma.serve.native.diffusion_field import fields_of, structure_of
from diffusiongemma.serve.openai.bodies import CompletionRequest
from diffusiongemma.serve.openai.chat import choices_of, response_options
from diffusiongemma.serve.openai.options import check_common, decoding, fitting, prompts_of
from diffusiongemma.serve.openai.output import CompletionOutput
from diffusiongemma.serve.service import Service
from diffusiongemma.serve.tool_calls import CallMode


def completion_job(body: CompletionRequest, service: Service) -> Job:
    """Raises `ApiError` or `InputError` for what cannot be honoured."""
    requests, options = completion_requests(body, service)
    shared = range(0, len(requests), tries_of(body))
    output = CompletionOutput(service.name_of(body.model), options, service.texts, len(requests), shared)
    output.keep = body.n or 1
    if body.echo:
        output.echoes = [_echo(prompt, service) for prompt in prompts_of(body) for _ in range(tries_of(body))]
    return Job(requests, output, options.stream, options.frames)


def tries_of(body: CompletionRequest) -> int:
    """How many answers to each prompt are written. Raises `ApiError`."""
    wanted = body.n or 1
    if body.best_of is None:
        return wanted
    if body.best_of < wanted:
        raise refusal("best_of is at least n", "best_of")
    if body.stream and body.best_of > wanted:
        raise refusal("which answer is best is known when all are written: leave stream or best_of out", "best_of")
    return body.best_of


def _echo(prompt: str | list[int], service: Service) -> str:
    return prompt if isinstance(prompt, str) else service.texts.written(prompt)


def completion_requests(
    body: CompletionRequest, service: Service, cut: bool = False
) -> tuple[list[Request], ResponseOptions]:
    """Choices of the first prompt, then those of the next. `cut`: see `fitting`.

    Raises `ApiError` or `InputError` for what cannot be honoured.
    """
    check_common(body, service.settings)
    if body.diffusion is not None and body.diffusion.think:
        raise refusal("a plain completion has no thought channel: use chat", "diffusion.think")
    if body.echo and body.logprobs is not None:
        raise refusal("log-probabilities are those of what is written, not of an echo: leave one out", "echo")
    prompts, count = prompts_of(body), tries_of(body)
    if len(prompts) * count > service.settings.max_requests + service.settings.max_queue:
        raise refusal(f"{len(prompts) * count} answers are more than the server takes at all", "prompt")
    requests = [choice for prompt in prompts for choice in choices_of(_request(prompt, body, service, cut), count)]
    return requests, response_options(body, body.logprobs is not None, CallMode())


def completion_fields(body: CompletionRequest) -> FieldOf:
    own = {"max_new_tokens": "max_tokens"}
    return fields_of(body, own if body.logprobs is None else own | {"top_logprobs": "logprobs"})


COMPLETION = Dialect(completion_job, completion_fields)


def _request(prompt: str | list[int], body: CompletionRequest, service: Service, cut: bool) -> Request:
    model = service.model
    with blaming("prompt"):
        encoded = model.prompt(prompt, raw=isinstance(prompt, str))
    frames = body.diffusion is not None and body.diffusion.frames
    options = fitting(decoding(body, model), encoded, model, cut) | {"frames": bool(frames)}
    with blaming(structure_of(options) or "prompt"):
        return model.request(encoded, **options)
