"""Every option of decoding, declared once: what it takes, what it does, and where it can be given.

`OPTIONS` is all that the command line, the HTTP bodies and the documentation know of an option; what it does is in
`diffusion.decoding`. Nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from secrets import randbits
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from diffusiongemma.errors import InputError
from diffusiongemma.option_values import (
    LARGEST_SEED,
    SCHEMA,
    SOME_TEXTS,
    TEXT,
    TEXTS,
    Ids,
    Number,
    Other,
    Rule,
    Switch,
    Values,
    Whole,
    Word,
    are_mappings,
    are_texts,
    is_mapping,
    is_text,
)

if TYPE_CHECKING:
    from diffusiongemma.diffusion.samplers import Sampler
    from diffusiongemma.diffusion.stop import StopRule

MODES = ("auto", "diffusion", "ar")
LOADING = {"activations": ("auto", "int8", "full"), "kv": ("full", "int8")}  # how a model is loaded, not decoded
VERIFY = ("never", "unconverged", "surprising", "always")
SAMPLER_NAMES = ("entropy-bound", "confidence", "fixed-k", "ancestral")  # of `diffusion.samplers.SAMPLERS`
MOST_TOP_LOGPROBS = 20
STRENGTH = 0.7  # of an edit, where nothing else is said
HOLE = "<<>>"  # what marks a hole in a text

DECODING, STRUCTURE = "Decoding", "Structure"  # panels of --help
ANSWER = "run chat http"  # where a whole answer is written
COMMANDS = ("run", "chat", "sudoku", "infill", "edit", "eval")
EVERYWHERE = "run chat sudoku infill edit http rewriting"


@dataclass(frozen=True)
class Option:
    """One option. Python has them all, under `name`; `surfaces` are the commands that have it, "http" where a whole
    answer is asked for, and "rewriting" where a text is infilled or edited over HTTP."""

    name: str
    values: Values
    help: str
    default: str = ""
    surfaces: str = ""
    metavar: str = "N"
    flag: str = ""  # on the command line, where that is not the name
    field: str = ""  # of an HTTP body, where that is not `diffusion.NAME`
    held: str = ""  # the field of a `Decoding`, or `field.part`, that has its value, where that is not the name
    panel: str = DECODING

    @property
    def place(self) -> tuple[str, str]:
        """(field of a `Decoding`, part of it or "")"""
        whole, _, part = (self.held or self.name).partition(".")
        return whole, part

    @property
    def on_command_line(self) -> str:
        return "--" + (self.flag or self.name).replace("_", "-")

    @property
    def parameter(self) -> str:
        """Of the functions that are commands."""
        return (self.flag or self.name).replace("-", "_")

    @property
    def in_body(self) -> str:
        return self.field or f"diffusion.{self.name}"

    def on(self, surface: str) -> bool:
        return surface in self.surfaces.split()

    def check(self, value: Any) -> None:
        """Raises `InputError` for a value that it does not take."""
        if not self.values.takes(value):
            verb = "choose" if isinstance(self.values, (Word, Rule)) else "give"
            raise InputError(f"{verb} {self.values}", option=self.name, got=value)


_ROWS = (
    Option(
        "max_new_tokens", Whole(1), "Most tokens to write.", "the checkpoint's, 256 as released", ANSWER,
        field="max_tokens",
    ),
    Option(
        "min_tokens", Whole(served=2**31), "Fewest tokens to write, the end token not counted.", "0", ANSWER,
        flag="min-new-tokens",
    ),
    Option(
        "mode", Word(MODES), "Whole canvases, token by token, or the faster here.", "diffusion",
        ANSWER + " rewriting",
        "auto|diffusion|ar",
    ),
    Option(
        "steps", Whole(1), "Most denoise steps of a canvas.", "the checkpoint's, 48 as released", EVERYWHERE,
    ),
    Option(
        "seed", Whole(0, LARGEST_SEED), "The same seed gives the same text.", "0; None, random and HTTP draw one",
        EVERYWHERE,
        field="seed",
    ),
    # Below a thousandth, logits divided by it leave the range of float32's exponential.
    Option(
        "temperature", Number(1e-3, 100, or_zero=True), "Scales the schedule; 0 takes the likeliest.",
        "1; in mode ar 0", EVERYWHERE + " eval", "X", field="temperature", held="temperature.scale",
    ),
    Option(
        "t_min", Number(above=0), "Temperature of the schedule without noise.", "the checkpoint's, 0.4 as released",
        held="temperature.t_min",
    ),
    Option(
        "t_max", Number(above=0), "Temperature of the schedule at full noise.", "the checkpoint's, 0.8 as released",
        held="temperature.t_max",
    ),
    Option(
        "top_p", Number(0, 1), "Cut every distribution down to the fewest tokens that hold this share of it.", "1",
        EVERYWHERE, "P", field="top_p", held="reading.top_p",
    ),
    Option(
        "top_k", Whole(0), "Leave every distribution its N most probable tokens; 0: all.", "0", "http rewriting",
        field="top_k", held="reading.top_k",
    ),
    Option(
        "min_p", Number(0, 1), "Leave out what is less than this many times as probable as the most probable token.",
        "0", "http rewriting", "P", field="min_p", held="reading.min_p",
    ),
    Option(
        "frequency_penalty", Number(-2, 2), "Taken from a token's logit for each time it has been written.", "0",
        "http", "X", field="frequency_penalty", held="reading.frequency_penalty",
    ),
    Option(
        "presence_penalty", Number(-2, 2), "Taken from a token's logit once it has been written.", "0", "http", "X",
        field="presence_penalty", held="reading.presence_penalty",
    ),
    Option(
        "repetition_penalty", Number(0.1, 10), "Divides logits above 0 of tokens of prompt and answer; 1: off.", "1",
        "http", "X", field="repetition_penalty", held="reading.repetition_penalty",
    ),
    Option(
        "sampler", Rule(SAMPLER_NAMES), f"Which predictions a step keeps: {', '.join(SAMPLER_NAMES)}.",
        "entropy-bound; for edit ancestral", EVERYWHERE, "NAME",
    ),
    Option(
        "entropy_bound", Number(above=0), "Of the entropy-bound sampler, in nats.", "the checkpoint's, 0.1 as released",
        "http rewriting", held="sampler.bound",
    ),
    Option("stop_rule", Rule(), "When a canvas is done.", "stable and confident", held="stop"),
    Option(
        "stability_threshold", Whole(), "Steps without another most probable token before a canvas is done.",
        "the checkpoint's, 1 as released", held="stop.stability",
    ),
    Option(
        "confidence_threshold", Number(least=0), "Mean entropy, in nats, below which a canvas is done.",
        "the checkpoint's, 0.005 as released", held="stop.confidence",
    ),
    Option(
        "patience", Whole(), "A canvas ends when it has not changed for N steps, sure or not; 0: never.",
        "the checkpoint's, 0 as released", EVERYWHERE + " eval",
    ),
    Option(
        "verify", Word(VERIFY), "Which canvases the encoder checks and, from its first other token on, writes.",
        "the checkpoint's, never as released", ANSWER + " edit rewriting", "|".join(VERIFY),
    ),
    Option(
        "early_steps", Whole(), "Pin and send what has not changed for so many steps; 0: never.", "0", "http",
        field="diffusion.early_text.steps", held="early.steps",
    ),
    Option(
        "early_entropy", Number(above=0), "Only positions below this entropy, in nats, are sent early.", "0.05", "http",
        field="diffusion.early_text.entropy", held="early.entropy",
    ),
    Option(
        "top_logprobs", Whole(0, MOST_TOP_LOGPROBS), "The most probable tokens that are told of each token.", "0",
        "http", field="diffusion.alternatives", held="reading.top_logprobs",
    ),
    Option("eos_token_ids", Ids(), "Tokens that end an answer.", "the checkpoint's"),
    Option(
        "json_schema", SCHEMA, "The answer is JSON that this schema accepts.", "", ANSWER, "FILE",
        field="response_format", panel=STRUCTURE,
    ),
    Option(
        "strict_schema", Switch(), "Keywords and formats that JSON Schema does not know are refused.", "", ANSWER,
        panel=STRUCTURE,
    ),
    Option(
        "regex", TEXT, "The answer matches this regular expression.", "", ANSWER, "PATTERN", panel=STRUCTURE,
    ),
    Option(
        "choices", SOME_TEXTS, "The answer is one of these.", "", ANSWER, "TEXT", flag="choice", panel=STRUCTURE
    ),
    Option(
        "template", TEXT, 'The answer is this text with its holes filled: "Name: {name:str} Age: {age:int}".', "",
        ANSWER, "TEXT", panel=STRUCTURE,
    ),
    Option(
        "banned_words", TEXTS, "This never occurs in the answer.", "", ANSWER, "TEXT", flag="ban", panel=STRUCTURE,
    ),
    Option(
        "required_words", TEXTS, "This occurs in the answer.", "", ANSWER, "TEXT", flag="require", panel=STRUCTURE,
    ),
    Option(
        "stop", TEXTS, "The answer ends before this.", "", ANSWER, "TEXT", field="stop", panel=STRUCTURE,
    ),
    Option(
        "logit_bias", Other("tokens with what is added to their logits", is_mapping),
        "Makes tokens likelier or less likely.", "", "http", field="logit_bias", panel=STRUCTURE,
    ),
    Option(
        "pins", Other("positions of the answer with their tokens", is_mapping),
        "Tokens of the answer that stand.", "", "http", panel=STRUCTURE,
    ),
)  # fmt: skip
OPTIONS: Mapping[str, Option] = {row.name: row for row in _ROWS}
OF_DECODING: Mapping[str, Option] = {row.name: row for row in _ROWS if row.panel == DECODING}

# --- what type checkers know of them --------------------------------------------------------------------------------

Mode = Literal["auto", "diffusion", "ar"]
Verify = Literal["never", "unconverged", "surprising", "always"]


class DecodingOptions(TypedDict, total=False):
    """How to decode: what `Decoding.of` takes. `infill` and `edit` take these."""

    max_new_tokens: int
    min_tokens: int
    mode: Mode
    steps: int
    seed: int | None
    temperature: float | None
    t_min: float
    t_max: float
    top_p: float
    top_k: int
    min_p: float
    frequency_penalty: float
    presence_penalty: float
    repetition_penalty: float
    sampler: Sampler | str | None
    entropy_bound: float
    stop_rule: StopRule | None
    stability_threshold: int
    confidence_threshold: float
    patience: int
    verify: Verify
    early_steps: int
    early_entropy: float
    top_logprobs: int
    eos_token_ids: Sequence[int]


class BatchDecodingOptions(TypedDict, total=False):
    """The same for several prompts: one value, or a list of them."""

    max_new_tokens: int | list[int]
    min_tokens: int | list[int]
    mode: Mode | list[Mode] | list[str]
    steps: int | list[int]
    seed: int | list[int] | list[int | None] | None
    temperature: float | list[float | None] | list[float] | None
    t_min: float | list[float]
    t_max: float | list[float]
    top_p: float | list[float]
    top_k: int | list[int]
    min_p: float | list[float]
    frequency_penalty: float | list[float]
    presence_penalty: float | list[float]
    repetition_penalty: float | list[float]
    sampler: Sampler | str | list[Sampler | str | None] | None
    entropy_bound: float | list[float]
    stop_rule: StopRule | list[StopRule | None] | None
    stability_threshold: int | list[int]
    confidence_threshold: float | list[float]
    patience: int | list[int]
    verify: Verify | list[Verify] | list[str]
    early_steps: int | list[int]
    early_entropy: float | list[float]
    top_logprobs: int | list[int]
    eos_token_ids: Sequence[int] | list[Sequence[int]]


# What the methods of the Python interface take beside options.
ARGUMENTS: Mapping[str, Values] = {
    **dict.fromkeys(["think", "raw", "show_schema", "trace", "frames"], Switch()),
    **dict.fromkeys(["text", "prefix", "suffix", "hole"], TEXT),
    **dict.fromkeys(["instruction", "system"], Other("a text, or None", lambda value: value is None or is_text(value))),
    "texts": Other("a list of texts", lambda value: are_texts(value) and not isinstance(value, (str, set, Mapping))),
    "tools": Other("a list of tools, each an object, or None", lambda value: value is None or are_mappings(value)),
    "max_batch": Whole(1),
    "tensor_parallel": Whole(1),
    "id": Whole(),
}


def check_arguments(**given: Any) -> None:
    """Raises `InputError` for an argument of the wrong type."""
    for name, value in given.items():
        if not (values := ARGUMENTS[name]).takes(value):
            raise InputError(f"give {values}", option=name, got=value)


# Names that the command line has for options of Python; Python takes both.
ALIASES: Mapping[str, str] = {row.parameter: row.name for row in _ROWS if row.parameter != row.name}


def by_name(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options by their own names, a seed drawn where it is None. Raises `InputError` for one given under two names."""
    named: dict[str, Any] = {}
    for given, value in options.items():
        name = ALIASES.get(given, given)
        if name in named:
            raise InputError(f"is given under two names: leave {given!r} out", option=name)
        named[name] = randbits(32) if name == "seed" and value is None else value
    return named


def of_surface(surface: str) -> list[Option]:
    return [option for option in OPTIONS.values() if option.on(surface)]


def check(values: Mapping[str, Any]) -> None:
    """Raises `InputError` for values out of range, and for values that do not go together."""
    for name, value in values.items():
        OPTIONS[name].check(value)
    least, most = values.get("min_tokens"), values.get("max_new_tokens")
    if least is not None and most is not None and least > most:
        raise InputError(
            f"give a whole number from 0 to `max_new_tokens`, which is {most}", option="min_tokens", got=least
        )
    low, high = values.get("t_min"), values.get("t_max")
    if low is not None and high is not None and low > high:
        raise InputError(f"give a number up to `t_max`, which is {high}", option="t_min", got=low)


def refuse_unknown(given: Iterable[str], known: Iterable[str], others: Iterable[str] = ()) -> None:
    """Raises `InputError` for an option that is not known; `others` are known too, and taken elsewhere."""
    if unknown := sorted(set(given) - set(known)):
        from difflib import get_close_matches

        names = sorted({*known, *(name for name in others if name not in ("self", "prompt", "options"))})
        near = get_close_matches(unknown[0], names, 1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        raise InputError(f"unknown option {unknown[0]!r}{meant}: known are {', '.join(names)}")
