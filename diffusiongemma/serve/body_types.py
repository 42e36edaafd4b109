"""What bodies are made of. A field that is not declared is refused; one that is, is honoured or refused by value."""

from __future__ import annotations

import json
import secrets
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from diffusiongemma.serve.errors import refusal


class Strict(BaseModel):
    """No unknown field, no "1" for 1, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Reply(BaseModel):
    """A reply or a part of one: what is sent is what is declared."""

    model_config = ConfigDict(extra="forbid")


def _writable_text(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("the text has half a surrogate pair, which is no character") from None
    return text


def writable_json(value: Any) -> Any:
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("nested too deep") from None
    except ValueError:
        raise ValueError("not valid JSON: it has NaN, Infinity or half a surrogate pair") from None
    return value


Text = Annotated[str, AfterValidator(_writable_text)]
JsonObject = Annotated[dict[str, Any], AfterValidator(writable_json)]


def _whole(value: Any) -> Any:
    """8.0 is 8: some clients write all numbers as floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
Seed = Annotated[Whole, Field(ge=-(2**63), lt=2**64)]
Count = Annotated[Whole, Field(ge=1, le=2**31)]
TopK = Annotated[Annotated[Whole, Field(ge=0)] | None, BeforeValidator(lambda value: 0 if value == -1 else value)]
# -1 says "as many as there may be" to several servers.
Limit = Annotated[Count | None, BeforeValidator(lambda value: None if value == -1 else value)]


def seed_of(seed: int | None) -> int:
    """Negative seeds count down from 2**64. One that is drawn is small enough for every JSON reader."""
    return secrets.randbits(32) if seed is None else seed % 2**64


def by_number(given: dict[str, Any], param: str, limit: int) -> dict[int, Any]:
    try:
        numbers = {int(key): value for key, value in given.items() if key.isascii() and key.isdigit()}
    except ValueError as error:  # more digits than Python reads
        raise refusal(f"{param}: {error}", param) from None
    if len(numbers) < len(given) or any(number >= limit for number in numbers):
        raise refusal(f"the keys of {param} are whole numbers from 0 to below {limit:,}, each given once", param)
    return numbers
