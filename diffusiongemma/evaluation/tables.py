"""Reports for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from diffusiongemma.evaluation.answering import Setting
from diffusiongemma.evaluation.questions import Suite
from diffusiongemma.evaluation.report import Figures, Run

_NONE = "–"


def tables(suite: Suite, runs: Sequence[Run]) -> Iterator[RenderableType]:
    """What each run got and took; then the figure that counts, by group, the runs side by side."""
    yield _run_table(suite, runs)
    if len(runs[0].groups) > 1:
        yield _group_table(suite, runs)


def _run_table(suite: Suite, runs: Sequence[Run]) -> Table:
    table = _table("decoding", *(name.replace("_", " ") for name in suite.figures), *_COST)
    for run in runs:
        table.add_row(str(run.setting), *(percent(run.overall, name) for name in suite.figures), *_cost(run))
    return table


def _group_table(suite: Suite, runs: Sequence[Run]) -> Table:
    headline = suite.figures[0]
    table = _table(suite.grouping, "n", *(f"{headline.replace('_', ' ')}, {run.setting}" for run in runs))
    for group, figures in runs[0].groups.items():
        table.add_row(group, str(figures.n), *(percent(run.groups[group], headline) for run in runs))
    return table


_COST = ("steps per canvas", "not sure", "tokens per forward", "seconds")


def _cost(run: Run) -> tuple[str, ...]:
    cost = run.cost
    return (
        _NONE if cost.steps_per_canvas is None else f"{cost.steps_per_canvas:.1f}",
        _NONE if cost.unconverged is None else f"{cost.unconverged:.0%}",
        f"{cost.tokens_per_forward:.1f}",
        f"{cost.seconds:.1f}",
    )


def percent(figures: Figures, name: str) -> str:
    """A share with its interval, or a mean, in per cent."""
    value = f"{100 * figures.means[name]:.1f} %"
    if name not in figures.intervals:
        return value
    low, high = figures.intervals[name]
    return f"{value} ({100 * low:.0f}–{100 * high:.0f})"


def text_tables(report: dict[str, Any]) -> Iterator[RenderableType]:
    """The report of `eval text`: prediction by source, then continuations beside those of the human."""
    table = _table("held-out text", "passages", "nats per token", "bits per byte")
    for name, figures in {**report["by_source"], "all": report}.items():
        table.add_row(name, str(figures["n"]), f"{figures['nats_per_token']:.3f}", f"{figures['bits_per_byte']:.3f}")
    yield table
    if report["runs"]:
        yield _continuations(report)


def infilling_table(report: dict[str, Any]) -> Table:
    """The report of `eval infill`."""
    table = _table("words in the gap by", "judge bits per byte, with what follows", "better than the continuation")
    low, high = report["better_95"]
    better = {"fill": f"{report['better']:.0%} ({low:.0%} to {high:.0%})"}
    for name, bits in report["judge_bits_per_byte"].items():
        table.add_row(name, f"{bits:.3f}", better.get(name, _NONE))
    return table


def _continuations(report: dict[str, Any]) -> Table:
    table = _table("continuations by", "judge perplexity", "judge bits per byte", "different word pairs", *_COST)
    table.add_row("the human", *_judged(report["human"]), *[_NONE] * len(_COST))
    for run in report["runs"]:
        steps = _NONE if run["steps_per_canvas"] is None else f"{run['steps_per_canvas']:.1f}"
        unsure = _NONE if run["unconverged"] is None else f"{run['unconverged']:.0%}"
        cost = (steps, unsure, f"{run['tokens_per_forward']:.1f}", f"{run['seconds']:.1f}")
        way = Setting(run["mode"], run["steps"], verify=run.get("verify", "never"))
        table.add_row(str(way), *_judged(run), *cost)
    return table


def _judged(figures: dict[str, Any]) -> tuple[str, str, str]:
    perplexity, bits = figures["judge_perplexity"], figures["judge_bits_per_byte"]
    return (
        _NONE if perplexity is None else f"{perplexity:,.1f}",
        _NONE if bits is None else f"{bits:.3f}",
        f"{100 * figures['distinct_pairs']:.1f} %",
    )


def _table(first: str, *columns: str) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table
