"""`python -m recipes.nano by-source MODEL --limit 40`: what a model has learnt of each source of a recipe.

Held-out questions of every source (`everyday`), apart from sudokus. Right is the answer itself, of small talk any of an
intent's, of JSON the same object, of lists any of so many that fit. Of poems, stories and the like it counts one
answer alone, so figures are of use beside those of other weights.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from diffusiongemma.errors import InputError
from diffusiongemma.tasks import Example
from recipes.nano import reckoning
from recipes.nano.everyday import SHARES, Make, Materials, taught
from recipes.nano.first_words import parsed
from recipes.nano.mixtures import DataDirs
from recipes.nano.sources import talk

BATCH = 25


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="nano, or a directory")
    parser.add_argument("--recipe", choices=SHARES, default="whole")
    parser.add_argument("--limit", type=int, default=40, help="questions of each source")
    parser.add_argument("--mode", default="ar", choices=("diffusion", "ar"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print so many wrong answers of each")
    parser.add_argument("--corpora", type=Path, default=Path("runs/corpora"), help="where texts are fetched to")
    parser.add_argument("--written", type=Path, default=Path("runs/written"), help="what `recipes.nano.writer` wrote")


def run(options: argparse.Namespace) -> None:
    """Raises `InputError` for a limit below 1."""
    import diffusiongemma as dg

    if options.limit < 1:
        raise InputError("give a number of at least 1", option="--limit", got=options.limit)
    model = dg.load(options.model)
    materials = Materials.read(DataDirs(corpora=options.corpora, written=options.written))
    for name, make in held_out(options.recipe, materials):
        rng = np.random.default_rng(options.seed)
        examples = [make(rng) for _ in range(options.limit)]
        results = model.generate([e.prompt for e in examples], max_batch=BATCH, mode=options.mode, seed=options.seed)
        answers = [result.text for result in results]
        wrong = [(e, a) for e, a in zip(examples, answers, strict=True) if not is_right(e, a)]
        share = 1 - len(wrong) / len(examples)
        print(f"{name:<32} {share:4.0%} of {len(examples)}", flush=True)
        for example, answer in wrong[: options.show]:
            print(f"    {example.prompt!r}\n    -> {answer!r}\n    not {example.answer!r}")


def held_out(recipe: str, materials: Materials) -> Iterator[tuple[str, Make]]:
    """(name, generator of its test half) of each source."""
    for part in taught(recipe, materials, "test"):
        for name, (make, _) in part.items():
            yield name, make


def is_right(example: Example, answer: str) -> bool:
    """Whether it is the answer, or one of the same kind."""
    said = answer.strip()
    if "intent" in example.meta:
        return said in talk.INTENTS[example.meta["intent"]].answers
    if "record" in example.meta:
        return bool(parsed(said) == example.meta["record"])
    if "right" in example.meta:
        return _names(said, example.meta["right"], example.meta["number"])
    if "result" in example.meta:
        return reckoning.is_right(example, said)
    return said == example.answer.strip()


def _names(said: str, right: Sequence[str], number: int) -> bool:
    """Whether it lists so many of the right ones, in a sentence or in lines."""
    wanted = {_bare(name) for name in right}
    named = [_bare(part) for part in re.split(r",|\n|\band\b", said.rstrip("."))]
    return len(set(named)) == len(named) == number and wanted >= {*named}


def _bare(name: str) -> str:
    """Without number or article."""
    return re.sub(r"^(?:\d+\. |- )?(?:(?:an?|the) )?", "", name.strip().lower())
