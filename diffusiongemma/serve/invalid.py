"""What pydantic finds wrong with a body, as an error that names the true field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from diffusiongemma.serve.errors import ApiError, encodable, refusal
from diffusiongemma.serve.tolerance import advice

Body = TypeVar("Body", bound=BaseModel)


def parsed(kind: type[Body], fields: dict[str, Any]) -> Body:
    """A body made by another dialect. Raises `ApiError`."""
    try:
        return kind.model_validate({name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        raise invalid(error.errors(), fields) from None


def invalid(errors: Sequence[Any], body: Any, skipped: int = 0) -> ApiError:
    """The deepest of pydantic's complaints: where a field may be of several kinds, each kind has one, and the one that
    got furthest was meant. Of each place, the first `skipped` names are no fields."""
    worst = max(errors, key=lambda one: len(_place(one["loc"][skipped:], body)))
    place = _place(worst["loc"][skipped:], body)
    if worst["type"] == "json_invalid":
        return refusal("the body is not JSON", None, "invalid_json")
    param = encodable(".".join(place))[:200] or None
    if worst["type"] == "extra_forbidden":
        message = f"unknown or unsupported parameter {param}: {advice(place[-1])}"
        return refusal(encodable(message), param, "unsupported_parameter")
    if worst["type"] == "missing":
        return refusal(f"{param or 'the body'} is missing", param, "missing_parameter")
    return refusal(encodable(f"{param or 'the body'}: {worst['msg']}")[:500], param)


def _place(loc: tuple[Any, ...], body: Any) -> list[str]:
    """Where in the body a complaint is: pydantic adds the names of the kinds that it tried."""
    place: list[str] = []
    at, tagged = body, False
    for number, part in enumerate(loc, 1):
        last = number == len(loc)
        if not last and not tagged and _is_kind(at, part, loc[number]):
            tagged = True
        elif _holds(at, part):
            at, tagged = at[part], False
            place.append(str(part))
        elif last and isinstance(at, dict) and str(part).isidentifier():
            place.append(str(part))
    return place


def _is_kind(value: Any, part: Any, following: Any) -> bool:
    """Whether `part` is the name of a kind that pydantic tried, and no field: a call's `function` has no kinds."""
    named = isinstance(value, dict) and value.get("type") == part != "function"
    return named and not _holds(value.get(part), following)


def _holds(value: Any, part: Any) -> bool:
    if isinstance(value, dict):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and part < len(value)
