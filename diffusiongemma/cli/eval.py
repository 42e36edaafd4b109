"""`diffusiongemma eval`: measure a model on held-out work."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffusiongemma.cli import options as given
from diffusiongemma.cli.measuring import Measured, check_writable, save_answers, show
from diffusiongemma.cli.running import open_model
from diffusiongemma.errors import InputError

if TYPE_CHECKING:
    from diffusiongemma.evaluation.questions import Suite
    from diffusiongemma.evaluation.text import Passage

TASKS = ("sudoku", "extraction", "repair", "words", "answers", "text", "infill")  # those of `train.evaluation`
PUZZLES, QUESTIONS = 400, 200  # asked unless --limit says otherwise
BATCH, CONTINUATIONS = 16, 24
QUESTIONS_PANEL = "Questions"

Limit = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Questions to ask. (default: 400 puzzles, 200 of the others, all of a file)",
        rich_help_panel=QUESTIONS_PANEL,
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        metavar="N",
        help="Draws the questions; question i is answered with seed N + i.",
        rich_help_panel=QUESTIONS_PANEL,
    ),
]
File = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="sudoku: your puzzles, one a line, 81 characters, . or 0 for a blank, optionally a comma and the "
        "solution. text, infill: your text.",
        rich_help_panel=QUESTIONS_PANEL,
    ),
]
Givens = Annotated[
    str | None,
    typer.Option(
        metavar="LOW-HIGH",
        help="sudoku: a mix of these. (default: as many of each class)",
        rich_help_panel=QUESTIONS_PANEL,
    ),
]
Corpora = Annotated[
    Path,
    typer.Option(
        metavar="DIR", help="text, infill: where corpora are kept, fetched if missing.", rich_help_panel=QUESTIONS_PANEL
    ),
]
Source = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME", help="text, infill: a corpus; repeat for more. (default: all)", rich_help_panel=QUESTIONS_PANEL
    ),
]
Continuations = Annotated[
    int,
    typer.Option(metavar="N", help="text: passages to continue, 0 for none.", rich_help_panel=QUESTIONS_PANEL),
]
Mode = Annotated[
    str,
    typer.Option(
        metavar="diffusion|ar|both",
        help="Whole canvases, token by token, or both side by side.",
        rich_help_panel=given.DECODING,
    ),
]
Steps = Annotated[
    list[int] | None,
    typer.Option(
        metavar="N",
        help="Most denoise steps of a canvas; repeat to compare. (default: the checkpoint's)",
        rich_help_panel=given.DECODING,
    ),
]
Verify = Annotated[
    list[str] | None,
    typer.Option(
        metavar="never|unconverged|always",
        help="Which canvases the encoder checks, as in `run`; repeat to compare. (default: the checkpoint's)",
        rich_help_panel=given.DECODING,
    ),
]
Constrained = Annotated[
    bool,
    typer.Option(
        "--constrained",
        help="sudoku, extraction: also with answers held to what is known of them: givens and digits, the schema.",
        rich_help_panel=given.DECODING,
    ),
]
Batch = Annotated[int, typer.Option(metavar="N", help="Questions answered at a time.", rich_help_panel=given.DECODING)]
Save = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write every answer and its score, as JSON lines.", rich_help_panel=given.OUTPUT),
]


def evaluate(
    task: Annotated[str, typer.Argument(metavar="|".join(TASKS), help="What to measure.")],
    model: given.Model = "nano",
    limit: Limit = None,
    seed: Seed = 0,
    file: File = None,
    givens: Givens = None,
    corpora: Corpora = Path("runs/corpora"),
    source: Source = None,
    continuations: Continuations = CONTINUATIONS,
    mode: Mode = "diffusion",
    steps: Steps = None,
    temperature: given.Temperature = None,
    patience: given.Patience = None,
    verify: Verify = None,
    constrained: Constrained = False,
    batch: Batch = BATCH,
    save: Save = None,
    as_json: given.Json = False,
    device: given.Device = "auto",
    dtype: given.Dtype = "auto",
) -> None:
    """Measure a model on questions that it was not trained on.

    The same seed asks the same questions. Shares come with their 95 % interval.
    """
    _check(task, limit, batch, continuations, file=file, givens=givens, source=source, constrained=constrained)
    decoding = given.decoding_options(mode="diffusion", seed=seed, temperature=temperature, patience=patience)
    options = {name: value for name, value in decoding.items() if name in ("temperature", "patience")}
    from diffusiongemma.diffusion.decoding import Decoding
    from diffusiongemma.evaluation.answering import settings

    asked_ways = partial(settings, mode, steps or [], constrained=constrained, verify=verify or [])
    asked_ways(Decoding())  # for its complaints, before anything is loaded
    if mode == "ar" and patience is not None:
        raise InputError("autoregressive decoding has no canvas: leave --patience out, or use --mode both")
    if save is not None:
        check_writable(save)
    reads = task in ("text", "infill")
    if task == "infill":
        _check_infill(mode, steps or [], verify or [], batch, continuations, save)
    asked = None if reads else _suite(task, limit, seed, file, givens)
    passages = _passages(task, limit, seed, file, corpora, source or []) if reads else []
    measured = Measured(
        open_model(model, device, dtype), model, seed, batch, options, as_json or not sys.stderr.isatty()
    )
    ways = asked_ways(measured.model.generation)
    if asked is not None:
        runs, report, shown = measured.skill(asked, ways)
    elif task == "infill":
        runs, report, shown = measured.infilling(passages, steps or [])
    else:
        runs, report, shown = measured.text(passages, continuations, ways)
    if save is not None:
        save_answers(save, runs)
    show(report, shown, as_json)


# --- what to ask -----------------------------------------------------------------------------------------------------


def _check(task: str, limit: int | None, batch: int, continuations: int, **options: Any) -> None:
    """Raises `InputError` for values out of range and for options that the task has not."""
    if task not in TASKS:
        raise InputError(f"no evaluation {task!r}: choose {', '.join(TASKS)}")
    for name, value, least in (("limit", limit, 1), ("batch", batch, 1), ("continuations", continuations, 0)):
        if value is not None and value < least:
            raise InputError(f"{name} is {value}: give a whole number of at least {least}")
    only_of = {
        "file": ("sudoku", "text", "infill"),
        "givens": ("sudoku",),
        "source": ("text", "infill"),
        "constrained": ("sudoku", "extraction"),
    }
    for name, tasks in only_of.items():
        if options[name] and task not in tasks:
            raise InputError(f"--{name} is for eval {' and '.join(tasks)}: leave it out")
    for name in ("givens", "source"):
        if options["file"] and options[name]:
            raise InputError(f"--file brings its own questions: leave --{name} out")


def _suite(task: str, limit: int | None, seed: int, file: Path | None, givens: str | None) -> Suite:
    from diffusiongemma.evaluation import file_suite, skill_suite, sudoku_suite

    if task != "sudoku":
        return skill_suite(task, limit or QUESTIONS, seed)
    return sudoku_suite(limit or PUZZLES, seed, givens) if file is None else file_suite(file, limit)


def _check_infill(
    mode: str, steps: list[int], verify: list[str], batch: int, continuations: int, save: Path | None
) -> None:
    """Raises `InputError` for options of the other tasks, which this one would ignore."""
    if mode != "diffusion" or len(steps) > 1:
        raise InputError("eval infill is by diffusion, with one number of steps: leave out --mode and further --steps")
    if verify:
        raise InputError("the encoder cannot check what is filled in: leave --verify out")
    if save is not None or (batch, continuations) != (BATCH, CONTINUATIONS):
        raise InputError("--save, --batch and --continuations are not for eval infill: leave them out")


def _passages(
    task: str, limit: int | None, seed: int, file: Path | None, corpora: Path, sources: list[str]
) -> list[Passage]:
    from diffusiongemma.evaluation.text import PROSE, corpus_passages, file_passages

    if file is not None:
        return file_passages(file, limit, seed)
    sources = sources or (list(PROSE) if task == "infill" else [])
    return corpus_passages(corpora, sources, limit or QUESTIONS, seed)
