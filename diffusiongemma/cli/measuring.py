"""`diffusiongemma eval` at work: asking, then tables or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from diffusiongemma.errors import InputError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from diffusiongemma.api import DiffusionGemma
    from diffusiongemma.evaluation.answering import Setting
    from diffusiongemma.evaluation.questions import Suite
    from diffusiongemma.evaluation.report import Run
    from diffusiongemma.evaluation.text import Passage

T = TypeVar("T")
Outcome = tuple["list[Run]", dict[str, Any], "Iterable[RenderableType]"]  # runs, what --json writes, tables


@dataclass(frozen=True)
class Measured:
    """A model, and how it is to be asked."""

    model: DiffusionGemma
    name: str
    seed: int
    batch: int
    options: dict[str, Any]
    silent: bool

    @property
    def about(self) -> dict[str, Any]:
        return {"model": self.name, "seed": self.seed, "batch": self.batch, **self.options}

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
        from diffusiongemma.evaluation import ask, tally

        runs = []
        for way in ways:
            answers = ask(self.model, suite, way, seed=self.seed, batch=self.batch, **self.options)
            runs.append(tally(suite, way, self._watched(answers, len(suite.questions), f"{suite.name}, {way}")))
        return runs

    def _watched(self, items: Iterable[T], total: int, what: str) -> Iterable[T]:
        """The items, with a progress bar on stderr."""
        from rich.console import Console
        from rich.progress import track

        console = Console(stderr=True)
        return track(items, what, total, console=console, transient=True, disable=self.silent)


def show(report: dict[str, Any], shown: Iterable[RenderableType], as_json: bool) -> None:
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


def check_writable(path: Path) -> None:
    """Raises `InputError` where the answers could not be saved, before the work is done."""
    is_new = not path.exists()
    try:
        path.open("a").close()
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}: choose another place") from None
    if is_new:
        path.unlink()


def save_answers(path: Path, runs: list[Run]) -> None:
    """One line of JSON for each answer."""
    with path.open("w", encoding="utf-8") as file:
        for run in runs:
            for one in run.scored:
                file.write(json.dumps(one.as_object() | asdict(run.setting)) + "\n")
