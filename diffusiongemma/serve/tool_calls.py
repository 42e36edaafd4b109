"""Tool calls: made in the model's own markup when it likes, held to the tool's schema when one is asked for."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from diffusiongemma.api import DiffusionGemma
from diffusiongemma.chat import Prompt
from diffusiongemma.chat.prompt import encode_text
from diffusiongemma.control.compiling import CompileJob, compiled
from diffusiongemma.control.constraint import Constraint
from diffusiongemma.control.structure import ToolCalls
from diffusiongemma.events import Result
from diffusiongemma.serve.token_texts import Texts

CALL_BEGINS = "<|tool_call>call:"
ANY_OBJECT = {"type": "object"}


@dataclass(frozen=True)
class CallMode:
    """`forced`: the answer is a call and nothing else. `several`: more than one may come. `allowed`: any may."""

    allowed: bool = False
    forced: bool = False
    several: bool = True


@dataclass(frozen=True)
class Call:
    """A call of the tool `name`; `arguments` are JSON."""

    name: str
    arguments: str
    id: str = field(default_factory=lambda: f"call_{secrets.token_hex(12)}")


def force_call(
    schemas: dict[str, dict[str, Any] | None], prompt: Prompt, model: DiffusionGemma
) -> tuple[Prompt, Constraint]:
    """A prompt that has already begun the call, and what the rest must be: a tool's name and arguments of its schema.

    Raises `InputError` for a schema that cannot be guaranteed.
    """
    calls = ToolCalls(tuple((name, json.dumps(schema or ANY_OBJECT)) for name, schema in schemas.items()))
    begun = Prompt(prompt.ids + encode_text(CALL_BEGINS, model.tokenizer), prompt.images, prompt.image_spans)
    return begun, compiled(CompileJob.of(calls, model.vocabulary, model.generation.eos_token_ids))


def calls_of(result: Result, mode: CallMode, texts: Texts) -> list[Call]:
    if not mode.allowed:
        return []
    if mode.forced:
        name, _, arguments = texts.written(result.tokens).partition("{")
        return [Call(name, "{" + arguments)]
    calls = [Call(call.name, json.dumps(call.arguments, ensure_ascii=False)) for call in result.tool_calls]
    return calls if mode.several else calls[:1]
