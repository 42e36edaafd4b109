"""How an endpoint that generates is declared."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

EVENTS = {"text/event-stream": {"schema": {"description": "with stream: true; see docs/protocol.md"}}}


def posting(reply: type[BaseModel]) -> dict[str, Any]:
    """Options of a route whose endpoint returns `reply`, of which what was set is sent, or a stream."""
    return {"response_model": reply, "response_model_exclude_unset": True, "responses": {200: {"content": EVENTS}}}
