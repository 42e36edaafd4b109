"""`diffusiongemma edit`: change a file by instruction."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffusiongemma.cli import options as given
from diffusiongemma.errors import InputError
from diffusiongemma.options import STRENGTH

if TYPE_CHECKING:
    from diffusiongemma.engine.plans.edit import EditResult

Instruction = Annotated[str | None, typer.Argument(metavar="INSTRUCTION", help="What to change.")]
Lines = Annotated[
    str | None, typer.Option(metavar="FROM-TO", help="Change these lines only (10-20, or 7), counted from 1.")
]
Strength = Annotated[
    float, typer.Option(metavar="0…1", help="How much noise to start from: 0 changes nothing, 1 starts anew.")
]
Backup = Annotated[
    bool,
    typer.Option("--backup", help="With --in-place: keep the text as it was in FILE~.", rich_help_panel=given.OUTPUT),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force", help="With --in-place: write even if most of the text is lost.", rich_help_panel=given.OUTPUT
    ),
]
MOST_LOST = 0.5  # of a text's characters; beyond, an edit is taken for a failure
Diff = Annotated[bool, typer.Option("--diff", help="Write what changes, word by word, in place of the text.")]


@given.takes("edit")
def edit(
    file: given.File,
    instruction: Instruction = None,
    lines: Lines = None,
    strength: Strength = STRENGTH,
    diff: Diff = False,
    model: given.Model = "nano",
    *,
    options: given.Options,
    in_place: given.InPlace = False,
    backup: Backup = False,
    force: Force = False,
    as_json: given.Json = False,
    quiet: given.Quiet = False,
    loading: given.Loading,
) -> None:
    """Change a text, starting from the text itself.

    Reads a file, or stdin for -, and writes to stdout.
    """
    from diffusiongemma.cli.rewriting import watched
    from diffusiongemma.cli.running import open_model, say
    from diffusiongemma.cli.texts import read_text, write_result

    if diff and (in_place or as_json):
        raise InputError(
            "writes the changes to stdout: leave out `in_place` and `as_json`, which has them too", option="diff"
        )
    if backup and not in_place:
        raise InputError("goes with `in_place`", option="backup")
    if not 0 <= strength <= 1:
        raise InputError("give a number from 0 to 1", option="strength", got=strength)
    text = read_text(file, in_place)
    spans = None if lines is None else [span_of_lines(text, lines)]
    loaded = open_model(model, loading, quiet)
    plan = loaded.edit_plan(text, instruction, spans=spans, strength=strength, **options)
    done = lambda results: sum(len(result.text) for result in results) / len(text)  # noqa: E731
    result, took = watched(loaded, plan, "editing", done, quiet)
    _check_loss(result, in_place, force)
    shown = marked(result) if diff else result.text
    write_result(file, shown, in_place, as_object(result) | took.as_object() if as_json else None, backup)
    if not (quiet or as_json):
        say(took.line(sum(result.steps), sum(len(one.tokens) for one in result.results)))


def _check_loss(result: EditResult, in_place: bool, force: bool) -> None:
    if result.lost <= MOST_LOST:
        return
    if in_place and not force:
        raise InputError(f"the edit loses {result.lost:.0%} of the text, nothing was written: `force` writes it")
    from diffusiongemma.cli.running import say

    say(f"the edit loses {result.lost:.0%} of the text", "yellow")


def span_of_lines(text: str, lines: str) -> tuple[int, int]:
    """The characters of lines `FROM-TO` (or one number), the break of the last line left out.

    Raises `InputError` for lines that the text does not have, or that are empty.
    """
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", lines, re.ASCII)
    if match is None:
        raise InputError("give two numbers as in 10-20, or one", option="lines", got=lines)
    first, last = int(match[1]), int(match[2] or match[1])
    starts = [0, *(found.end() for found in re.finditer("\n", text))]
    count = len(starts) - (starts[-1] == len(text))
    if not 1 <= first <= last <= count:
        raise InputError(f"the text has {count} lines, give 1 <= from <= to <= {count}", option="lines", got=lines)
    stop = starts[last] - 1 if last < len(starts) else len(text)
    start = starts[first - 1]
    stop -= text[start:stop].endswith("\r")
    if start >= stop:
        raise InputError("these lines are empty: choose others", option="lines", got=lines)
    return start, stop


def marked(result: EditResult) -> str:
    """The diff as text: `[-gone-]` and `{+come+}`, as `git diff --word-diff` writes them."""
    marks = {"same": "{}", "delete": "[-{}-]", "insert": "{{+{}+}}"}
    return "".join(marks[kind].format(text) for kind, text in result.diff)


def as_object(result: EditResult) -> dict[str, Any]:
    """The object that `--json` writes."""
    return {
        "text": result.text,
        "diff": [list(change) for change in result.diff],
        "changed_outside": round(result.changed_outside, 4),
        "steps": sum(result.steps),
        "seed": result.seed,
    }
