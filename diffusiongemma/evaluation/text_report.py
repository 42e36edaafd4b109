"""The figures of `eval text`: prediction of held-out text, and continuations beside those of the human."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from diffusiongemma.evaluation import judge as judges
from diffusiongemma.evaluation.judge import Judge
from diffusiongemma.evaluation.questions import Suite
from diffusiongemma.evaluation.report import Run
from diffusiongemma.evaluation.text import Likelihood, Passage, score_continuation

SAMPLES = 3  # continuations that are printed, the first ones: nothing is picked


def text_report(
    passages: Sequence[Passage], predicted: Sequence[Likelihood], suite: Suite, runs: Sequence[Run],
    prefixes: Sequence[str], judge: Judge | None, **about: Any,
) -> dict[str, Any]:  # fmt: skip
    """What `--json` writes. `prefixes` are the texts that the suite's questions continue."""
    sources = dict.fromkeys(passage.source for passage in passages)
    by_source = {
        source: _predicted([one for p, one in zip(passages, predicted, strict=True) if p.source == source])
        for source in sources
    }
    human = [question.wanted for question in suite.questions]
    objects = [
        run.as_object(suite.grouping) | _continued(prefixes, [one.answer.text for one in run.scored], judge)
        for run in runs
    ]
    first = {name: objects[0][name] for name in ("mode", *_COST)} if objects else {}
    notes = list(suite.notes) + ([] if judge is not None else [judges.MISSING])
    return {
        "task": "text",
        **about,
        **_predicted(predicted),
        "by_source": by_source,
        **first,
        "judge": judges.NAME if judge is not None else None,
        "human": {"n": len(human)} | (_continued(prefixes, human, judge) if human else {}),
        "runs": objects,
        "samples": _samples(prefixes, suite, runs),
        **({"notes": notes} if notes else {}),
    }


_COST = ("steps_per_canvas", "effective_steps", "unconverged", "tokens_per_forward", "seconds")


def _predicted(likelihoods: Iterable[Likelihood]) -> dict[str, Any]:
    parts = list(likelihoods)
    return {"n": len(parts)} | sum(parts, Likelihood()).as_object()


def _continued(prefixes: Sequence[str], texts: Sequence[str], judge: Judge | None) -> dict[str, Any]:
    """What the judge says of continuations, all together, and how varied they are."""
    pairs = [score_continuation(text)["distinct_pairs"] for text in texts]
    figures: dict[str, Any] = {
        "distinct_pairs": round(sum(pairs) / len(pairs), 4),
        "empty": sum(not text.strip() for text in texts),
        "judge_perplexity": None,
        "judge_bits_per_byte": None,
    }
    if judge is not None:
        total = judge.of_all(zip(prefixes, texts, strict=True))
        # Of no text at all there is nothing to say.
        if total.tokens:
            figures["judge_perplexity"] = round(total.perplexity, 2)
            figures["judge_bits_per_byte"] = round(total.bits_per_byte, 4)
    return figures


def _samples(prefixes: Sequence[str], suite: Suite, runs: Sequence[Run]) -> list[dict[str, Any]]:
    return [
        {
            "prefix": prefixes[i],
            "human": suite.questions[i].wanted,
            "continuations": [
                {
                    "mode": run.setting.mode,
                    "steps": run.setting.steps,
                    **run.setting.more,
                    "seed": run.scored[i].answer.seed,
                    "text": run.scored[i].answer.text,
                }
                for run in runs
            ],
        }
        for i in range(min(SAMPLES, len(suite.questions)))
    ]
