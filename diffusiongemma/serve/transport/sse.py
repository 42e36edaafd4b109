"""Server-sent events as bytes."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

DONE = b"data: [DONE]\n\n"  # the end of a stream in OpenAI's dialect


def sse(data: Any, event: str | None = None) -> bytes:
    """One server-sent event of a model, of which what was set is sent, or of JSON data."""
    body = data.model_dump_json(exclude_unset=True) if isinstance(data, BaseModel) else compact(data)
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {body}\n\n".encode("utf-8", "replace")


def compact(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))
