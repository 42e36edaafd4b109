"""How often `decide` is right, and how sure it is, on decisions made by rule (`recipes.nano.sources.deciding`).

`python bench/decisions.py --questions 120` prints the share that is right, what choosing blindly gets, and the mean
probability of what was chosen: where that is above the share that is right, the probabilities are too sure.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

import diffusiongemma as dg

sys.path.insert(0, str(Path(__file__).parents[1]))

from recipes.nano.sources.deciding import generate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--questions", type=int, default=120)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--samples", type=int, default=1)
    asked = parser.parse_args()
    model, rng = dg.load(asked.model), np.random.default_rng(1)
    rows = []
    for _ in range(asked.questions):
        example = generate(rng, "test")
        labels = dict.fromkeys(example.meta["options"], "")
        question = {"type": "choice", "instructions": example.prompt, "criteria": labels}
        answer = model.decide("", {"q": question}, steps=asked.steps, samples=asked.samples).answers["q"]
        rows.append((answer.value == example.answer, 1 / len(labels), max(answer.probabilities.values())))
    right, blind, sure = np.array(rows, float).mean(0)
    print(f"{asked.questions} questions: {right:.1%} right, blindly {blind:.1%}, mean probability {sure:.2f}")


if __name__ == "__main__":
    main()
