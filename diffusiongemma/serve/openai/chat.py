"""POST /v1/chat/completions."""

from __future__ import annotations

from typing import Any

from diffusiongemma.api import DiffusionGemma
from diffusiongemma.engine.request import Request
from diffusiongemma.serve.answers import Wanted
from diffusiongemma.serve.errors import blaming, refusal
from diffusiongemma.serve.native.diffusion_field import structure_field
from diffusiongemma.serve.openai.bodies import ChatRequest, Common, JsonObjectFormat, JsonSchemaFormat
from diffusiongemma.serve.openai.images import messages_of
from diffusiongemma.serve.openai.options import check_common, decoding, stops_of
from diffusiongemma.serve.openai.styles import ChatStyle
from diffusiongemma.serve.openai.tools import CallMode, call_mode, declared, force_call
from diffusiongemma.serve.service import Job
from diffusiongemma.serve.settings import Settings


def chat_job(body: ChatRequest, model: DiffusionGemma, settings: Settings) -> Job:
    """Raises `ApiError` for what cannot be honoured."""
    check_common(body, settings)
    if body.top_logprobs is not None and not body.logprobs:
        raise refusal("top_logprobs goes with logprobs: true", "top_logprobs")
    wanted = wanted_of(body, bool(body.logprobs), call_mode(body))
    request = chat_request(body, model, settings, wanted)
    return Job(choices_of(request, body.n or 1), wanted, ChatStyle(settings.model_name))


def wanted_of(body: Common, logprobs: bool, calls: CallMode) -> Wanted:
    diffusion, streams = body.diffusion, body.stream_options
    return Wanted(
        stops=stops_of(body),
        logprobs=logprobs,
        details=diffusion is not None and diffusion.details,
        frames=diffusion is not None and diffusion.frames,
        stream=bool(body.stream),
        usage=streams is not None and streams.include_usage,
        calls=calls,
    )


def chat_request(body: ChatRequest, model: DiffusionGemma, settings: Settings, wanted: Wanted) -> Request:
    think = body.diffusion is not None and body.diffusion.think
    messages = messages_of(body, settings)
    with blaming("messages"):
        prompt = model.prompt(messages, tools=declared(body), think=think)
    options: dict[str, Any] = decoding(body, model) | {"frames": wanted.frames}
    schema = _schema(body)
    field = structure_field(options)
    if schema is not None:
        options, field = options | {"json_schema": schema}, field or "response_format"
    if think and wanted.calls.forced:
        raise refusal("a call that is asked for comes at once: leave thinking out", "diffusion.think")
    if wanted.calls.forced and field:
        raise refusal("a call is asked for, so the answer cannot have another form: leave one out", field)
    if not wanted.calls.forced:
        with blaming(field):
            return model.request(prompt, think=think, **options)
    with blaming("tools"):
        prompt, constraint = force_call(body, prompt, model)
        return model.request(prompt, constraint=constraint, **options)


def _schema(body: ChatRequest) -> dict[str, Any] | None:
    if isinstance(body.response_format, JsonSchemaFormat):
        return body.response_format.json_schema.schema_
    return {"type": "object"} if isinstance(body.response_format, JsonObjectFormat) else None


def choices_of(request: Request, count: int) -> list[Request]:
    """One request per choice; each further one adds 1 to the seed."""
    return [request.with_seed((request.config.seed + index) % 2**64) for index in range(count)]
