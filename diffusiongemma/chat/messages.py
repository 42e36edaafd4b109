"""Messages checked, brought into one shape, and written as the model's chat markup."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffusiongemma.chat.reply import split_thoughts
from diffusiongemma.errors import InputError

TEMPLATE_FILE = Path(__file__).parent.parent / "assets" / "nano-base" / "chat_template.jinja"
ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "model": "assistant",
    "tool": "tool",
}
THOUGHT = ("<|channel>", "<channel|>")  # what a thought stands between
MARKERS = (
    *("<pad>", "<eos>", "<bos>", "<unk>", "<|turn>", "<turn|>", "<|think|>", "<|channel>", "<channel|>"),
    *("<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", '<|"|>'),
    *("<|image>", "<|image|>", "<image|>", "<|video|>", "<|audio>", "<|audio|>", "<audio|>"),
)
# Breaks a marker that stands in a message's own text, so that no message can forge a turn. A Unicode noncharacter:
# it means nothing in text, and `encode_prompt` takes it out again.
GUARD = "\ufdd0"
_PAST_THOUGHTS = ("reasoning", "reasoning_content", "thinking")

Messages = Sequence[Mapping[str, Any]]


def render(
    messages: str | Messages,
    tokenizer: Any,
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    thinking: bool = False,
    add_generation_prompt: bool = True,
) -> str:
    """The conversation as text with its markup, by the checkpoint's own chat template if it has one, else ours.

    A marker such as `<turn|>` inside a message's text is broken by `GUARD` after its first character.
    Raises InputError for messages or tools that cannot be used.
    """
    from jinja2 import TemplateError

    guard = _Guard(tokenizer)
    try:
        return tokenizer.apply_chat_template(
            guard(_without_media(canonical(messages))),
            tools=guard(_canonical_tools(tools)),
            chat_template=None if tokenizer.chat_template else TEMPLATE_FILE.read_text(encoding="utf-8"),
            add_generation_prompt=add_generation_prompt,
            enable_thinking=thinking,
            tokenize=False,
        )
    except TemplateError as error:
        raise InputError(f"the model's chat template does not take these messages: {error}", option="prompt") from error


def _without_media(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Image and video parts as bare `{"type": …}`: a template only marks their place."""

    def bare(content: Any) -> Any:
        if isinstance(content, str):
            return content
        return [part if part["type"] == "text" else {"type": part["type"]} for part in content]

    return [{**message, "content": bare(message["content"])} for message in messages]


def thought_ids(tokenizer: Any) -> tuple[int, int]:
    """The tokens that a thought stands between. Raises `InputError` for a tokenizer without them."""
    first, last = (tokenizer.convert_tokens_to_ids(marker) for marker in THOUGHT)  # `get_vocab` takes 0.2 s
    if {first, last} & {None, tokenizer.unk_token_id}:
        raise InputError("this tokenizer has no tokens for a thought: leave it out", option="think")
    return int(first), int(last)


def strip_thoughts(messages: Messages) -> list[dict[str, Any]]:
    """The messages without what the model thought: models are not shown their past thoughts."""
    return [_without_thoughts(message) for message in messages]


def _without_thoughts(message: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in message.items() if key not in _PAST_THOUGHTS}
    if message.get("role") in ("assistant", "model") and isinstance(message.get("content"), str):
        kept["content"] = split_thoughts(message["content"])[1]
    return kept


def canonical(messages: str | Messages) -> list[dict[str, Any]]:
    """Checked messages in one shape; a string is one user message.

    Roles are system, user, assistant or tool. `content` is a string or, with images or video, a list of parts, those
    first, as `{"type": "image", "image": …}`. Tool calls have mappings as arguments, and tool answers name their
    function. Past thoughts are gone. Raises InputError, one line, naming the message by its position from 1.
    """
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, Sequence) or not messages:
        raise InputError("the conversation is empty: give at least one message", option="prompt")
    done: list[dict[str, Any]] = []
    for number, message in enumerate(messages, 1):
        done.append(_canonical_message(message, f"message {number}", done))
    return done


def _canonical_message(message: Any, where: str, earlier: list[dict[str, Any]]) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise InputError(f"{where} is not an object with role and content", option="prompt")
    role = ROLES.get(str(message.get("role")))
    if role is None:
        raise InputError(
            f"{where} has the unknown role {message.get('role')!r}: use system, user, assistant or tool",
            option="prompt",
        )
    where = f"{where} ({role})"
    clean = _without_thoughts(message)
    content = _content(clean.get("content"), where, optional=role == "assistant" and bool(clean.get("tool_calls")))
    if role == "user" and not (content.strip() if isinstance(content, str) else content):
        raise InputError(f"{where} is empty: write a prompt", option="prompt")
    result: dict[str, Any] = {"role": role, "content": content}
    if role == "assistant" and clean.get("tool_calls"):
        result["tool_calls"] = [_tool_call(call, where) for call in clean["tool_calls"]]
    if role == "tool":
        result |= _answered_call(clean, where, earlier)
    return result


def _content(content: Any, where: str, optional: bool) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    if content is None and optional:
        return ""
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise InputError(f"{where} has no content: give a string or a list of parts", option="prompt")
    parts = [_part(part, where) for part in content]
    media = [part for part in parts if part["type"] != "text"]
    text = "".join(part["text"] for part in parts if part["type"] == "text")
    if not media:
        return text
    return media + [{"type": "text", "text": text}] if text else media


def _part(part: Any, where: str) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind not in ("text", "image", "image_url", "video", "video_url"):
        raise InputError(
            f"{where} has a part of the unknown type {kind!r}: use text, image, image_url or video", option="prompt"
        )
    value = part.get(kind)
    if kind == "text" and not isinstance(value, str):
        raise InputError(f"{where} has a text part without text", option="prompt")
    if kind.endswith("_url"):
        value = value.get("url") if isinstance(value, Mapping) else value
        kind = kind.removesuffix("_url")
    if value is None:
        raise InputError(f"{where} has a part of type {kind} that holds no {kind}", option="prompt")
    return {"type": kind, kind: value}


def _tool_call(call: Any, where: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InputError(f"{where} has a tool call without a function name", option="prompt")
    arguments = function.get("arguments") or {}
    try:
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        arguments = None
    if not isinstance(arguments, Mapping):
        raise InputError(f"{where} calls {function['name']} with arguments that are not a JSON object", option="prompt")
    return {"id": call.get("id"), "type": "function", "function": {"name": function["name"], "arguments": arguments}}


def _answered_call(message: dict[str, Any], where: str, earlier: list[dict[str, Any]]) -> dict[str, Any]:
    calls = [call for past in earlier for call in past.get("tool_calls", [])]
    if not calls:
        raise InputError(
            f"{where} answers a tool call that was never made: put the assistant's tool_calls before it",
            option="prompt",
        )
    wanted = message.get("tool_call_id")
    matching = [call for call in calls if wanted is None or call["id"] == wanted]
    if not matching:
        raise InputError(f"{where} answers the tool call {wanted!r}, which no message before it makes", option="prompt")
    name = message.get("name") or matching[-1]["function"]["name"]
    return {"name": name, "tool_call_id": wanted or matching[-1]["id"]}


def _canonical_tools(tools: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]] | None:
    if not tools:
        return None
    functions = [tool.get("function", tool) if isinstance(tool, Mapping) else None for tool in tools]
    for number, function in enumerate(functions, 1):
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise InputError(f"tool {number} has no function name", option="tools")
    return [
        {"type": "function", "function": {"description": "", "parameters": None, **function}} for function in functions
    ]


def guarded(text: str, tokenizer: Any) -> str:
    """A text in which no marker counts as one."""
    written: str = _Guard(tokenizer)(text)
    return written


class _Guard:
    """Breaks every special token inside the strings of a JSON-like value."""

    def __init__(self, tokenizer: Any):
        special = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
        self._markers = {*special, *MARKERS}

    def __call__(self, value: Any) -> Any:
        if isinstance(value, str):
            return re.sub(r"<[^<>\s]+>", self._broken, value.replace(GUARD, ""))
        if isinstance(value, Mapping):
            return {self(key): self(item) for key, item in value.items()}
        return [self(item) for item in value] if isinstance(value, list | tuple) else value

    def _broken(self, tag: re.Match[str]) -> str:
        return tag[0][0] + GUARD + tag[0][1:] if tag[0] in self._markers else tag[0]
