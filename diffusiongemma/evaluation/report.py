"""From scored answers to figures: shares with their intervals, by group, and what the answers cost."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from diffusiongemma.evaluation.answering import Answer, Setting
from diffusiongemma.evaluation.questions import Question, Suite

Z95 = 1.959964  # standard normal quantile of a two-sided 95 % interval


@dataclass(frozen=True)
class Scored:
    """A question, the answer given, and its score."""

    question: Question
    answer: Answer
    score: dict[str, Any]

    def as_object(self) -> dict[str, Any]:
        answer = self.answer
        return {
            "prompt": self.question.prompt,
            "wanted": self.question.wanted,
            "text": answer.text,
            "group": self.question.group,
            **self.score,
            "seed": answer.seed,
            "tokens": answer.tokens,
            "forward_passes": answer.forward_passes,
            "canvas_steps": [canvas.steps for canvas in answer.canvases],
            "finish_reason": answer.finish_reason,
        }


@dataclass(frozen=True)
class Figures:
    """Means over `n` answers; those of yes-or-no figures are shares and have a 95 % interval (Wilson)."""

    n: int
    means: dict[str, float]
    intervals: dict[str, tuple[float, float]]

    @classmethod
    def of(cls, scores: Sequence[dict[str, Any]], names: Sequence[str]) -> Figures:
        n = len(scores)
        means = {name: sum(score[name] for score in scores) / n for name in names}
        yes_or_no = [name for name in names if all(isinstance(score[name], bool) for score in scores)]
        return cls(n, means, {name: wilson(sum(score[name] for score in scores), n) for name in yes_or_no})

    def as_object(self) -> dict[str, Any]:
        bounds = {f"{name}_95": [round(bound, 4) for bound in pair] for name, pair in self.intervals.items()}
        return {"n": self.n} | {name: round(value, 4) for name, value in self.means.items()} | bounds


@dataclass(frozen=True)
class Cost:
    """What the answers took. Figures of canvases are None in autoregressive mode.

    `effective_steps` weighs each canvas by the tokens it committed; `unconverged` is the share of canvases that
    ended without being sure of themselves; `seconds` is wall-clock time for all answers, in batches.
    """

    tokens: int
    forward_passes: int
    canvases: int
    steps_per_canvas: float | None
    effective_steps: float | None
    unconverged: float | None
    seconds: float

    @classmethod
    def of(cls, answers: Sequence[Answer], seconds: float) -> Cost:
        canvases = [canvas for answer in answers for canvas in answer.canvases]
        tokens = sum(canvas.tokens for canvas in canvases)
        weighted = sum(canvas.steps * canvas.tokens for canvas in canvases)
        return cls(
            sum(answer.tokens for answer in answers),
            sum(answer.forward_passes for answer in answers),
            len(canvases),
            sum(canvas.steps for canvas in canvases) / len(canvases) if canvases else None,
            weighted / tokens if tokens else None,
            sum(not canvas.converged for canvas in canvases) / len(canvases) if canvases else None,
            seconds,
        )

    @property
    def tokens_per_forward(self) -> float:
        return self.tokens / self.forward_passes if self.forward_passes else 0.0

    def as_object(self) -> dict[str, Any]:
        return {
            "steps_per_canvas": _rounded(self.steps_per_canvas),
            "effective_steps": _rounded(self.effective_steps),
            "unconverged": _rounded(self.unconverged),
            "tokens_per_forward": _rounded(self.tokens_per_forward),
            "tokens": self.tokens,
            "forward_passes": self.forward_passes,
            "canvases": self.canvases,
            "seconds": round(self.seconds, 2),
        }


@dataclass(frozen=True)
class Run:
    """One suite answered in one setting."""

    setting: Setting
    overall: Figures
    groups: dict[str, Figures]
    cost: Cost
    scored: list[Scored]

    def as_object(self, grouping: str) -> dict[str, Any]:
        by_group = {name: figures.as_object() for name, figures in self.groups.items()}
        return {
            "mode": self.setting.mode,
            "steps": self.setting.steps,
            **self.setting.more,
            **self.overall.as_object(),
            f"by_{grouping}": by_group,
            **self.cost.as_object(),
        }


def tally(suite: Suite, setting: Setting, answers: Iterable[tuple[int, Answer]]) -> Run:
    """Score the answers to all questions of a suite, timing how long they take to come."""
    started = time.perf_counter()
    given = dict(answers)
    seconds = time.perf_counter() - started
    scored = [Scored(q, given[i], q.score(given[i].text)) for i, q in enumerate(suite.questions)]
    groups: dict[str, list[dict[str, Any]]] = {name: [] for name in suite.group_order}
    for one in sorted(scored, key=lambda one: one.question.group):
        groups.setdefault(one.question.group, []).append(one.score)
    return Run(
        setting,
        Figures.of([one.score for one in scored], suite.figures),
        {name: Figures.of(scores, suite.figures) for name, scores in groups.items() if scores},
        Cost.of([one.answer for one in scored], seconds),
        scored,
    )


def report(suite: Suite, runs: Sequence[Run], **about: Any) -> dict[str, Any]:
    """What `--json` writes: the figures of the first run, then under `runs` those of all."""
    objects = [run.as_object(suite.grouping) for run in runs]
    notes = {"notes": list(suite.notes)} if suite.notes else {}
    return {"task": suite.name, **about, **objects[0], **notes, "runs": objects}


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Score interval of a share at 95 % (E. B. Wilson, 1927); it also holds near 0 and 1 and for small n."""
    if n == 0:
        return 0.0, 1.0
    share, z2 = successes / n, Z95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # At none and at all the bound is the share itself, which rounding would miss.
    return middle - half if successes else 0.0, middle + half if successes < n else 1.0


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
