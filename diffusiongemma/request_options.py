"""What users may ask of an answer beside how it is decoded."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from diffusiongemma.engine.branch import Branch
from diffusiongemma.errors import InputError
from diffusiongemma.options import ARGUMENTS, OF_DECODING, OPTIONS, by_name, check_arguments, refuse_unknown

FORMS = ("json_schema", "regex", "choices", "template")  # each is the form of a whole answer
WORDS = ("banned_words", "required_words")


def check_stops(choices: Collection[str] | None, stops: Collection[str]) -> None:
    """Raises `InputError` where a choice could never be told whole, as its text is ended within."""
    for choice in choices or ():
        if cut := next((stop for stop in stops if stop in choice), None):
            message = f"{cut!r} stands in {choice!r} of `choices`, which would be cut there: leave one of them out"
            raise InputError(message, option="stop")


@dataclass(frozen=True)
class RequestOptions:
    """What `DiffusionGemma.request`, `generate`, `stream` and `chat` take beside the options of decoding.

    With one of `json_schema`, `regex`, `choices` and `template` (`"Name: {name:str} Age: {age:int}"`) the answer is
    guaranteed to match; beside it or without it no string of `banned_words` and every one of `required_words` occurs
    in the text, wherever tokens begin and end. The model is shown a sketch of the schema where the messages do not
    speak of all that it requires, unless `show_schema` is False. `logit_bias` maps tokens (ids, or texts that are
    exactly one token) to what is added to their logits, -100 to 100; structure and words win over it. `pins` holds
    positions of the answer (tokens, from 0) to a token, given as its id or as a text that is exactly one token; the
    answer then goes on at least to the last of them. With `think` a thought may come before the text that matches; it
    counts among the tokens, and may hold any character but a vertical bar. `tools` are declared to the model, `raw`
    leaves chat markup out, and `branch` leaves the seed's path at a step. Keywords and formats that JSON Schema does
    not know constrain nothing and are named in the result's `warnings`; with `strict_schema` they are refused. The
    answer ends before the first text of `stop` (one or several); the tokens that wrote it are in the result.
    """

    tools: Sequence[dict[str, Any]] | None = None
    think: bool = False
    raw: bool = False
    json_schema: dict[str, Any] | str | None = None
    strict_schema: bool = False
    show_schema: bool = True
    regex: str | None = None
    choices: Sequence[str] | None = None
    template: str | None = None
    banned_words: Sequence[str] = ()
    required_words: Sequence[str] = ()
    logit_bias: Mapping[int | str, float] | None = None
    pins: Mapping[int, int | str] | None = None
    branch: Branch | None = None
    stop: str | Sequence[str] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ARGUMENTS:
                check_arguments(**{field.name: value})
            elif field.name in OPTIONS and value is not None:
                OPTIONS[field.name].check(value)
        if self.branch is not None and not isinstance(self.branch, Branch):
            raise InputError("give a Branch", option="branch", got=self.branch)

    @classmethod
    def split(cls, options: dict[str, Any]) -> tuple[RequestOptions, dict[str, Any]]:
        """These, and the options of decoding. Raises `InputError` for one that is neither."""
        names, options = [field.name for field in fields(cls)], by_name(options)
        decoding = {name: value for name, value in options.items() if name not in names}
        refuse_unknown(decoding, OF_DECODING, (*names, "trace"))
        return cls(**{name: value for name, value in options.items() if name in names}), decoding

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts before which the answer ends. Raises `InputError` for what is none."""
        given = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        if not all(isinstance(text, str) and text for text in given):
            raise InputError("give texts that are not empty", option="stop", got=self.stop)
        check_stops(self.choices, given)
        return given

    @property
    def form(self) -> str | None:
        """The option that says what form the whole answer has."""
        return next((name for name in FORMS if getattr(self, name) is not None), None)

    @property
    def structure(self) -> dict[str, Any]:
        """What the text must match, for `compile_constraint`."""
        forms = {name: value for name in FORMS if (value := getattr(self, name)) is not None}
        if self.strict_schema:
            if self.json_schema is None:
                raise InputError("it is about `json_schema`: give one, or leave it out", option="strict_schema")
            forms["strict_schema"] = True
        return forms | {name: value for name in WORDS if (value := getattr(self, name))}
