"""`diffusiongemma infill`: write what is missing in a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffusiongemma.cli import options as given
from diffusiongemma.errors import InputError
from diffusiongemma.options import HOLE

if TYPE_CHECKING:
    from diffusiongemma.engine.plans.infill import InfillResult

Hole = Annotated[str, typer.Option(metavar="MARK", help="What marks a hole in the text.")]
Instruction = Annotated[str | None, typer.Option(metavar="TEXT", help="What to write.")]
Length = Annotated[str, typer.Option(metavar="auto|N|LEAST-MOST", help="Tokens of each hole.")]


@given.takes("infill")
def infill(
    file: given.File,
    hole: Hole = HOLE,
    instruction: Instruction = None,
    length: Length = "auto",
    model: given.Model = "nano",
    *,
    options: given.Options,
    loading: given.Loading,
    in_place: given.InPlace = False,
    as_json: given.Json = False,
    quiet: given.Quiet = False,
) -> None:
    """Fill the holes of a text; the rest of it comes back as it is, byte for byte.

    Reads a file, or stdin for -, and writes to stdout.
    """
    from diffusiongemma.cli.rewriting import watched
    from diffusiongemma.cli.running import open_model, say
    from diffusiongemma.cli.texts import read_text, write_result

    bounds = parsed_length(length)
    text = read_text(file, in_place)
    # Before the model is loaded, which may take long.
    texts = given.hole_texts(text, hole)
    loaded = open_model(model, loading, quiet)
    plan = loaded.infill_plan(texts, instruction=instruction, length=bounds, **options)
    result, took = watched(loaded, plan, "filling", quiet=quiet)
    write_result(file, result.text, in_place, as_object(result) | took.as_object() if as_json else None)
    if not (quiet or as_json):
        say(took.line(sum(result.steps), sum(result.lengths)))


def parsed_length(length: str) -> Any:
    """What `infill` takes, of an option's text. Raises `InputError`."""
    least, dash, most = length.partition("-")
    if length == "auto":
        return length
    if least.isdecimal() and (most.isdecimal() if dash else not most):
        return (int(least), int(most)) if dash else int(least)
    raise InputError("give a number of tokens, two as in 4-12, or auto", option="length", got=length)


def as_object(result: InfillResult) -> dict[str, Any]:
    """The object that `--json` writes."""
    return {
        "text": result.text,
        "fills": list(result.fills),
        "lengths": list(result.lengths),
        "candidates": [{str(length): round(score, 4) for length, score in hole} for hole in result.candidates],
        "steps": sum(result.steps),
        "seed": result.seed,
    }
