"""What users may ask of an answer beside how it is decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from diffusiongemma.engine.branch import Branch
from diffusiongemma.options import OF_DECODING, refuse_unknown

FORMS = ("json_schema", "regex", "choices", "template")  # each is the form of a whole answer
WORDS = ("banned_words", "required_words")


@dataclass(frozen=True)
class RequestOptions:
    """The keywords of `DiffusionGemma.request`, which says what they mean."""

    tools: Sequence[dict[str, Any]] | None = None
    think: bool = False
    raw: bool = False
    json_schema: dict[str, Any] | str | None = None
    regex: str | None = None
    choices: Sequence[str] | None = None
    template: str | None = None
    banned_words: Sequence[str] = ()
    required_words: Sequence[str] = ()
    logit_bias: Mapping[int | str, float] | None = None
    pins: Mapping[int, int | str] | None = None
    branch: Branch | None = None

    @classmethod
    def split(cls, options: dict[str, Any]) -> tuple[RequestOptions, dict[str, Any]]:
        """These, and the options of decoding. Raises `InputError` for one that is neither."""
        names = [field.name for field in fields(cls)]
        decoding = {name: value for name, value in options.items() if name not in names}
        refuse_unknown(decoding, OF_DECODING, names)
        return cls(**{name: value for name, value in options.items() if name in names}), decoding

    @property
    def form(self) -> str | None:
        """The option that says what form the whole answer has."""
        return next((name for name in FORMS if getattr(self, name) is not None), None)

    @property
    def structure(self) -> dict[str, Any]:
        """What the text must match, for `compile_constraint`."""
        forms = {name: value for name in FORMS if (value := getattr(self, name)) is not None}
        return forms | {name: value for name in WORDS if (value := getattr(self, name))}
