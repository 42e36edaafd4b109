"""The options that several subcommands share, declared once. Nothing heavy is imported here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from diffusiongemma.errors import InputError
from diffusiongemma.options import SAMPLER_NAMES, check

INTERRUPTED = 130  # exit code after Ctrl-C, as shells have it
DTYPES = ("auto", "float32", "bfloat16", "float16")

MODEL, DECODING, STRUCTURE, OUTPUT = "Model", "Decoding", "Structure", "Output"

Model = Annotated[
    str,
    typer.Option(
        metavar="nano|PATH|HUB_ID", help="Embedded model, checkpoint directory or hub id.", rich_help_panel=MODEL
    ),
]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda|…", help="Where to compute.", rich_help_panel=MODEL)]
Dtype = Annotated[str, typer.Option(metavar="|".join(DTYPES), help="What to compute in.", rich_help_panel=MODEL)]
System = Annotated[str | None, typer.Option(metavar="TEXT", help="System message.")]
MaxNewTokens = Annotated[
    int | None,
    typer.Option(metavar="N", help="Most tokens to write. (default: the checkpoint's)", rich_help_panel=DECODING),
]
MinNewTokens = Annotated[
    int | None,
    typer.Option(metavar="N", help="Fewest tokens to write. (default: 0)", rich_help_panel=DECODING),
]
Mode = Annotated[
    str,
    typer.Option(
        metavar="auto|diffusion|ar",
        help="Whole canvases, token by token, or the faster here.",
        rich_help_panel=DECODING,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Most denoise steps of a canvas. (default: the checkpoint's, 48 as released)",
        rich_help_panel=DECODING,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(metavar="N", help="The same seed gives the same text. (default: 0)", rich_help_panel=DECODING),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        metavar="X", help="Scales the schedule; 0 takes the likeliest. (default: 1)", rich_help_panel=DECODING
    ),
]
TopP = Annotated[
    float | None,
    typer.Option(
        metavar="P",
        help="Cut every distribution down to the fewest tokens that hold this share of it.",
        rich_help_panel=DECODING,
    ),
]
Sampler = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help=f"One of {', '.join(SAMPLER_NAMES)} (default: entropy-bound)", rich_help_panel=DECODING
    ),
]
Patience = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="A canvas ends when it has not changed for N steps, sure or not; 0: never. (default: the checkpoint's)",
        rich_help_panel=DECODING,
    ),
]
Verify = Annotated[
    str | None,
    typer.Option(
        metavar="never|unconverged|always",
        help="Which canvases the encoder checks and, from its first other token on, writes. "
        "(default: the checkpoint's, never as released)",
        rich_help_panel=DECODING,
    ),
]
Think = Annotated[bool, typer.Option("--think", help="Let the model think first; thoughts go to stderr.")]
JsonSchema = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The answer is JSON that this schema accepts.", rich_help_panel=STRUCTURE),
]
Regex = Annotated[
    str | None,
    typer.Option(metavar="PATTERN", help="The answer matches this regular expression.", rich_help_panel=STRUCTURE),
]
Choices = Annotated[
    list[str] | None,
    typer.Option(metavar="TEXT", help="The answer is one of these; may be repeated.", rich_help_panel=STRUCTURE),
]
Template = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help='The answer is this text with its holes filled: "Name: {name:str} Age: {age:int}".',
        rich_help_panel=STRUCTURE,
    ),
]
Ban = Annotated[
    list[str] | None,
    typer.Option(metavar="TEXT", help="This never occurs in the answer; may be repeated.", rich_help_panel=STRUCTURE),
]
Require = Annotated[
    list[str] | None,
    typer.Option(metavar="TEXT", help="This occurs in the answer; may be repeated.", rich_help_panel=STRUCTURE),
]
Watch = Annotated[bool, typer.Option("--watch", help="Show the canvas settling.", rich_help_panel=OUTPUT)]
Delay = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="With --watch: wait after each step. (default: 0.08 for small models, else 0)",
        rich_help_panel=OUTPUT,
    ),
]
File = Annotated[str, typer.Argument(metavar="FILE|-", help="A text file, or - for stdin.")]
InPlace = Annotated[
    bool, typer.Option("--in-place", help="Write the file itself, whole or not at all.", rich_help_panel=OUTPUT)
]
Json = Annotated[bool, typer.Option("--json", help="Write one JSON object.", rich_help_panel=OUTPUT)]
Trace = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Record every step, for `replay`.", rich_help_panel=OUTPUT)
]


def decoding_options(**options: float | str | None) -> dict[str, Any]:
    """The options of decoding that were given. Raises `InputError` for a value out of range, before anything is
    loaded."""
    given = {name: value for name, value in options.items() if value is not None}
    check(given)
    return given


def structure(
    json_schema: Path | None,
    regex: str | None,
    choices: list[str] | None,
    template: str | None = None,
    ban: list[str] | None = None,
    require: list[str] | None = None,
) -> dict[str, Any]:
    """What the answer must match, as options of `DiffusionGemma.request`. Raises `InputError` for a bad file."""
    given: dict[str, Any] = {
        "regex": regex,
        "choices": choices or None,
        "template": template,
        "banned_words": ban or None,
        "required_words": require or None,
    }
    if json_schema is not None:
        try:
            given["json_schema"] = json_schema.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the schema {json_schema}: {error}") from error
    return {name: value for name, value in given.items() if value is not None}


def hole_texts(text: str, hole: str) -> list[str]:
    """The texts around the holes. Raises `InputError` where there is none, before anything is loaded."""
    from diffusiongemma.text.holes import split_at

    return split_at(text, hole)


def check_delay(delay: float | None) -> None:
    if delay is not None and not 0 <= delay <= 60:
        raise InputError("give seconds from 0 to 60", option="delay", got=delay)
