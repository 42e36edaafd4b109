"""Bodies of Anthropic's Messages, and the chat that each asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from diffusiongemma.serve.body_types import Count, JsonObject, Seed, Text, TopK
from diffusiongemma.serve.errors import refusal
from diffusiongemma.serve.invalid import parsed
from diffusiongemma.serve.native.diffusion_field import DiffusionOptions
from diffusiongemma.serve.openai.bodies import ChatRequest, Effort
from diffusiongemma.serve.tolerance import ANY, Asking, Tolerant, also

Blocks = Text | list[JsonObject]


class AnthropicMessage(Tolerant):
    harmless = also(id=ANY)
    role: Literal["user", "assistant", "system"]
    content: Blocks


class AnthropicTool(Tolerant):
    harmless = also(eager_input_streaming=ANY, defer_loading=(False,), input_examples=ANY, allowed_callers=ANY)
    type: Literal["custom"] | None = None
    name: Text
    description: Text | None = None
    input_schema: JsonObject | None = None
    strict: bool | None = Field(None, description="arguments are held to the schema wherever a call is asked for")


class AnthropicToolChoice(Tolerant):
    type: Literal["auto", "any", "tool", "none"]
    name: Text | None = None
    disable_parallel_tool_use: bool | None = None


class AnthropicThinking(Tolerant):
    harmless = also(budget_tokens=ANY, display=ANY)
    type: Literal["enabled", "disabled", "adaptive"]


class JsonOutput(Tolerant):
    type: Literal["json_schema"]
    schema_: JsonObject = Field(alias="schema")


class OutputConfig(Tolerant):
    format: JsonOutput | None = None
    effort: Effort | None = Field(None, description="has no effect: `thinking` is what asks for a thought")


class CountRequest(Asking):
    """What a prompt is made of."""

    model: Text
    messages: list[AnthropicMessage] = Field(min_length=1)
    system: Blocks | None = None
    tools: list[AnthropicTool] | None = Field(None, max_length=128)
    tool_choice: AnthropicToolChoice | None = None
    thinking: AnthropicThinking | None = None
    output_config: OutputConfig | None = None
    output_format: JsonOutput | None = None


class MessagesRequest(CountRequest):
    max_tokens: Count
    stop_sequences: list[Text] | None = Field(None, description="at most 32 texts")
    stream: bool | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: TopK = None
    seed: Seed | None = None
    diffusion: DiffusionOptions | None = None


def chat_of(body: CountRequest) -> ChatRequest:
    """The chat that a body asks for. Raises `ApiError`."""
    system = [] if body.system is None else [{"role": "system", "content": _text(body.system, "system")}]
    said = [one for number, message in enumerate(body.messages) for one in _said(message, f"messages.{number}")]
    structure = body.output_format or (body.output_config and body.output_config.format)
    fields: dict[str, Any] = {
        "model": body.model,
        "messages": system + said,
        "tools": [_tool(tool) for tool in body.tools or []] or None,
        "think": None if body.thinking is None else body.thinking.type != "disabled",
    }
    if structure:
        shape = {"type": "json_schema", "json_schema": {"name": "answer", "schema": structure.schema_}}
        fields["response_format"] = shape
    fields |= _choice(body)
    if isinstance(body, MessagesRequest):
        same = ("max_tokens", "stream", "temperature", "top_p", "top_k", "seed", "diffusion")
        fields |= {name: getattr(body, name) for name in same} | {"stop": body.stop_sequences}
    return parsed(ChatRequest, fields)


def _tool(tool: AnthropicTool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}
    return {"type": "function", "function": {k: v for k, v in function.items() if v is not None}}


def _choice(body: CountRequest) -> dict[str, Any]:
    choice = body.tool_choice
    if choice is None or not body.tools:
        return {}
    named = {"type": "function", "function": {"name": choice.name or ""}}
    kinds: dict[str, Any] = {"auto": "auto", "any": "required", "none": "none", "tool": named}
    return {"tool_choice": kinds[choice.type], "parallel_tool_calls": not choice.disable_parallel_tool_use}


def _said(message: AnthropicMessage, where: str) -> Iterator[dict[str, Any]]:
    """The messages of one: results of tools are messages of their own, before what else is said."""
    blocks = [{"type": "text", "text": message.content}] if isinstance(message.content, str) else message.content
    if message.role == "assistant":
        calls = [_call(block) for block in blocks if block.get("type") == "tool_use"]
        yield {"role": "assistant", "content": _text(blocks, where), "tool_calls": calls}
        return
    results = [block for block in blocks if block.get("type") == "tool_result"]
    for block in results:
        content = block.get("content")
        shown = "" if content is None else content if isinstance(content, str) else _parts(content, where)
        yield {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": shown}
    others = [block for block in blocks if block.get("type") != "tool_result"]
    if others or not results:
        yield {"role": message.role, "content": _parts(others, where)}


def _call(block: dict[str, Any]) -> dict[str, Any]:
    function = {"name": block.get("name"), "arguments": block.get("input")}
    return {"id": block.get("id"), "type": "function", "function": function}


def _text(blocks: Any, where: str) -> str:
    """The text of blocks, thoughts and calls left out."""
    if isinstance(blocks, str):
        return blocks
    texts = [block.get("text") for block in blocks if isinstance(block, dict) and block.get("type") == "text"]
    if not all(isinstance(text, str) for text in texts):
        raise refusal(f"{where} has a text block without text", where)
    return "\n".join(str(text) for text in texts)


def _parts(blocks: Any, where: str) -> str | list[dict[str, Any]]:
    """Blocks as parts of a message; texts alone as one text."""
    if not isinstance(blocks, list):
        raise refusal(f"{where}.content is neither a text nor a list of blocks", where)
    parts = [_part(block, f"{where}.content.{number}") for number, block in enumerate(blocks)]
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _part(block: Any, where: str) -> dict[str, Any]:
    kind = block.get("type") if isinstance(block, dict) else None
    if kind == "text" and isinstance(block.get("text"), str):
        return {"type": "text", "text": block["text"]}
    source = block.get("source") if isinstance(block, dict) else None
    if kind == "image" and isinstance(source, dict):
        url = source.get("url") or f"data:{source.get('media_type', 'image/png')};base64,{source.get('data', '')}"
        return {"type": "image_url", "image_url": url if isinstance(url, str) else ""}
    if kind == "document" and isinstance(source, dict) and source.get("type") == "text":
        return {"type": "text", "text": str(source.get("data", ""))}
    if kind in ("search_result", "tool_reference"):
        return {"type": "text", "text": json.dumps(block, ensure_ascii=False)}
    raise refusal(f"{where}: a block of type {kind!r} is not supported here: use text or image", where)
