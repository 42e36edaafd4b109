"""Scored problems from the `reasoning-gym` package (Apache-2.0), an optional extra: those with short answers.

The package numbers its problems; the train and test halves are told apart by the hash of the question.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from diffusiongemma.tasks.example import Example, Split, choose, in_split

GENERATORS: dict[str, dict[str, Any]] = {  # name in reasoning-gym → settings that a small model can hope to learn
    "chain_sum": {"max_terms": 3, "max_digits": 3},
    "basic_arithmetic": {"max_terms": 3, "max_digits": 2, "operators": ["+", "-", "*"]},
    "products": {"max_digits": 2},
    "gcd": {"max_value": 100},
    "lcm": {"max_value": 20},
    "simple_equations": {"max_terms": 2, "max_value": 20},
    "simple_geometry": {"max_sides": 4},
    "leg_counting": {"max_animals": 3, "max_instances": 5},
    "number_sequence": {"max_terms": 6, "min_value": 0, "max_value": 50, "max_complexity": 1},
    "number_filtering": {"max_numbers": 6, "max_decimals": 0},
    "letter_counting": {"min_words": 2, "max_words": 6},
    "spell_backward": {"max_word_len": 7},
    "word_sorting": {"max_words": 6},
    "word_sequence_reversal": {"max_words": 6},
    "count_bits": {"max_n": 255},
    "prime_factorization": {"max_value": 200},
    "base_conversion": {"max_base": 10, "max_value": 200},
    "calendar_arithmetic": {"tasks": ["weekday_offset", "weekday_of_date_from_first_date", "is_leap_year"]},
    "family_relationships": {"max_family_size": 5},
    "syllogism": {},
}
_PROBLEM_NUMBERS = 2**31


def generate(rng: np.random.Generator, split: Split) -> Example:
    """One problem; meta holds its `kind` (a key of GENERATORS) and its `number`, from which it can be made again.

    Raises ImportError, saying what to install, when reasoning-gym is missing.
    """
    kind = choose(rng, tuple(GENERATORS))
    while True:
        number = int(rng.integers(_PROBLEM_NUMBERS))
        problem = _dataset(kind)[number]
        if in_split(f"{kind} {problem['question']}", split):
            return Example(problem["question"].strip(), str(problem["answer"]), {"kind": kind, "number": number})


def score(example: Example, text: str) -> dict[str, Any]:
    """`exact` (the same text), `points` (0-1 by reasoning-gym's own judge, which accepts other right answers)."""
    kind = example.meta["kind"]
    dataset = _dataset(kind)
    try:
        points = dataset.score_answer(text.strip(), dataset[example.meta["number"]])
    except Exception:  # some of the package's judges raise on an answer that they cannot parse
        points = 0.0
    return {"exact": text.strip() == example.answer, "points": float(points), "kind": kind}


@cache
def _dataset(kind: str) -> Any:
    try:
        import reasoning_gym
    except ImportError as error:
        raise ImportError("this task needs the package reasoning-gym: pip install reasoning-gym") from error
    return reasoning_gym.create_dataset(kind, seed=0, size=_PROBLEM_NUMBERS, **GENERATORS[kind])
