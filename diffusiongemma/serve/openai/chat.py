"""POST /v1/chat/completions: a body as a job."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from diffusiongemma.chat import Prompt
from diffusiongemma.chat.messages import guarded
from diffusiongemma.chat.prompt import encode_text
from diffusiongemma.engine.request import Request
from diffusiongemma.serve.errors import FieldOf, blaming, refusal
from diffusiongemma.serve.job import Dialect, Job, ResponseOptions
from diffusiongemma.serve.native.diffusion_field import FIELDS, fields_of, structure_of
from diffusiongemma.serve.openai.bodies import ChatRequest, Common, JsonObjectFormat, JsonSchemaFormat
from diffusiongemma.serve.openai.images import messages_of
from diffusiongemma.serve.openai.options import check_common, decoding, fitting, stops_of
from diffusiongemma.serve.openai.output import ChatOutput
from diffusiongemma.serve.openai.thinking import switch_of, thinks
from diffusiongemma.serve.openai.tools import call_mode, declared, forced_schemas
from diffusiongemma.serve.service import Service
from diffusiongemma.serve.tool_calls import CallMode, force_call


def chat_job(body: ChatRequest, service: Service) -> Job:
    """Raises `ApiError` or `InputError` for what cannot be honoured."""
    requests, options = chat_requests(body, service)
    output = ChatOutput(service.name_of(body.model), options, service.texts, len(requests), prompts=(0,))
    return Job(requests, output, options.stream, options.frames)


def chat_requests(body: ChatRequest, service: Service, cut: bool = False) -> tuple[list[Request], ResponseOptions]:
    """What is asked of the engine: other dialects make a `ChatRequest` of their bodies, and come here too. `cut`: see
    `fitting`.

    Raises `ApiError` or `InputError` for what cannot be honoured.
    """
    check_common(body, service.settings)
    if body.top_logprobs and not body.logprobs:
        raise refusal("top_logprobs goes with logprobs: true", "top_logprobs")
    options = response_options(body, bool(body.logprobs), call_mode(body))
    return choices_of(_request(body, service, options, cut), body.n or 1), options


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


def _request(body: ChatRequest, service: Service, response: ResponseOptions, cut: bool) -> Request:
    model, think = service.model, thinks(body)
    with blaming("prompt"):
        prompt = prompt_of(body, service)
    options: dict[str, Any] = fitting(decoding(body, model), prompt, model, cut) | {"frames": bool(response.frames)}
    structure = structure_of(options)
    if not response.calls.forced:
        if (schema := _schema(body)) is not None:
            options, structure = options | {"json_schema": schema}, structure or "json_schema"
        with blaming(structure or "prompt"):
            return model.request(prompt, think=think, **options)
    if think:
        raise refusal("a call that is asked for comes at once: leave thinking out", switch_of(body))
    if structure:
        field = chat_fields(body)(structure)
        raise refusal("a call is asked for, so the answer cannot have another form: leave one out", field)
    with blaming("tools"):
        prompt, constraint = force_call(forced_schemas(body), prompt, model)
        return model.request(prompt, constraint=constraint, **options)


def prompt_of(body: ChatRequest, service: Service) -> Prompt:
    """The prompt of a conversation. An answer that the last message begins is continued."""
    model, messages, begun = service.model, messages_of(body, service.settings), ""
    if len(messages) > 1 and messages[-1]["role"] == "assistant" and not messages[-1].get("tool_calls"):
        begun = messages.pop()["content"]
    hidden = body.diffusion is not None and not body.diffusion.show_schema
    schema = None if hidden or call_mode(body).forced else _schema(body)
    prompt = model.prompt(messages, tools=declared(body), think=thinks(body), schema=schema)
    if not begun:
        return prompt
    if thinks(body):
        raise refusal("an answer that is begun has no thought before it: leave thinking out", switch_of(body))
    return replace(prompt, ids=prompt.ids + encode_text(guarded(begun, model.tokenizer), model.tokenizer))


def _schema(body: ChatRequest) -> dict[str, Any] | None:
    if isinstance(body.response_format, JsonSchemaFormat):
        return body.response_format.json_schema.schema_
    return {"type": "object"} if isinstance(body.response_format, JsonObjectFormat) else None


def choices_of(request: Request, count: int) -> list[Request]:
    """One request per choice; each further one adds 1 to the seed."""
    return [request.with_seed((request.config.seed + index) % 2**64) for index in range(count)]
