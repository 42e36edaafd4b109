"""Infilling held-out text: does a fill go with what follows better than a continuation that has not seen it?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diffusiongemma.evaluation import judge as judges
from diffusiongemma.evaluation.judge import Judge
from diffusiongemma.evaluation.report import wilson
from diffusiongemma.evaluation.text import OWN, PREFIX, PROSE, Likelihood, Passage

if TYPE_CHECKING:
    from diffusiongemma.api import DiffusionGemma

WORDS = 6  # that are taken out of a passage
SUFFIX = 120  # characters of it behind the hole
SAMPLES = 3  # holes that are printed, the first ones: nothing is picked


@dataclass(frozen=True)
class Gap:
    """A passage with some words taken out."""

    prefix: str
    human: str
    suffix: str


def gaps(passages: Sequence[Passage]) -> list[Gap]:
    """One gap in each passage of prose that is long enough."""
    return [gap_in(p.text) for p in passages if p.source in (*PROSE, OWN) and len(p.text) >= 3 * PREFIX]


def gap_in(text: str) -> Gap:
    """A gap of `WORDS` words behind about `PREFIX` characters; the three parts add up to the text's beginning."""
    start = text.rfind(" ", 1, PREFIX)
    start = start if start > 0 else PREFIX
    stop = start
    for _ in range(WORDS):
        following = text.find(" ", stop + 1)
        stop = following if following > 0 else len(text)
    return Gap(text[:start], text[start:stop], text[stop : stop + SUFFIX])


@dataclass(frozen=True)
class Filled:
    """What came into the gap: infilled, and by a left-to-right continuation of the prefix alone, equally long."""

    gap: Gap
    fill: str
    continuation: str


def filled(model: DiffusionGemma, wanted: Sequence[Gap], seed: int, options: dict[str, Any]) -> Iterator[Filled]:
    """Each gap filled with as many tokens as the human's words have, gap i with seed `seed + i`."""
    for i, gap in enumerate(wanted):
        length = max(1, len(model.prompt(gap.human, raw=True).ids))
        length = min(length, model.config.canvas_length - 2)
        result = model.infill(gap.prefix, gap.suffix, length=length, seed=seed + i, **options)
        ids = [model.config.bos_token_id, *model.prompt(gap.prefix, raw=True).ids]
        ar = model.generate(ids, mode="ar", max_new_tokens=length, seed=seed + i, **options)
        yield Filled(gap, result.fills[0], ar.text)


def infilling_report(done: Sequence[Filled], judge: Judge | None, **about: Any) -> dict[str, Any]:
    """What `--json` writes. `better` is the share of gaps where the judge gives the words in the gap and what follows
    them, behind the prefix, a higher probability with the fill than with the continuation; draws count half."""
    report: dict[str, Any] = {
        "task": "infill",
        **about,
        "n": len(done),
        "judge": judges.NAME if judge is not None and done else None,
        "better": None,
        "samples": [{**vars(one.gap), "fill": one.fill, "continuation": one.continuation} for one in done[:SAMPLES]],
    }
    if not done:
        return report | {"notes": [f"no passage of prose is long enough ({3 * PREFIX} characters)"]}
    if judge is None:
        return report | {"notes": [judges.MISSING]}
    columns = {name: _judged(judge, done, name) for name in ("human", "fill", "continuation")}
    wins = sum(
        1.0 if a.nats < b.nats else 0.5 if a.nats == b.nats else 0.0
        for a, b in zip(columns["fill"], columns["continuation"], strict=True)
    )
    bounds = [round(bound, 4) for bound in wilson(round(wins), len(done))]
    bits = {name: round(sum(column, Likelihood()).bits_per_byte, 4) for name, column in columns.items()}
    return report | {"better": round(wins / len(done), 4), "better_95": bounds, "judge_bits_per_byte": bits}


def _judged(judge: Judge, done: Sequence[Filled], name: str) -> list[Likelihood]:
    """Of what stands in the gap and what follows it, behind the prefix."""
    middles = [one.gap.human if name == "human" else getattr(one, name) for one in done]
    return [
        judge.likelihood(one.gap.prefix, middle + one.gap.suffix) for one, middle in zip(done, middles, strict=True)
    ]
