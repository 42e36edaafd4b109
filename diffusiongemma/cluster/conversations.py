"""Which requests belong to one conversation, so that they go where its beginning is cached."""

from __future__ import annotations

import hashlib
import json
from typing import Any

LARGEST = 2**20  # bytes of a body that is looked into: those beyond hold images, whose prompts are not reused


def conversation_of(body: bytes) -> str:
    """The same text for all turns of a conversation after the first; empty for what has no earlier turn.

    A first turn goes to whichever replica has least to do.
    """
    if len(body) > LARGEST:
        return ""
    try:
        fields = json.loads(body)
    except ValueError:
        return ""
    messages = fields.get("messages", fields.get("input")) if isinstance(fields, dict) else None
    if not isinstance(messages, list):
        return ""
    begun = next((n for n, one in enumerate(messages) if _role(one) == "assistant"), 0)
    if not begun:
        return ""
    beginning = [fields.get("model"), fields.get("system"), fields.get("instructions"), messages[:begun]]
    return hashlib.blake2b(json.dumps(beginning).encode(), digest_size=16).hexdigest()


def home_of(conversation: str, replicas: list[str]) -> str:
    """The replica that a conversation lives on: most stay where they are when replicas come and go (rendezvous
    hashing)."""
    return max(replicas, key=lambda name: hashlib.blake2b(f"{conversation} {name}".encode()).digest())


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None
