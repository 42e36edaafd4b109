"""What an extraction domain is made of, and how the shape of a wanted object is described."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

TYPE_NAMES = {  # as a person would sketch them
    "string": "string",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
    "strings": "[string]",
    "items": '[{"item": string, "quantity": integer}]',
}


@dataclass(frozen=True)
class Field:
    """One fact; `keys` are the names it may be asked under."""

    type: str  # string, integer, number, boolean, strings (a list of them) or items (objects: item, quantity)
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Clause:
    """Sentences that each state `fields`; for a boolean, `denials` state that it is false."""

    fields: tuple[str, ...]
    templates: tuple[str, ...]
    denials: tuple[str, ...] = ()


@dataclass(frozen=True)
class Domain:
    """`draw` makes the facts; those starting with `_` only help to write. `opening` is always in the text, first."""

    name: str
    main: str  # the field whose value decides between train and test
    fields: dict[str, Field]
    draw: Callable[[np.random.Generator], dict[str, Any]]
    opening: Clause
    clauses: tuple[Clause, ...]


def json_schema(asked: dict[str, tuple[Field, bool]]) -> dict[str, Any]:
    """Schema of an object with these keys in this order; each is a field and whether it may be null."""
    properties = {key: _field_schema(field, nullable) for key, (field, nullable) in asked.items()}
    return {"type": "object", "properties": properties, "required": list(asked), "additionalProperties": False}


def _field_schema(field: Field, nullable: bool) -> dict[str, Any]:
    if field.type == "strings":
        return {"type": _or_null("array", nullable), "items": {"type": "string"}}
    if field.type == "items":
        pair = {"item": {"type": "string"}, "quantity": {"type": "integer"}}
        item = {"type": "object", "properties": pair, "required": list(pair), "additionalProperties": False}
        return {"type": _or_null("array", nullable), "items": item}
    return {"type": _or_null(field.type, nullable)}


def _or_null(kind: str, nullable: bool) -> str | list[str]:
    return [kind, "null"] if nullable else kind
