"""Body of OpenAI's Responses, and the chat that it asks for."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field

from diffusiongemma.serve.body_types import JsonObject, Limit, Seed, Text
from diffusiongemma.serve.errors import refusal
from diffusiongemma.serve.invalid import parsed
from diffusiongemma.serve.native.diffusion_field import DiffusionOptions
from diffusiongemma.serve.openai.bodies import ChatRequest, Reasoning
from diffusiongemma.serve.tolerance import ANY, OF_REQUESTS, Asking, Tolerant, also

# What an answer of the model was, when it is sent back; other kinds of items from then are left out.
_PARTS = {"input_text": "text", "output_text": "text", "text": "text", "input_image": "image_url", "refusal": "refusal"}


class ResponsesTool(Tolerant):
    harmless = also(defer_loading=(False,))
    type: Literal["function"]
    name: Text
    description: Text | None = None
    parameters: JsonObject | None = None
    strict: bool | None = Field(None, description="arguments are held to the schema wherever a call is asked for")


class ResponsesFormat(Tolerant):
    type: Literal["text", "json_object", "json_schema"]
    name: Text | None = None
    description: Text | None = None
    schema_: JsonObject | None = Field(None, alias="schema")
    strict: bool | None = None


class ResponsesText(Tolerant):
    harmless = also(verbosity=ANY)
    format: ResponsesFormat | None = None


class ResponsesStream(Tolerant):
    harmless = also(include_obfuscation=ANY)


class ResponsesRequest(Asking):
    """Stateless: nothing is stored, and no earlier response can be named."""

    harmless = {**OF_REQUESTS, "include": ANY, "max_tool_calls": ANY, "top_logprobs": (0,)}
    model: Text | None = None
    input: Text | list[JsonObject]
    instructions: Text | None = None
    max_output_tokens: Limit = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    stream: bool | None = None
    stream_options: ResponsesStream | None = None
    tools: list[ResponsesTool] | None = Field(None, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | JsonObject | None = None
    parallel_tool_calls: bool | None = None
    text: ResponsesText | None = None
    reasoning: Reasoning | None = None
    seed: Seed | None = None
    diffusion: DiffusionOptions | None = None


def chat_of(body: ResponsesRequest) -> ChatRequest:
    """The chat that a body asks for. Raises `ApiError`."""
    same = ("model", "temperature", "top_p", "stream", "parallel_tool_calls", "reasoning", "seed", "diffusion")
    fields: dict[str, Any] = {name: getattr(body, name) for name in same}
    system = [{"role": "system", "content": body.instructions}] if body.instructions else []
    fields |= {"messages": system + _messages(body.input), "max_tokens": body.max_output_tokens}
    fields |= {"tools": [_tool(tool) for tool in body.tools or []] or None, "tool_choice": _choice(body.tool_choice)}
    fields["response_format"] = _shape(body.text.format) if body.text and body.text.format else None
    return parsed(ChatRequest, fields)


def _tool(tool: ResponsesTool) -> dict[str, Any]:
    function = tool.model_dump(exclude_none=True, include={"name", "description", "parameters", "strict"})
    return {"type": "function", "function": function}


def _choice(choice: Any) -> Any:
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") == "allowed_tools" and isinstance(choice.get("tools"), list):
        tools = [_choice(tool) for tool in choice["tools"]]
        return {"type": "allowed_tools", "allowed_tools": {"mode": choice.get("mode"), "tools": tools}}
    if choice.get("type") != "function":
        return choice
    return {"type": "function", "function": {"name": choice.get("name")}}


def _shape(form: ResponsesFormat) -> dict[str, Any]:
    if form.type != "json_schema":
        return {"type": form.type}
    if form.schema_ is None:
        raise refusal("text.format.schema is missing", "text.format.schema", "missing_parameter")
    return {"type": "json_schema", "json_schema": {"name": form.name or "answer", "schema": form.schema_}}


def _messages(given: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    messages: list[dict[str, Any]] = []
    for number, item in enumerate(given):
        messages += _of_item(item, f"input.{number}", messages)
    return messages


def _of_item(item: dict[str, Any], where: str, before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages of one item. Calls that follow each other are one message."""
    kind = item.get("type") or ("message" if "role" in item else None)
    if kind == "message":
        return [{"role": item.get("role"), "content": _content(item.get("content"), where)}]
    if kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        if before and before[-1]["role"] == "assistant" and isinstance(before[-1].get("tool_calls"), list):
            before[-1]["tool_calls"].append(call)
            return []
        return [{"role": "assistant", "content": None, "tool_calls": [call]}]
    if kind == "function_call_output":
        output = item.get("output")
        shown = _content(output, where) if isinstance(output, list) else output
        text = shown if isinstance(shown, str | list) else json.dumps(shown)
        return [{"role": "tool", "tool_call_id": item.get("call_id"), "content": text}]
    if kind in (None, "item_reference"):
        raise refusal(f"{where} is of the kind {kind!r}, and nothing is stored here: send the item itself", where)
    return []  # thoughts, and what other tools of another service did


def _content(content: Any, where: str) -> Any:
    if not isinstance(content, list):
        return content
    return [_part(part, f"{where}.content.{number}") for number, part in enumerate(content)]


def _part(part: Any, where: str) -> dict[str, Any]:
    kind = _PARTS.get(str(part.get("type"))) if isinstance(part, dict) else None
    if kind is None:
        raise refusal(f"{where}: only parts of text and images are supported", where)
    if kind == "image_url":
        return {"type": kind, "image_url": part.get("image_url") or ""}
    return {"type": "text", "text": part.get("refusal" if kind == "refusal" else "text")}
