"""The options that several subcommands share, declared once. Nothing heavy is imported here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from diffusiongemma.errors import InputError
from diffusiongemma.option_values import LARGEST_SEED, MANY, Number, Other, Switch, Values, Whole
from diffusiongemma.options import LOADING, Option, check, of_surface

INTERRUPTED = 130  # exit code after Ctrl-C, as shells have it
DTYPES = ("auto", "float32", "bfloat16", "float16")

MODEL, OUTPUT = "Model", "Output"

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="nano|PATH|HUB_ID",
        help="Embedded model, checkpoint directory or hub id.",
        envvar="DIFFUSIONGEMMA_MODEL",
        show_envvar=False,
        rich_help_panel=MODEL,
    ),
]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda|…", help="Where to compute.", rich_help_panel=MODEL)]
Devices = Annotated[
    str | None,
    typer.Option(metavar="cuda:0,cuda:1,…", help="Lay the model's layers over these.", rich_help_panel=MODEL),
]
Dtype = Annotated[str, typer.Option(metavar="|".join(DTYPES), help="What to compute in.", rich_help_panel=MODEL)]
Activations = Annotated[
    str,
    typer.Option(
        metavar="|".join(LOADING["activations"]),
        help="What packed weights are multiplied with on a CPU.",
        rich_help_panel=MODEL,
    ),
]
Cache = Annotated[
    str,
    typer.Option("--kv", metavar="|".join(LOADING["kv"]), help="How keys and values are kept.", rich_help_panel=MODEL),
]
TensorParallel = Annotated[
    int,
    typer.Option(metavar="N", min=1, help="Split each layer over N processes of torchrun.", rich_help_panel=MODEL),
]
System = Annotated[str | None, typer.Option(metavar="TEXT", help="System message.")]
Think = Annotated[bool, typer.Option("--think", help="Let the model think first; thoughts go to stderr.")]
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
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr but mistakes.", rich_help_panel=OUTPUT)]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Also say how it was decoded.", rich_help_panel=OUTPUT)]
NoShowSchema = Annotated[
    bool,
    typer.Option("--no-show-schema", help="Keep the schema from the model's eyes.", rich_help_panel="Structure"),
]
Json = Annotated[bool, typer.Option("--json", help="Write one JSON object.", rich_help_panel=OUTPUT)]
Trace = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Record every step, for `replay`.", rich_help_panel=OUTPUT)
]


# --- the options of the table ---------------------------------------------------------------------------------------

SHORT = {"max_new_tokens": ("-n",)}
METAVARS = {"seed": "N|random", "json_schema": "FILE|JSON"}
_OF_CANVASES = ("steps", "sampler", "patience")  # which have no meaning token by token

Options = dict[str, Any]  # those that were given, by their names in Python


@dataclass(frozen=True)
class Loading:
    """Where and how a model is loaded: `load`'s keywords."""

    device: str = "auto"
    devices: str | None = None
    dtype: str = "auto"
    activations: str = "auto"
    kv: str = "full"
    tensor_parallel: int = 1

    @property
    def follows(self) -> bool:
        """Whether this process only has a share of a model that the first process runs."""
        return self.tensor_parallel > 1 and os.environ.get("RANK", "0") != "0"


_OF_LOADING = {
    "device": Device, "devices": Devices, "dtype": Dtype, "activations": Activations, "kv": Cache,
    "tensor_parallel": TensorParallel,
}  # fmt: skip


def takes(surface: str | None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options that the table has for `surface`, where its signature says `options`, and those of
    loading a model where it says `loading`.

    The command gets those that were given. `InputError` is raised before it runs for what they do not take.
    """
    rows = [] if surface is None else of_surface(surface)

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        expanded: dict[str, list[Parameter]] = {"options": [_parameter(row) for row in rows], "loading": _loading()}
        wanted = signature(command, eval_str=True).parameters

        @wraps(command)
        def called(**values: Any) -> None:
            if "options" in wanted:
                values["options"] = checked({row.name: values.pop(row.parameter) for row in rows})
            if "loading" in wanted:
                values["loading"] = loading = Loading(**{name: values.pop(name) for name in _OF_LOADING})
                if loading.follows:
                    from diffusiongemma.cli.running import open_model

                    open_model(values["model"], loading, quiet=True)  # which does not come back
            command(**values)

        own = [expanded.get(p.name, [p]) for p in wanted.values()]
        parameters = [p.replace(kind=Parameter.KEYWORD_ONLY) for part in own for p in part]
        called.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
        called.__annotations__ = {}
        return called

    return decorated


def _loading() -> list[Parameter]:
    defaults = Loading()
    return [
        Parameter(name, Parameter.KEYWORD_ONLY, default=getattr(defaults, name), annotation=annotation)
        for name, annotation in _OF_LOADING.items()
    ]


def _parameter(row: Option) -> Parameter:
    default = f" (default: {row.default})" if row.default else ""
    text = row.help.removesuffix(".") + "; may be repeated." if row.values in MANY else row.help
    names = (row.on_command_line, *SHORT.get(row.name, ()))
    option = typer.Option(
        *names, metavar=METAVARS.get(row.name, row.metavar) or None, help=text + default, rich_help_panel=row.panel
    )
    kind = str if row.name == "seed" else _kind(row.values)
    annotation: Any = Annotated[kind | None, option]
    return Parameter(row.parameter, Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _kind(values: Values) -> Any:
    """What typer reads for it."""
    if isinstance(values, Switch):
        return bool
    if isinstance(values, Other):
        return list[str] if values in MANY else str
    return int if isinstance(values, Whole) else float if isinstance(values, Number) else str


def checked(options: Mapping[str, Any]) -> Options:
    """The options that were given, a schema read from its file. Raises `InputError`, before anything is loaded."""
    given = {name: value for name, value in options.items() if value not in (None, [])}
    if "seed" in given:
        given["seed"] = seed_of(given["seed"])
    check(given)
    if given.get("mode") == "ar" and (idle := next((name for name in _OF_CANVASES if name in given), None)):
        raise InputError("token by token there is no canvas: leave it out, or `mode`", option=idle)
    if (schema := given.get("json_schema")) is not None:
        given["json_schema"] = _schema(schema)
    return given


def _schema(given: str) -> str:
    """A schema: what the file of that name holds, or what was given where it is JSON itself. Raises `InputError`."""
    if given.lstrip().startswith("{"):
        return given
    try:
        return Path(given).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read the schema {given}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"the schema {given} is not UTF-8 text (byte {error.start + 1:,})") from error


def seed_of(text: str) -> int:
    """The number; "random" draws one. Raises `InputError`."""
    if text == "random":
        from secrets import randbits

        return randbits(32)
    if not (text.strip().isdecimal() and len(text) < 30 and int(text) <= LARGEST_SEED):
        raise InputError("give a whole number from 0 to 2**64 - 1, or random", option="seed", got=text)
    return int(text)


def hole_texts(text: str, hole: str) -> list[str]:
    """The texts around the holes. Raises `InputError` where there is none, before anything is loaded."""
    from diffusiongemma.text.holes import split_at

    return split_at(text, hole)
