"""The form of an answer as vLLM's and llama.cpp's clients ask for it, in OpenAI's words and ours."""

from __future__ import annotations

import json
from typing import Any

OLD = {"guided_json": "json", "guided_regex": "regex", "guided_choice": "choice", "json_schema": "json"}
IN_FULL = "structured_outputs"  # vLLM's newer field, which holds one of these
KINDS = ("json", "regex", "choice", "json_object")


def translated(body: Any, formats: bool) -> Any:
    """A body whose `guided_*`, `structured_outputs` or `json_schema` has become `response_format` or `diffusion`.

    `formats` says whether the body may have the former. Raises `ValueError` where two forms are asked for, or what is
    asked for is none.
    """
    if not isinstance(body, dict):
        return body
    asked = {name: {kind: body[name]} for name, kind in OLD.items() if body.get(name) is not None}
    if full := _said(body.get(IN_FULL)):
        asked[IN_FULL] = full
    rest = {name: value for name, value in body.items() if name not in (*OLD, IN_FULL)}
    if not asked:
        return rest
    (name, kinds), *more = asked.items()
    if more or len(kinds) > 1 or _has_form(body):
        raise ValueError(f"{name} asks for one form of the answer, and something else for another: leave one out")
    ((kind, value),) = kinds.items()
    if kind in ("json", "json_object") and not formats:
        raise ValueError(f"{name}: plain completions have no JSON; ask for a chat completion")
    return rest | _form(name, kind, value, body)


def _said(full: Any) -> dict[str, Any]:
    if not isinstance(full, dict | None):
        raise ValueError(f"{IN_FULL} must be an object with one of {', '.join(KINDS)}")
    given = {kind: value for kind, value in (full or {}).items() if value not in (None, False)}
    if unknown := sorted(set(given) - set(KINDS)):
        raise ValueError(f"{IN_FULL}.{unknown[0]} is not supported: give one of {', '.join(KINDS)}")
    return given


def _has_form(body: dict[str, Any]) -> bool:
    own = body.get("diffusion") or {}
    plain = (body.get("response_format") or {"type": "text"}) == {"type": "text"}
    return not plain or (isinstance(own, dict) and any(own.get(name) is not None for name in ("regex", "choices")))


def _form(name: str, kind: str, value: Any, body: dict[str, Any]) -> dict[str, Any]:
    if kind == "json_object":
        return {"response_format": {"type": "json_object"}}
    if kind == "json":
        return {
            "response_format": {"type": "json_schema", "json_schema": {"name": name, "schema": _schema(name, value)}}
        }
    return {"diffusion": (body.get("diffusion") or {}) | {{"regex": "regex", "choice": "choices"}[kind]: value}}


def _schema(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError(f"{name} must be a JSON schema, as an object or its text") from None
