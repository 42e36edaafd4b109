"""`diffusiongemma quantize`: a model in few bits, as a directory that `--model` takes."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffusiongemma.cli import options as given
from diffusiongemma.errors import InputError

if TYPE_CHECKING:
    from diffusiongemma.evaluation.comparison import Comparison
    from diffusiongemma.weights.quantize import Change

QUESTIONS = 40  # of each task, unless --questions says otherwise
SCHEMES = ("mixed", "int8", "int4", "fp8")

Source = Annotated[str, typer.Argument(metavar="nano|PATH|HUB_ID", help="The model to start from.")]
Target = Annotated[Path, typer.Argument(metavar="DIR", help="A new directory for the result.")]
SchemeName = Annotated[str, typer.Option(metavar="|".join(SCHEMES), help="mixed: experts in 4 bits and the rest in 8.")]
Keep = Annotated[
    list[str] | None,
    typer.Option(metavar="ROLE", help="Leave experts, mlp, attention, self_conditioning or embedding as they are; "
                 "may be repeated. vLLM reads no packed embedding."),
]  # fmt: skip
Report = Annotated[
    bool, typer.Option("--report", help="Ask both models the same questions, too.", rich_help_panel=given.OUTPUT)
]
Questions = Annotated[int, typer.Option(metavar="N", help="With --report: of each task.", min=1)]


def quantize(
    source: Source,
    target: Target,
    scheme: SchemeName = "mixed",
    keep: Keep = None,
    report: Report = False,
    questions: Questions = QUESTIONS,
    as_json: given.Json = False,
) -> None:
    """Write a model's weights in few bits.

    A run that was stopped goes on where it was, when it is given again. No more than one layer is in memory.
    """
    from diffusiongemma.weights.locate import locate_adapted
    from diffusiongemma.weights.quantize import quantize as run
    from diffusiongemma.weights.schemes import Scheme

    chosen = Scheme(scheme, tuple(keep or ()))
    path, adapter = locate_adapted(source)
    if adapter is not None:
        raise InputError(f"{source} is an adapter: `diffusiongemma export` merges it into its base model first")
    with _Bar(not as_json) as bar:
        changes = run(path, target, chosen, lambda done, of: bar.to("packing", done, of))
        comparisons = _asked(str(path), target, questions, bar) if report else []
    summary = [_part(role, changes) for role in dict.fromkeys(change.role for change in changes)]
    if as_json:
        said = {"model": str(target), **chosen.described(), "parts": [part.as_object() for part in summary]}
        json.dump(said | {"tasks": [one.as_object() for one in comparisons]}, sys.stdout)
        print()
    else:
        _show(target, summary, comparisons, report)


@dataclass(frozen=True)
class Part:
    """All weights of a role; `error` is the root of the squared errors' share of the weights' squares."""

    role: str
    kinds: str
    before: int
    after: int
    error: float

    def as_object(self) -> dict[str, Any]:
        return {"role": self.role, "kinds": self.kinds, "bytes_before": self.before, "bytes_after": self.after,
                "error": round(self.error, 6)}  # fmt: skip


def _part(role: str, changes: list[Change]) -> Part:
    of = [change for change in changes if change.role == role]
    squares = sum(change.squares for change in of)
    error = (sum(change.squared_error for change in of) / squares) ** 0.5 if squares else 0.0
    kinds = sorted({change.kind or "as it was" for change in of})
    return Part(role, ", ".join(kinds), sum(c.before for c in of), sum(c.after for c in of), error)


def _asked(source: str, target: Path, questions: int, bar: _Bar) -> list[Comparison]:
    """Both models' answers, where both fit in memory."""
    from diffusiongemma.api import load
    from diffusiongemma.evaluation.comparison import COMPARED, compared

    before, after = load(source), load(target)
    if before.tokenizer is None:
        raise InputError(f"{source} has no tokenizer files: leave `report` out")
    answered = iter(range(1, 2 * questions * len(COMPARED) + 1))
    total = 2 * questions * len(COMPARED)
    return compared(before, after, questions, watch=lambda task, _: bar.to(f"asking: {task}", next(answered), total))


class _Bar:
    """Progress on stderr, shown on a terminal only."""

    def __init__(self, shown: bool):
        from rich.console import Console
        from rich.progress import Progress

        self.progress = Progress(console=Console(stderr=True), transient=True, disable=not (shown and _terminal()))
        self.task: Any = None
        self.what = ""

    def __enter__(self) -> _Bar:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def to(self, what: str, done: int, of: int) -> None:
        if self.task is None:
            self.task = self.progress.add_task(what, total=of)
        self.progress.update(self.task, description=what, completed=done, total=of)


def _terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _show(target: Path, parts: list[Part], comparisons: list[Comparison], asked: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    table = Table("part", "in", "MB before", "MB after", "error of weights", box=None, pad_edge=False)
    for part in parts:
        error = f"{part.error:.2%}" if part.error else ""
        table.add_row(part.role, part.kinds, f"{part.before / 1e6:,.1f}", f"{part.after / 1e6:,.1f}", error)
    before, after = sum(part.before for part in parts), sum(part.after for part in parts)
    table.add_row("all", "", f"{before / 1e6:,.1f}", f"{after / 1e6:,.1f}", "", style="bold")
    console.print(table)
    if asked:
        console.print()
        console.print(_tasks(comparisons))
    console.print(f"\nwritten: {target}", markup=False, soft_wrap=True)


def _tasks(comparisons: list[Comparison]) -> Any:
    from rich.table import Table

    table = Table("task", "n", "solved before", "after", "gained", "lost", "steps before", "after", box=None,
                  pad_edge=False)  # fmt: skip
    for one in comparisons:
        if one.can_something:
            shares = (f"{one.before:.1%}", f"{one.after:.1%}", str(one.gained), str(one.lost))
            table.add_row(one.task, str(one.n), *shares, f"{one.steps_before:.2f}", f"{one.steps_after:.2f}")
        else:
            table.add_row(one.task, str(one.n), "none", "none", "", "", "", "")
    return table
