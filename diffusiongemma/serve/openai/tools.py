"""Tool calls: made in the model's own markup when it likes, held to the tool's schema when one is asked for."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Any

from diffusiongemma.api import DiffusionGemma
from diffusiongemma.chat import Prompt
from diffusiongemma.chat.prompt import encode_text
from diffusiongemma.control.constraint import Constraint
from diffusiongemma.control.tokens.vocabulary import vocabulary_of
from diffusiongemma.control.tool_calls import compile_calls
from diffusiongemma.events import Result
from diffusiongemma.serve.errors import refusal
from diffusiongemma.serve.openai.bodies import ChatRequest, NamedTool
from diffusiongemma.serve.token_texts import Texts

CALL_BEGINS = "<|tool_call>call:"
ANY_OBJECT = {"type": "object"}


@dataclass(frozen=True)
class CallMode:
    """`forced`: the answer is a call and nothing else. `several`: more than one may come. `allowed`: any may."""

    allowed: bool = False
    forced: bool = False
    several: bool = True


def call_mode(body: ChatRequest) -> CallMode:
    """Raises `ApiError` for a choice of tools that are not there."""
    several = body.parallel_tool_calls is not False
    if not body.tools:
        if body.tool_choice not in (None, "none", "auto"):
            raise refusal("tool_choice asks for a call, and there are no tools", "tool_choice")
        if body.parallel_tool_calls is not None:
            raise refusal("parallel_tool_calls goes with tools", "parallel_tool_calls")
        return CallMode()
    names = [tool.function.name for tool in body.tools]
    if len(set(names)) < len(names):
        raise refusal("two tools have the same name", "tools")
    choice = body.tool_choice
    if isinstance(choice, NamedTool) and choice.function.name not in names:
        raise refusal(f"tool_choice names {choice.function.name!r}, which is not among the tools", "tool_choice")
    forced = choice == "required" or isinstance(choice, NamedTool)
    if forced and body.response_format is not None and body.response_format.type != "text":
        raise refusal("a call is asked for, so the answer cannot be JSON too: leave one out", "response_format")
    return CallMode(choice != "none", forced, several)


def declared(body: ChatRequest) -> list[dict[str, Any]] | None:
    """The tools that the prompt tells the model of."""
    if not body.tools or body.tool_choice == "none":
        return None
    return [tool.model_dump(exclude_none=True, exclude={"function": {"strict"}}) for tool in body.tools]


def force_call(body: ChatRequest, prompt: Prompt, model: DiffusionGemma) -> tuple[Prompt, Constraint]:
    """A prompt that has already begun the call, and what the rest must be: a tool's name and arguments of its schema.

    Raises `InputError` for a schema that cannot be guaranteed.
    """
    chosen = body.tool_choice.function.name if isinstance(body.tool_choice, NamedTool) else None
    tools = [tool.function for tool in body.tools or [] if chosen in (None, tool.function.name)]
    schemas = {tool.name: json.dumps(tool.parameters or ANY_OBJECT) for tool in tools}
    vocabulary = vocabulary_of(model.tokenizer, model.config.vocab_size)
    begun = Prompt(prompt.ids + encode_text(CALL_BEGINS, model.tokenizer), prompt.images, prompt.image_spans)
    return begun, compile_calls(schemas, vocabulary, model.generation.eos_token_ids)


def calls_of(result: Result, mode: CallMode, texts: Texts) -> list[dict[str, Any]]:
    """Calls in OpenAI's shape."""
    if not mode.allowed:
        return []
    if mode.forced:
        name, _, arguments = texts.written(result.tokens).partition("{")
        return [_call(name, "{" + arguments)]
    calls = [_call(call.name, json.dumps(call.arguments, ensure_ascii=False)) for call in result.tool_calls]
    return calls if mode.several else calls[:1]


def _call(name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}
