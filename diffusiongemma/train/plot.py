"""The loss of a run as a picture, or as a line of characters where nothing can draw."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

BLOCKS, PLAIN = "▁▂▃▄▅▆▇█", "_.-=+*#@"


def curves(records: Sequence[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Figures by step, of the records of a run; where a step was done again, the later one."""
    found: dict[str, dict[int, float]] = {}
    for record in records:
        for name in ("denoise", "encoder", "held_out_loss", "solved"):
            if name in record:
                found.setdefault(name, {})[record["step"]] = record[name]
    return {name: sorted(points.items()) for name, points in found.items()}


def smoothed(values: Sequence[float], width: int) -> list[float]:
    """Means over at most `width` stretches of equal length."""
    count = min(width, len(values))
    cuts = [round(i * len(values) / count) for i in range(count + 1)] if count else []
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(cuts)]


def sparkline(values: Sequence[float], width: int = 60, plain: bool = False) -> str:
    """Values as a line of characters, low to high."""
    marks = PLAIN if plain else BLOCKS
    means = smoothed(values, width)
    low, high = min(means, default=0.0), max(means, default=0.0)
    scale = (len(marks) - 1) / (high - low) if high > low else 0.0
    return "".join(marks[round((mean - low) * scale)] for mean in means)


def save_plot(records: Sequence[dict[str, Any]], path: Path) -> bool:
    """Write a PNG; False where matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="step", ylabel="nats per token")
    for name, points in curves(records).items():
        steps, values = zip(*points, strict=True)
        if name == "solved":
            share = axes.twinx()
            share.set(ylabel="share solved", ylim=(0, 1))
            share.plot(steps, values, "o-", color="tab:red", label=name)
        elif len(points) > 100:
            axes.plot(smoothed(steps, 200), smoothed(values, 200), label=name)
        else:
            axes.plot(steps, values, label=name)
    figure.legend(loc="outside upper center", ncols=4)
    figure.savefig(path, dpi=120)
    return True
