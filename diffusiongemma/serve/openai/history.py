"""What was said before is never an error: a client cannot mend its history. It is shown to the model harmlessly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_KEPT = ("role", "content", "name", "tool_calls", "tool_call_id")
_SAID = ("text", "output_text", "input_text", "refusal")  # kinds of parts whose field of a like name is their text
UNREADABLE = "unreadable_arguments"  # what the arguments of a call are shown as where they are no JSON object


def tidied(message: Any) -> Any:
    """A message before it is looked at: of what the model or a tool said, text, calls and media are kept."""
    if not isinstance(message, dict):
        return message
    role = {"function": "tool", "model": "assistant"}.get(str(message.get("role")), message.get("role"))
    if role not in ("assistant", "tool"):
        return message
    kept = {name: message[name] for name in _KEPT if message.get(name) is not None} | {"role": role}
    if isinstance(kept.get("content"), list):
        kept["content"] = _parts(kept["content"], role)
    if role == "assistant":
        _tidy_answer(kept, message)
    else:
        kept.pop("tool_calls", None)  # a tool calls nobody
    return kept


def _tidy_answer(kept: dict[str, Any], message: dict[str, Any]) -> None:
    if not kept.get("content") and isinstance(message.get("refusal"), str):
        kept["content"] = message["refusal"]
    legacy = message.get("function_call")
    calls = kept.pop("tool_calls", None) or ([{"function": legacy}] if isinstance(legacy, dict) else [])
    if not isinstance(calls, list):
        return
    if made := [call for call in map(_call, calls) if call is not None]:
        kept["tool_calls"] = made
    kept.pop("tool_call_id", None)


def _parts(parts: list[Any], role: str) -> Any:
    """The text of an answer, without thoughts; of a tool's answer the pictures too."""
    kept: list[Any] = []
    for part in parts:
        if isinstance(part, str):
            kept.append({"type": "text", "text": part})
        elif isinstance(part, dict) and part.get("type") in _SAID:
            text = part.get("refusal") if part["type"] == "refusal" else part.get("text")
            kept.append({"type": "text", "text": text if isinstance(text, str) else ""})
        elif isinstance(part, dict) and part.get("type") == "image_url" and role == "tool":
            kept.append(part)
    if any(part["type"] != "text" for part in kept):
        return kept
    return "".join(part["text"] for part in kept)


def _call(call: Any) -> dict[str, Any] | None:
    """A call in the shape that the chat template takes; None for what cannot have been one."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return None
    id = call.get("id")
    function = {"name": function["name"], "arguments": _arguments(function.get("arguments"))}
    return {"id": id if isinstance(id, str) else None, "type": "function", "function": function}


def _arguments(given: Any) -> Mapping[str, Any]:
    if given in (None, ""):
        return {}
    try:
        read = json.loads(given) if isinstance(given, str) else given
        json.dumps(read, allow_nan=False)
    except (ValueError, RecursionError):
        read = given
    return read if isinstance(read, dict) else {UNREADABLE: read if isinstance(read, str) else json.dumps(read)}


def mended(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Checked messages, of which none says nothing in the middle, and no tool answers a call that is not there."""
    done: list[dict[str, Any]] = []
    calls: dict[str | None, str] = {}
    for number, message in enumerate(messages, 1):
        message = dict(message)
        last = number == len(messages)
        if message["role"] == "tool":
            message = _answered(message, calls)
        elif message.get("content") is None:
            message["content"] = ""
        if message["role"] in ("user", "system", "developer") and not message["content"] and not last:
            continue
        calls |= {call["id"]: call["function"]["name"] for call in message.get("tool_calls") or []}
        done.append(message)
    return done


def _answered(message: dict[str, Any], calls: dict[str | None, str]) -> dict[str, Any]:
    """A tool's answer to a call before it, else what it says as the user's words."""
    content = message.get("content") or ""
    wanted = message.get("tool_call_id")
    known = wanted in calls or (wanted is None and calls)
    if known and content is not None:
        return {**message, "content": content}
    said = f"Result of {message.get('name') or 'a tool'}: "
    if isinstance(content, str):
        return {"role": "user", "content": said + content}
    return {"role": "user", "content": [{"type": "text", "text": said}, *content]}
