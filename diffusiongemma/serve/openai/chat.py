"""POST /v1/chat/completions: a body as a job."""

from __future__ import annotations

from typing import Any

from diffusiongemma.engine.request import Request
from diffusiongemma.serve.errors import FieldOf, blaming, refusal
from diffusiongemma.serve.job import Dialect, Job, ResponseOptions
from diffusiongemma.serve.native.diffusion_field import FIELDS, fields_of, structure_of
from diffusiongemma.serve.openai.bodies import ChatRequest, Common, JsonObjectFormat, JsonSchemaFormat
from diffusiongemma.serve.openai.images import messages_of
from diffusiongemma.serve.openai.options import check_common, decoding, stops_of
from diffusiongemma.serve.openai.output import ChatOutput
from diffusiongemma.serve.openai.tools import call_mode, declared, forced_schemas
from diffusiongemma.serve.service import Service
from diffusiongemma.serve.tool_calls import CallMode, force_call


def chat_job(body: ChatRequest, service: Service) -> Job:
    """Raises `ApiError` or `InputError` for what cannot be honoured."""
    check_common(body, service.settings)
    if body.top_logprobs is not None and not body.logprobs:
        raise refusal("top_logprobs goes with logprobs: true", "top_logprobs")
    options = response_options(body, bool(body.logprobs), call_mode(body))
    requests = choices_of(_request(body, service, options), body.n or 1)
    output = ChatOutput(service.settings.model_name, options, service.texts, len(requests), prompts=(0,))
    return Job(requests, output, options.stream, options.frames)


def chat_fields(body: ChatRequest) -> FieldOf:
    own = {"prompt": "messages", "json_schema": "response_format", "images": "messages", "video": "messages"}
    own["max_new_tokens"] = "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"
    own["think"] = FIELDS["think"]
    if body.top_logprobs is None:
        return fields_of(body, own | {"top_logprobs": FIELDS["top_logprobs"]})
    return fields_of(body, own)


CHAT = Dialect(chat_job, chat_fields)


def response_options(body: Common, logprobs: bool, calls: CallMode) -> ResponseOptions:
    diffusion, streams = body.diffusion, body.stream_options
    return ResponseOptions(
        stops=stops_of(body),
        logprobs=logprobs,
        details=diffusion is not None and diffusion.details,
        frames=diffusion is not None and diffusion.frames,
        stream=bool(body.stream),
        usage=streams is not None and streams.include_usage,
        calls=calls,
    )


def _request(body: ChatRequest, service: Service, response: ResponseOptions) -> Request:
    model, think = service.model, body.diffusion is not None and body.diffusion.think
    schema, hidden = _schema(body), body.diffusion is not None and not body.diffusion.show_schema
    with blaming("prompt"):
        messages, told = messages_of(body, service.settings), None if hidden else schema
        prompt = model.prompt(messages, tools=declared(body), think=think, schema=told)
    options: dict[str, Any] = decoding(body, model) | {"frames": bool(response.frames)}
    structure = structure_of(options)
    if schema is not None:
        options, structure = options | {"json_schema": schema}, structure or "json_schema"
    if not response.calls.forced:
        with blaming(structure or "prompt"):
            return model.request(prompt, think=think, **options)
    if think:
        raise refusal("a call that is asked for comes at once: leave thinking out", "diffusion.think")
    if structure:
        field = chat_fields(body)(structure)
        raise refusal("a call is asked for, so the answer cannot have another form: leave one out", field)
    with blaming("tools"):
        prompt, constraint = force_call(forced_schemas(body), prompt, model)
        return model.request(prompt, constraint=constraint, **options)


def _schema(body: ChatRequest) -> dict[str, Any] | None:
    if isinstance(body.response_format, JsonSchemaFormat):
        return body.response_format.json_schema.schema_
    return {"type": "object"} if isinstance(body.response_format, JsonObjectFormat) else None


def choices_of(request: Request, count: int) -> list[Request]:
    """One request per choice; each further one adds 1 to the seed."""
    return [request.with_seed((request.config.seed + index) % 2**64) for index in range(count)]
