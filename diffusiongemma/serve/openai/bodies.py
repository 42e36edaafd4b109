"""Bodies of OpenAI's chat completions and plain completions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from diffusiongemma.serve.body_types import Count, JsonObject, Seed, Strict, Text
from diffusiongemma.serve.native.diffusion_field import DiffusionOptions


class StreamOptions(Strict):
    include_usage: bool = False
    include_obfuscation: Literal[False] | None = None


class Common(Strict):
    """What chat and plain completions share."""

    model: Text | None = Field(None, description="the name that /v1/models gives, or absent")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(None, ge=1, le=128)
    stop: Text | list[Text] | None = Field(None, description="at most four texts; the answer ends before the first")
    max_tokens: Count | None = None
    seed: Seed | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1, description="cuts each position's distribution down to its nucleus")
    frequency_penalty: float | None = Field(None, description="only 0")
    presence_penalty: float | None = Field(None, description="only 0")
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    user: Text | None = Field(None, description="has no effect")
    diffusion: DiffusionOptions | None = None


class Function(Strict):
    name: Text = Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")
    description: Text | None = None
    parameters: JsonObject | None = None
    strict: bool | None = Field(None, description="arguments are held to the schema wherever a call is asked for")


class Tool(Strict):
    type: Literal["function"]
    function: Function


class NamedFunction(Strict):
    name: Text


class NamedTool(Strict):
    type: Literal["function"]
    function: NamedFunction


class CalledFunction(Strict):
    name: Text
    arguments: Text


class ToolCall(Strict):
    id: Text
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None


class ImageUrl(Strict):
    url: Text
    detail: Literal["auto"] | None = None


class TextPart(Strict):
    type: Literal["text"]
    text: Text


class ImagePart(Strict):
    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(Strict):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | list[Part] | None = None
    name: Text | None = Field(None, description="of the function, in a tool's answer only")
    tool_calls: list[ToolCall] | None = None
    tool_call_id: Text | None = None
    reasoning_content: Text | None = Field(None, description="past thoughts are not shown to the model")
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: list[Any] | None = Field(None, max_length=0)


class JsonSchema(Strict):
    name: Text
    description: Text | None = None
    schema_: JsonObject = Field(alias="schema")
    strict: bool | None = Field(None, description="the answer matches the schema in any case")


class TextFormat(Strict):
    type: Literal["text"]


class JsonObjectFormat(Strict):
    type: Literal["json_object"]


class JsonSchemaFormat(Strict):
    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


class ChatRequest(Common):
    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20, description="alternatives of each token")
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = Field(None, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    modalities: list[Literal["text"]] | None = None
    metadata: dict[str, Text] | None = Field(None, description="has no effect")
    store: Literal[False] | None = Field(None, description="nothing is ever stored")
    service_tier: Literal["auto", "default"] | None = Field(None, description="has no effect")
    safety_identifier: Text | None = Field(None, description="has no effect")
    prompt_cache_key: Text | None = Field(None, description="has no effect: beginnings are reused in any case")


class CompletionRequest(Common):
    prompt: Text | list[Text] | list[int] | list[list[int]]
    suffix: Text | None = Field(None, description="text that follows: the answer fills the gap")
    echo: bool | None = Field(None, description="only false")
    best_of: int | None = Field(None, description="only 1")
    logprobs: int | None = Field(None, ge=0, le=5, description="alternatives of each token, beside the chosen one")
