"""A JSON Schema as the model is shown it: a sketch of the object, as a person would write it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from diffusiongemma.chat.messages import Messages, canonical

REQUEST = "Answer with JSON of this shape: "
MOST_CHARACTERS = 4_000  # of a sketch; a schema that is longer is for machines
_DEEPEST = 6


def with_schema(messages: str | Messages, schema: Mapping[str, Any] | str, in_user_turn: bool) -> list[dict[str, Any]]:
    """The messages with the schema told: in the system turn or, for models that were taught so, in the last message.

    They stay as they are where they name all that the schema requires, and where it says nothing worth telling.
    """
    said = canonical(messages)
    parsed = _parsed(schema)
    shape = sketch(parsed)
    if not shape or _names_all(said, parsed):
        return said
    if in_user_turn:
        last = said[-1]
        return [*said[:-1], {**last, "content": _before(f"{REQUEST}{shape}\n\n", last["content"])}]
    system = said[0]["content"] if said[0]["role"] == "system" else ""
    rest = said[1:] if system else said
    return [{"role": "system", "content": _before("", system, f"\n\n{REQUEST}{shape}")}, *rest]


def _before(text: str, content: Any, after: str = "") -> Any:
    """A content with a text put before its own, behind images."""
    if isinstance(content, str):
        return (text + content + after).strip()
    media = [part for part in content if part["type"] != "text"]
    own = "\n".join(part["text"] for part in content if part["type"] == "text")
    return [*media, {"type": "text", "text": (text + own + after).strip()}]


def sketch(schema: Any) -> str:
    """`{"name": string, "age": integer or null}`; "" where there is nothing to tell or too much."""
    if not isinstance(schema, Mapping) or not ({"properties", "items", "$ref", "anyOf", "oneOf"} & schema.keys()):
        return ""
    drawn = _drawn(schema, schema, 0)
    return drawn if len(drawn) <= MOST_CHARACTERS else ""


def _parsed(schema: Mapping[str, Any] | str) -> Any:
    try:
        return json.loads(schema) if isinstance(schema, str) else schema
    except ValueError:  # told by who compiles it
        return None


def _drawn(schema: Any, root: Mapping[str, Any], depth: int) -> str:
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return "anything"
    if (target := _target(schema, root)) is not None:
        return _drawn(target, root, depth + 1)
    if "const" in schema or "enum" in schema:
        return " or ".join(json.dumps(value, ensure_ascii=False) for value in schema.get("enum", [schema.get("const")]))
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(_drawn(option, root, depth + 1) for option in options))
    kinds = schema.get("type", "object" if "properties" in schema else "array" if "items" in schema else "anything")
    return " or ".join(_of_kind(kind, schema, root, depth) for kind in ([kinds] if isinstance(kinds, str) else kinds))


def _of_kind(kind: str, schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> str:
    if kind == "object" and schema.get("properties"):
        fields = schema["properties"].items()
        return (
            "{"
            + ", ".join(f"{json.dumps(k, ensure_ascii=False)}: {_drawn(v, root, depth + 1)}" for k, v in fields)
            + "}"
        )
    if kind == "array" and "items" in schema:
        return f"[{_drawn(schema['items'], root, depth + 1)}]"
    return str(schema.get("format", kind)) if kind == "string" else kind


def _target(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    reference = schema.get("$ref")
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    at: Any = root
    for step in filter(None, reference[1:].split("/")):
        at = at.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(at, Mapping) else None
    return at


def _names_all(messages: Sequence[Mapping[str, Any]], schema: Any) -> bool:
    """Whether the messages speak of every property that the answer must have: then they say what is wanted."""
    wanted = schema.get("required") or list(schema.get("properties", ())) if isinstance(schema, Mapping) else []
    text = "\n".join(_text(message["content"]) for message in messages if message["role"] in ("user", "system"))
    return bool(wanted) and all(re.search(rf"\b{re.escape(str(name))}\b", text) for name in wanted)


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "\n".join(p["text"] for p in content if p["type"] == "text")
