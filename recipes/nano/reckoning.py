"""`python -m recipes.nano sums MODEL --limit 400`: what share of sums a model gets right, by operation.

Of numbers that training never had together, in the ways people ask; those of the tables, which training has all of,
are a line of their own. An answer is right that ends with the result.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict

import numpy as np

from diffusiongemma.errors import InputError
from diffusiongemma.tasks import Example
from recipes.nano.sources import sums

BATCH = 32
NUMBER = re.compile(r"(?<!\d)-?\d+")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="nano, or a directory")
    parser.add_argument("--limit", type=int, default=400, help="sums in all, and half as many of the tables")
    parser.add_argument("--mode", default="diffusion", choices=("diffusion", "ar"))
    parser.add_argument("--verify", choices=("never", "unconverged", "surprising"), help="default: the model's own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print so many wrong answers of each")


def run(options: argparse.Namespace) -> None:
    """Raises `InputError` for a limit below 2."""
    import diffusiongemma as dg

    if options.limit < 2:
        raise InputError("give a number of at least 2", option="--limit", got=options.limit)
    model = dg.load(options.model)
    how = {"mode": options.mode, "seed": options.seed} | ({"verify": options.verify} if options.verify else {})
    asked = questions(options.limit, options.seed)
    results = model.generate([e.prompt for e in asked], max_batch=BATCH, **how)
    said: dict[str, list[tuple[Example, str]]] = defaultdict(list)
    for example, result in zip(asked, results, strict=True):
        said[example.meta["operation"]].append((example, result.text))
    for operation, pairs in {"held out": [p for k, v in said.items() if k != "tables" for p in v], **said}.items():
        wrong = [(e, text) for e, text in pairs if not is_right(e, text)]
        print(f"{operation:<12} {1 - len(wrong) / len(pairs):4.0%} of {len(pairs)}", flush=True)
        for example, text in wrong[: options.show if operation in said else 0]:
            print(f"    {example.prompt!r}\n    -> {text!r}\n    not {example.answer!r}")


def questions(limit: int, seed: int) -> list[Example]:
    """So many sums that training never has, and half as many of the tables; meta says the `operation`."""
    rng = np.random.default_rng(seed)
    held = [sums.ask(sums.held_out(rng), rng) for _ in range(limit)]
    tables = [sums.ask(sums.of_tables(rng), rng) for _ in range(limit // 2)]
    return [*held, *(Example(e.prompt, e.answer, e.meta | {"operation": "tables"}) for e in tables)]


def is_right(example: Example, answer: str) -> bool:
    """Whether the last number is the result."""
    numbers = NUMBER.findall(answer)
    return bool(numbers) and int(numbers[-1]) == example.meta["result"]
