"""Figures of a run as it goes: means over some steps, lines of text, a bar in a terminal; and durations."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import TracebackType
from typing import Any

from diffusiongemma.errors import InputError

MEAN_FIGURES = ("loss", "denoise", "encoder", "norm", "right", "also")
HIDDEN_FIGURES = ("step", "progress", "best", "seconds", "score")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def seconds_of(text: str) -> float:
    """Seconds of a duration: 3600, 3600s, 50m, 1h, 1.5h. Raises `InputError`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if seconds <= 0:
        raise InputError("write it like 50m, 3600s or 1h", option="budget", got=text)
    return seconds


class Means:
    """Means of the records of every so many steps."""

    def __init__(self, every: int):
        self.every = every
        self._records: list[dict[str, Any]] = []

    def add(self, record: dict[str, Any], show: Callable[[dict[str, Any]], None]) -> None:
        """Take a record; call `show` with the mean when there are enough, and at once with that of an evaluation."""
        if "score" in record:
            show(record)
            return
        self._records.append(record)
        if record["step"] % self.every == 0:
            show(self._mean())
            self._records.clear()

    def _mean(self) -> dict[str, Any]:
        last = {name: value for name, value in self._records[-1].items() if name not in MEAN_FIGURES}
        means = {}
        for name in MEAN_FIGURES:
            values = [record[name] for record in self._records if name in record]
            if values:
                means[name] = sum(values) / len(values)
        return last | means


def plain_line(record: dict[str, Any]) -> str:
    return " ".join(f"{name} {value:.4g}" for name, value in record.items())


class Bar:
    """A progress bar with the current figures on a terminal, else a line every `every` steps."""

    def __init__(self, every: int = 25):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.console = Console(stderr=True, highlight=False)
        self.means = Means(every if not self.console.is_terminal else 10)
        columns = (
            TextColumn("step {task.fields[step]}"), BarColumn(20), TimeElapsedColumn(), TextColumn("+"),
            TimeRemainingColumn(), TextColumn("{task.fields[figures]}"),
        )  # fmt: skip
        self.progress = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self.task = self.progress.add_task("train", total=1.0, step="0", figures="")

    def __enter__(self) -> Bar:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.progress.update(self.task, completed=1.0)
        self.progress.stop()

    def add(self, record: dict[str, Any]) -> None:
        if "progress" in record:
            self.progress.update(self.task, completed=record["progress"], step=f"{record['step']:,}")
        self.means.add(record, self._show)

    def _show(self, record: dict[str, Any]) -> None:
        lasting = "score" in record or not self.console.is_terminal
        # In 80 columns there is room for two figures beside the bar.
        hidden = HIDDEN_FIGURES if lasting else (*HIDDEN_FIGURES, "rate", "loss", "norm")
        text = " · ".join(f"{name} {value:.4g}" for name, value in record.items() if name not in hidden)
        if lasting:
            best = " · best so far" if record.get("best") else ""
            self.console.print(f"step {record['step']:,} · {text}{best}", soft_wrap=True)
        else:
            self.progress.update(self.task, figures=text)
