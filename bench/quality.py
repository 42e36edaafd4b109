"""What few bits cost: the embedded models in each scheme, on the same questions with the same seeds.

    python bench/quality.py --questions 600 120 120 --out bench/results/quality.json

For each model and scheme: the share of held-out questions solved, the mean steps of a canvas, the error of the weights,
and what was gained and lost against full precision, question by question; and nats a token of an English text under
the encoder, for a model that solves nothing. The last lines are the tables of docs/quantization.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from pathlib import Path
from typing import Any

import torch

import diffusiongemma as dg
from diffusiongemma.evaluation import skill_suite, sudoku_suite
from diffusiongemma.evaluation.comparison import COMPARED, answered, comparison
from diffusiongemma.evaluation.text import Likelihood, file_passages, likelihoods
from diffusiongemma.weights.locate import ASSETS
from diffusiongemma.weights.quantize import quantize
from diffusiongemma.weights.schemes import KINDS, Scheme


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--questions", type=int, nargs="+", default=[60], help=f"of each task, or of {', '.join(COMPARED)} one by one"
    )
    parser.add_argument("--models", nargs="+", default=["nano", "nano-base"])
    parser.add_argument("--schemes", nargs="+", default=list(KINDS))
    parser.add_argument("--text", type=Path, default=Path("docs/architecture.md"))
    parser.add_argument("--activations", default="auto", help="as in dg.load: auto rounds them where there are kernels")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if len(options.questions) not in (1, len(COMPARED)):
        parser.error(f"--questions takes one number, or {len(COMPARED)}")
    questions = dict(zip(COMPARED, options.questions * (len(COMPARED) // len(options.questions)), strict=True))
    rows: list[dict[str, Any]] = []
    for name in options.models:
        if any(questions.values()):
            rows += measured(name, options.schemes, questions, options.activations)
        rows += read(name, options.schemes, options.text, options.activations)
    if options.out:
        conditions = {"torch": torch.__version__, "machine": platform.machine(), "dtype": "float32", "device": "cpu"}
        conditions["activations"] = options.activations
        options.out.write_text(json.dumps({"conditions": conditions, "rows": rows}, indent=1) + "\n")
    print("\n".join(table(rows)))


def measured(name: str, schemes: list[str], questions: dict[str, int], activations: str) -> list[dict[str, Any]]:
    suites = [
        sudoku_suite(n, 0, None) if task == "sudoku" else skill_suite(task, n, 0) for task, n in questions.items() if n
    ]
    full = [answered(dg.load(name), suite) for suite in suites]
    rows = []
    for scheme in schemes:
        with tempfile.TemporaryDirectory() as folder:
            changes = quantize(ASSETS / name, Path(folder) / "q", Scheme(scheme))
            model = dg.load(Path(folder) / "q", activations=activations)
            found = [comparison(suite, one, answered(model, suite)) for suite, one in zip(suites, full, strict=True)]
        error = (sum(c.squared_error for c in changes) / sum(c.squares for c in changes)) ** 0.5
        size = sum(change.after for change in changes)
        rows += [{"model": name, "scheme": scheme, "bytes": size, "error": error, **one.as_object()} for one in found]
        for one in found:
            print(f"{name:9} {scheme:5} {size / 1e6:4.1f} MB, error {error:.1%}: {one}", flush=True)
    return rows


def read(name: str, schemes: list[str], text: Path, activations: str) -> list[dict[str, Any]]:
    passages = file_passages(text, 10, 0)
    rows = []
    for scheme in (None, *schemes):
        model = dg.load(name, quantize=scheme, activations=activations)
        found = sum(likelihoods(model, passages, batch=4), Likelihood())
        rows.append({"model": name, "scheme": scheme, "text": str(text), **found.as_object()})
        print(f"{name:9} {scheme or 'full':5} {found.nats_per_token:.4f} nats a token of {text}", flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> list[str]:
    """A line of Markdown for each model and scheme whose answers were measured, as docs/quantization.md has them."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if "task" in row:
            found.setdefault((row["model"], row["scheme"]), []).append(row)
    lines = []
    for (model, scheme), tasks in found.items():
        cells = [f"{model} {scheme}", f"{tasks[0]['bytes'] / 1e6:.1f}", f"{tasks[0]['error']:.1%}".replace("%", " %")]
        for t in tasks:
            solved = f"{t['before']:.1%} → {t['after']:.1%}".replace("%", "").strip()
            cells.append(f"{solved} %, {t['steps_before']:.1f} → {t['steps_after']:.1f} steps (n = {t['n']})")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    main()
