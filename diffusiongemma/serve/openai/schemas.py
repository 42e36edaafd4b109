"""Bodies of requests. A field that is not here is refused; what is here is honoured, or refused by value."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from diffusiongemma.diffusion.samplers import SAMPLERS


class Strict(BaseModel):
    """No unknown field, no "1" for 1, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def _writable_text(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("the text has half a surrogate pair, which is no character") from None
    return text


def _writable_json(value: Any) -> Any:
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("nested too deep") from None
    except ValueError:
        raise ValueError("not valid JSON: it has NaN, Infinity or half a surrogate pair") from None
    return value


Text = Annotated[str, AfterValidator(_writable_text)]
JsonObject = Annotated[dict[str, Any], AfterValidator(_writable_json)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**64)]
Count = Annotated[int, Field(ge=1, le=2**31)]
SamplerName = Literal["entropy_bound", "confidence", "fixed_k", "ancestral"]
assert {name.replace("-", "_") for name in SAMPLERS} == set(SamplerName.__args__)  # type: ignore[attr-defined]


class SamplerSpec(Strict):
    """A sampler with its numbers; those that are not its own are refused."""

    name: SamplerName
    bound: float | None = Field(None, gt=0, description="of entropy_bound, nats")
    threshold: float | None = Field(None, gt=0, le=1, description="of confidence, a probability")
    k: int | None = Field(None, ge=1, description="of fixed_k, positions a step")


class EarlyText(Strict):
    steps: int = Field(2, ge=1, le=10_000, description="steps for which the argmax must not have changed")
    entropy: float | None = Field(None, gt=0, description="nats; absent takes the default")


class BranchSpec(Strict):
    """Follow the request's seed through `step` steps of canvas `canvas`, then another seed or sampler."""

    canvas: int = Field(0, ge=0, le=2**31)
    step: int = Field(ge=0, le=2**31)
    seed: Seed | None = None
    sampler: SamplerName | SamplerSpec | None = None


class DiffusionOptions(Strict):
    """What a request may ask for beyond OpenAI's fields; see docs/protocol.md."""

    mode: Literal["auto", "diffusion", "ar"] | None = None
    steps: int | None = Field(None, ge=1, le=10_000)
    entropy_bound: float | None = Field(None, gt=0)
    sampler: SamplerName | SamplerSpec | None = None
    patience: int | None = Field(None, ge=0, le=10_000)
    verify: Literal["never", "unconverged", "always"] | None = None
    pins: dict[str, Text | int] | None = None
    early_text: bool | EarlyText | None = None
    regex: Text | None = None
    choices: list[Text] | None = Field(None, min_length=1)
    template: Text | None = None
    banned_words: list[Text] | None = None
    required_words: list[Text] | None = None
    min_tokens: int | None = Field(None, ge=0, le=2**31)
    alternatives: int | None = Field(None, ge=0, le=20, description="told of each token, in details and commit events")
    frames: bool = False
    details: bool = False
    think: bool = False
    branch: BranchSpec | None = None


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
    top_logprobs: int | None = Field(None, ge=0, le=20, description="alternatives told of each token")
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
    logprobs: int | None = Field(None, ge=0, le=5, description="alternatives told of each token, beside the chosen one")


class InfillRequest(Strict):
    model: Text | None = None
    prefix: Text | None = None
    suffix: Text | None = None
    text: Text | None = Field(None, description="a text with holes, in place of prefix and suffix")
    hole: Text = Field("<<>>", min_length=1)
    instruction: Text | None = None
    length: int | list[int] | Literal["auto"] | None = None
    seed: Seed | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    stream: bool | None = None
    diffusion: DiffusionOptions | None = None


class EditRequest(Strict):
    model: Text | None = None
    input: Text
    instruction: Text | None = None
    spans: list[Annotated[list[int], Field(min_length=2, max_length=2)]] | None = None
    strength: float | None = Field(None, ge=0, le=1)
    seed: Seed | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    stream: bool | None = None
    diffusion: DiffusionOptions | None = None
