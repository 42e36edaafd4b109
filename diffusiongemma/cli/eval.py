"""`diffusiongemma eval`: measure a model on held-out work."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from diffusiongemma.cli import options as given
from diffusiongemma.cli.answering import Here, OnRay, on_ray
from diffusiongemma.cli.configuration import cache_path
from diffusiongemma.cli.running import open_model, say
from diffusiongemma.cli.serve import REPLICAS, Ray, ReplicaCpus, ReplicaGpus
from diffusiongemma.errors import InputError
from diffusiongemma.files import check_replaceable, write_whole
from diffusiongemma.options import DECODING, check

if TYPE_CHECKING:
    from rich.console import RenderableType

    from diffusiongemma.api import DiffusionGemma
    from diffusiongemma.evaluation.answering import Setting
    from diffusiongemma.evaluation.questions import Suite
    from diffusiongemma.evaluation.report import Run
    from diffusiongemma.evaluation.text import Passage

T = TypeVar("T")
Outcome = tuple["list[Run]", dict[str, Any], "Iterable[RenderableType]"]  # runs, what --json writes, tables

TASKS = ("sudoku", "extraction", "repair", "words", "answers", "text", "infill")
PUZZLES, QUESTIONS = 400, 200  # asked unless --limit says otherwise
BATCH, CONTINUATIONS = 16, 24
QUESTIONS_PANEL = "Questions"


def _question(metavar: str, help: str) -> Any:
    return typer.Option(metavar=metavar, help=help, rich_help_panel=QUESTIONS_PANEL)


def _way(metavar: str, help: str) -> Any:
    return typer.Option(metavar=metavar, help=help, rich_help_panel=DECODING)


LIMIT = _question("N", "Questions to ask. (default: 400 puzzles, 200 of the others, all of a file)")
SEED = _question("N", "Draws the questions; question i is answered with seed N + i.")
FILE = _question(
    "FILE",
    "sudoku: your puzzles, one a line, 81 characters, . or 0 for a blank, optionally a comma and the solution. "
    "text, infill: your text.",
)
GIVENS = _question("LOW-HIGH", "sudoku: a mix of these. (default: as many of each class)")
CORPORA = _question("DIR", "text, infill: where corpora are kept, fetched if missing. (default: the user's cache)")
SOURCE = _question("NAME", "text, infill: a corpus; repeat for more. (default: all)")
CONTINUED = _question("N", "text: passages to continue, 0 for none.")
MODE = _way("diffusion|ar|both", "Whole canvases, token by token, or both side by side.")
STEPS = _way("N", "Most denoise steps of a canvas; repeat to compare. (default: the checkpoint's)")
VERIFY = _way(
    "never|unconverged|surprising|always",
    "Which canvases the encoder checks, as in `run`; repeat to compare. (default: the checkpoint's)",
)
CONSTRAINED = "sudoku, extraction: also with answers held to what is known of them: givens and digits, the schema."
ENGINES = typer.Option("--replicas", metavar="N", min=1, help="With --ray: so many engines.", rich_help_panel=REPLICAS)
SAVE = "Write every answer and its score, as JSON lines."


@given.takes("eval")
def evaluate(
    task: Annotated[str, typer.Argument(metavar="|".join(TASKS), help="What to measure.")],
    model: given.Model = "nano",
    limit: Annotated[int | None, LIMIT] = None,
    seed: Annotated[int, SEED] = 0,
    file: Annotated[Path | None, FILE] = None,
    givens: Annotated[str | None, GIVENS] = None,
    corpora: Annotated[Path | None, CORPORA] = None,
    source: Annotated[list[str] | None, SOURCE] = None,
    continuations: Annotated[int, CONTINUED] = CONTINUATIONS,
    mode: Annotated[str, MODE] = "diffusion",
    steps: Annotated[list[int] | None, STEPS] = None,
    verify: Annotated[list[str] | None, VERIFY] = None,
    *,
    options: given.Options,
    constrained: Annotated[bool, typer.Option("--constrained", help=CONSTRAINED, rich_help_panel=DECODING)] = False,
    batch: Annotated[int, _way("N", "Questions answered at a time.")] = BATCH,
    save: Annotated[Path | None, typer.Option(metavar="FILE", help=SAVE, rich_help_panel=given.OUTPUT)] = None,
    as_json: given.Json = False,
    ray: Ray = None,
    replicas: Annotated[int | None, ENGINES] = None,
    replica_cpus: ReplicaCpus = None,
    replica_gpus: ReplicaGpus = None,
    loading: given.Loading,
) -> None:
    """Measure a model on questions that it was not trained on.

    The same seed asks the same questions. Shares come with their 95 % interval.
    """
    _check(task, limit, batch, continuations, file=file, givens=givens, source=source, constrained=constrained)
    check({"seed": seed})
    from diffusiongemma.diffusion.decoding import Decoding
    from diffusiongemma.evaluation.answering import settings

    asked_ways = partial(settings, mode, steps or [], constrained=constrained, verify=verify or [])
    asked_ways(Decoding())  # for its complaints, before anything is loaded
    if mode == "ar" and "patience" in options:
        raise InputError("autoregressive decoding has no canvas: leave `patience` out, or use `mode` both")
    if save is not None:
        _check_writable(save)
    reads = task in ("text", "infill")
    engines = on_ray(reads, model, loading, batch, ray, replicas, replica_cpus, replica_gpus)
    if task == "infill":
        _check_infill(mode, steps or [], verify or [], batch, continuations, save)
    asked = None if reads else _suite(task, limit, seed, file, givens)
    passages = _passages(task, limit, seed, file, corpora, source or []) if reads else []
    answering = engines() if engines else Here(open_model(model, loading), batch)
    measured = Measured(answering, model, seed, batch, options, as_json or not sys.stderr.isatty())
    ways = asked_ways(answering.generation)
    if asked is not None:
        runs, report, shown = measured.skill(asked, ways)
    elif task == "infill":
        runs, report, shown = measured.infilling(passages, steps or [])
    else:
        runs, report, shown = measured.text(passages, continuations, ways)
    if save is not None:
        _save_answers(save, runs)
    _show(report, shown, as_json)


# --- what to ask -----------------------------------------------------------------------------------------------------


def _check(task: str, limit: int | None, batch: int, continuations: int, **options: Any) -> None:
    """Raises `InputError` for values out of range and for options that the task has not."""
    if task not in TASKS:
        raise InputError(f"no evaluation {task!r}: choose {', '.join(TASKS)}")
    for name, value, least in (("limit", limit, 1), ("batch", batch, 1), ("continuations", continuations, 0)):
        if value is not None and value < least:
            raise InputError(f"give a whole number of at least {least}", option=name, got=value)
    only_of = {
        "file": ("sudoku", "text", "infill"),
        "givens": ("sudoku",),
        "source": ("text", "infill"),
        "constrained": ("sudoku", "extraction"),
    }
    for name, tasks in only_of.items():
        if options[name] and task not in tasks:
            raise InputError(f"`{name}` is for eval {' and '.join(tasks)}: leave it out")
    for name in ("givens", "source"):
        if options["file"] and options[name]:
            raise InputError(f"`file` brings its own questions: leave `{name}` out")


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
        raise InputError("eval infill is by diffusion, with one number of steps: leave out `mode` and further `steps`")
    if verify:
        raise InputError("the encoder cannot check what is filled in: leave `verify` out")
    if save is not None or (batch, continuations) != (BATCH, CONTINUATIONS):
        raise InputError("`save`, `batch` and `continuations` are not for eval infill: leave them out")


def _passages(
    task: str, limit: int | None, seed: int, file: Path | None, corpora: Path | None, sources: list[str]
) -> list[Passage]:
    from diffusiongemma.evaluation.text import PROSE, check_corpora, corpus_passages, file_passages

    if file is not None:
        return file_passages(file, limit, seed)
    sources = sources or (list(PROSE) if task == "infill" else [])
    check_corpora(sources)
    where = corpora or cache_path() / "corpora"
    say(f"texts are kept in {where}; what is missing there is fetched from the package archives of Debian and Python")
    return corpus_passages(where, sources, limit or QUESTIONS, seed)


# --- asking, and what comes of it ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """A model, and how it is to be asked."""

    answering: Here | OnRay
    name: str
    seed: int
    batch: int
    options: dict[str, Any]
    silent: bool

    @property
    def about(self) -> dict[str, Any]:
        return {"model": self.name, "seed": self.seed, "batch": self.batch, **self.options}

    @property
    def model(self) -> DiffusionGemma:
        assert isinstance(self.answering, Here), "what reads texts is asked here"
        return self.answering.model

    def skill(self, suite: Suite, ways: list[Setting]) -> Outcome:
        from diffusiongemma.evaluation.report import report
        from diffusiongemma.evaluation.tables import tables

        runs = self._runs(suite, ways)
        return runs, report(suite, runs, **self.about), tables(suite, runs)

    def text(self, passages: list[Passage], continuations: int, ways: list[Setting]) -> Outcome:
        from rich.console import Console

        from diffusiongemma.evaluation.judge import load_judge
        from diffusiongemma.evaluation.tables import text_tables
        from diffusiongemma.evaluation.text import continuation_suite, likelihoods
        from diffusiongemma.evaluation.text_report import text_report

        read = likelihoods(self.model, passages, self.batch)
        predicted = list(self._watched(read, len(passages), "reading held-out text"))
        suite, prefixes = continuation_suite(self.model, passages, continuations)
        runs = self._runs(suite, ways) if suite.questions else []
        with Console(stderr=True).status("asking the judge"):
            judge = load_judge() if runs else None
            report = text_report(passages, predicted, suite, runs, prefixes, judge, **self.about)
        return runs, report, text_tables(report)

    def infilling(self, passages: list[Passage], steps: list[int]) -> Outcome:
        from rich.console import Console

        from diffusiongemma.evaluation.infilling import filled, gaps, infilling_report
        from diffusiongemma.evaluation.judge import load_judge
        from diffusiongemma.evaluation.tables import infilling_table

        wanted = gaps(passages)
        options = self.options | ({"steps": steps[0]} if steps else {})
        done = list(self._watched(filled(self.model, wanted, self.seed, options), len(wanted), "filling gaps"))
        with Console(stderr=True).status("asking the judge"):
            about = {"model": self.name, "seed": self.seed, **options}
            report = infilling_report(done, load_judge() if done else None, **about)
        return [], report, [infilling_table(report)] if report["better"] is not None else []

    def _runs(self, suite: Suite, ways: list[Setting]) -> list[Run]:
        from diffusiongemma.evaluation import tally

        runs = []
        for way in ways:
            answers = self.answering.ask(suite, way, seed=self.seed, **self.options)
            runs.append(tally(suite, way, self._watched(answers, len(suite.questions), f"{suite.name}, {way}")))
        return runs

    def _watched(self, items: Iterable[T], total: int, what: str) -> Iterable[T]:
        """The items, with a progress bar on stderr."""
        from rich.console import Console
        from rich.progress import track

        console = Console(stderr=True)
        return track(items, what, total, console=console, transient=True, disable=self.silent)


def _show(report: dict[str, Any], shown: Iterable[RenderableType], as_json: bool) -> None:
    if as_json:
        json.dump(report, sys.stdout, ensure_ascii=False)
        print()
        return
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    console.print(
        f"{report['task']} · model {report['model']} · seed {report['seed']} · n = {report['n']}\n", markup=False
    )
    for table in shown:
        console.print(table)
        console.print()
    for note in report.get("notes", ()):
        console.print(note, style="dim", markup=False, soft_wrap=True)


def _check_writable(path: Path) -> None:
    """Raises `InputError` where the answers could not be saved, before the work is done."""
    try:
        check_replaceable(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}: choose another place") from None


def _save_answers(path: Path, runs: list[Run]) -> None:
    """One line of JSON for each answer."""
    lines = [json.dumps(one.as_object() | asdict(run.setting)) for run in runs for one in run.scored]
    write_whole(path, "".join(line + "\n" for line in lines))
