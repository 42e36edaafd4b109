"""Bodies of Ollama's API, and the chat or completion that each asks for."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from diffusiongemma.serve.body_types import JsonObject, Seed, Text, TopK, Whole
from diffusiongemma.serve.invalid import parsed
from diffusiongemma.serve.openai.bodies import Bias, ChatRequest, CompletionRequest, Effort
from diffusiongemma.serve.tolerance import ANY, OF_REQUESTS, Asking, Tolerant

Think = bool | Literal["low", "medium", "high", "max"]
SAME = (
    *("temperature", "top_p", "top_k", "min_p", "seed", "stop"),
    *("frequency_penalty", "presence_penalty", "logit_bias"),
)


class OllamaOptions(Tolerant):
    harmless = {**OF_REQUESTS, "logits_all": ANY}
    num_predict: Whole | None = Field(None, ge=-2, description="-1 and -2: as many as there may be")
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: TopK = None
    min_p: float | None = Field(None, ge=0, le=1)
    seed: Seed | None = None
    stop: Text | list[Text] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repeat_penalty: float | None = None
    reasoning_effort: Effort | None = Field(None, description="as in OpenAI's API: Open WebUI sends it here")
    logit_bias: Bias | None = Field(None, description="likewise")


class OllamaMessage(Tolerant):
    role: Literal["system", "user", "assistant", "tool"]
    content: Text = ""
    images: list[Text] | None = None
    thinking: Text | None = None
    tool_calls: list[JsonObject] | None = None
    tool_name: Text | None = None
    name: Text | None = None
    tool_call_id: Text | None = None


class OllamaAsking(Asking):
    model: Text
    stream: bool | None = None
    format: Literal["json", ""] | JsonObject | None = None
    options: OllamaOptions | None = None
    think: Think | None = None


class OllamaChat(OllamaAsking):
    messages: list[OllamaMessage] = []
    tools: list[JsonObject] | None = Field(None, max_length=128)


class OllamaGenerate(OllamaAsking):
    prompt: Text = ""
    suffix: Text | None = None
    system: Text | None = None
    images: list[Text] | None = None
    raw: bool | None = None
    template: Literal[""] | None = None
    context: Annotated[list[int], Field(max_length=0)] | None = None


class ShowRequest(Asking):
    model: Text | None = None
    name: Text | None = None
    verbose: bool | None = None


def streams(body: OllamaAsking) -> bool:
    return body.stream is not False


def chat_of(body: OllamaChat) -> ChatRequest:
    """The chat that a body asks for. Raises `ApiError`."""
    messages = [_message(message) for message in body.messages]
    return parsed(ChatRequest, _common(body) | _shape(body) | {"messages": messages, "tools": body.tools})


def chat_of_prompt(body: OllamaGenerate) -> ChatRequest:
    """The chat of one message. Raises `ApiError`."""
    system = [{"role": "system", "content": body.system}] if body.system else []
    asked = _message(OllamaMessage(role="user", content=body.prompt, images=body.images))
    return parsed(ChatRequest, _common(body) | _shape(body) | {"messages": [*system, asked]})


def completion_of(body: OllamaGenerate) -> CompletionRequest:
    """The completion of a raw prompt, or of one with a suffix. Raises `ApiError`."""
    return parsed(CompletionRequest, _common(body) | {"prompt": body.prompt, "suffix": body.suffix})


def _common(body: OllamaAsking) -> dict[str, Any]:
    options = body.options or OllamaOptions.model_validate({})
    fields: dict[str, Any] = {name: getattr(options, name) for name in SAME}
    fields |= {"model": plain_name(body.model), "stream": streams(body), "repetition_penalty": options.repeat_penalty}
    if options.num_predict is not None and options.num_predict > 0:
        fields["max_tokens"] = options.num_predict
    return fields


def _shape(body: OllamaAsking) -> dict[str, Any]:
    fields: dict[str, Any] = {"think": bool(body.think) if body.think is not None else None}
    fields["reasoning_effort"] = body.options and body.options.reasoning_effort
    if body.format == "json":
        fields["response_format"] = {"type": "json_object"}
    elif isinstance(body.format, dict):
        fields["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": body.format}}
    return fields


def plain_name(name: str) -> str:
    """Ollama's clients put a tag behind a name that has none."""
    return name.removesuffix(":latest")


def _message(message: OllamaMessage) -> dict[str, Any]:
    content: Any = message.content
    if message.images:
        images = [{"type": "image_url", "image_url": _url(image)} for image in message.images]
        content = [*images, {"type": "text", "text": content}] if content else images
    fields = {"role": message.role, "content": content, "tool_calls": message.tool_calls}
    if message.role == "tool":
        # No ids here: a tool's answer belongs to the calls just before it.
        fields |= {"name": message.tool_name or message.name, "tool_call_id": message.tool_call_id}
    return {name: value for name, value in fields.items() if value is not None}


def _url(image: str) -> str:
    return image if image.startswith("data:") else f"data:image/png;base64,{image}"
