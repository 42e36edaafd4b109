"""Bodies of OpenAI's chat completions and plain completions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from diffusiongemma.serve.body_types import JsonObject, Limit, Seed, Text, TopK, Whole
from diffusiongemma.serve.native.diffusion_field import DiffusionOptions
from diffusiongemma.serve.openai.guided import translated
from diffusiongemma.serve.openai.history import tidied
from diffusiongemma.serve.tolerance import ANY, Asking, Tolerant, also

Bias = dict[str, Annotated[float, Field(ge=-100, le=100)]]


class StreamOptions(Tolerant):
    harmless = also(continuous_usage_stats=(False,), include_obfuscation=(False, True))
    include_usage: bool = False


class Common(Asking):
    """What chat and plain completions share."""

    model: Text | None = Field(None, description="the name that /v1/models gives, or absent")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Whole | None = Field(None, ge=1, le=128)
    stop: Text | list[Text] | None = Field(None, description="at most 32 texts; the answer ends before the first")
    max_tokens: Limit = None
    seed: Seed | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1, description="cuts each position's distribution down to its nucleus")
    top_k: TopK = None
    min_p: float | None = Field(None, ge=0, le=1, description="before the temperature")
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    repetition_penalty: float | None = Field(None, ge=0.1, le=10, description="counts the prompt too")
    repeat_penalty: float | None = Field(None, ge=0.1, le=10, description="llama.cpp's and Ollama's name for the same")
    logit_bias: Bias | None = None
    diffusion: DiffusionOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _in_our_words(cls, data: Any) -> Any:
        return translated(data, formats="response_format" in cls.model_fields)


class Function(Tolerant):
    name: Text = Field(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")
    description: Text | None = None
    parameters: JsonObject | None = None
    strict: bool | None = Field(None, description="arguments are held to the schema wherever a call is asked for")


class Tool(Tolerant):
    type: Literal["function"]
    function: Function


class NamedFunction(Tolerant):
    name: Text


class NamedTool(Tolerant):
    type: Literal["function"]
    function: NamedFunction


class AllowedTools(Tolerant):
    mode: Literal["auto", "required"]
    tools: list[NamedTool] = Field(min_length=1, max_length=128)


class AllowedChoice(Tolerant):
    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


class ImageUrl(Tolerant):
    harmless = also(detail=("auto", "low", "high", "original"), format=ANY, media_type=ANY)
    url: Text


class TextPart(Tolerant):
    type: Literal["text"]
    text: Text


class ImagePart(Tolerant):
    type: Literal["image_url"]
    image_url: ImageUrl | Text


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(Tolerant):
    """What the model was told before is taken in any shape (`history.tidied`); what it is told now is looked at."""

    harmless = also(name=ANY, id=ANY)
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | list[Part] | None = None
    name: Text | None = Field(None, description="of the function, in a tool's answer; elsewhere without effect")
    tool_calls: list[JsonObject] | None = None
    tool_call_id: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _as_history(cls, data: Any) -> Any:
        return tidied(data)

    @model_validator(mode="after")
    def _calls_are_the_models(self) -> Message:
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"a message of the role {self.role} has no tool_calls: leave them out")
        return self


class JsonSchema(Tolerant):
    name: Text
    description: Text | None = None
    schema_: JsonObject = Field(alias="schema")
    strict: bool | None = Field(None, description="the answer matches the schema in any case")


class TextFormat(Tolerant):
    type: Literal["text"]


class JsonObjectFormat(Tolerant):
    type: Literal["json_object"]


class JsonSchemaFormat(Tolerant):
    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class Reasoning(Tolerant):
    harmless = also(summary=ANY, generate_summary=ANY, max_tokens=ANY, encrypted_content=ANY, exclude=(False,))
    effort: Effort | None = None
    enabled: bool | None = None


class TemplateOptions(Tolerant):
    harmless = also(thinking_budget=ANY, preserve_thinking=ANY, clear_thinking=ANY)
    enable_thinking: bool | None = None
    thinking: bool | None = None
    reasoning_effort: Effort | None = None


class ThinkingSwitch(Tolerant):
    harmless = also(budget_tokens=ANY, clear_thinking=ANY, display=ANY)
    type: Literal["enabled", "disabled", "adaptive", "auto"]


class ChatRequest(Common):
    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: Limit = None
    logprobs: bool | None = None
    top_logprobs: Whole | None = Field(None, ge=0, le=20, description="alternatives of each token")
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = Field(None, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | NamedTool | AllowedChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Effort | None = Field(None, description="none and minimal: no thought; all others: think")
    reasoning: Reasoning | None = None
    chat_template_kwargs: TemplateOptions | None = None
    enable_thinking: bool | None = None
    think: bool | None = None
    thinking: ThinkingSwitch | None = None
    add_generation_prompt: bool | None = Field(None, description="false goes with continue_final_message")
    continue_final_message: bool | None = Field(None, description="a last assistant message is continued in any case")


class FimRequest(Common):
    """Mistral's way of asking for the same."""

    prompt: Text
    suffix: Text | None = None
    min_tokens: Whole | None = Field(None, ge=0, le=0)


class CompletionRequest(Common):
    prompt: Text | list[Text] | list[int] | list[list[int]]
    suffix: Text | None = Field(None, description="text that follows: the answer fills the gap")
    echo: bool | None = Field(None, description="the prompt before the answer")
    best_of: Whole | None = Field(None, ge=1, le=128, description="answers of which the n most probable are given")
    logprobs: Whole | None = Field(None, ge=0, le=5, description="alternatives of each token, beside the chosen one")
