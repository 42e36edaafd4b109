"""Small talk and talk about oneself: what people say first, and what nano answers (`data/talk.toml`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffusiongemma.tasks.example import Example, Split, choose, in_split
from recipes.nano.phrases import read_phrases
from recipes.nano.sources.phrasing import is_probe, varied


@dataclass(frozen=True)
class Intent:
    """Ways to say the same thing, and the answers to it."""

    said: tuple[str, ...]
    answers: tuple[str, ...]
    share: float = 1.0


INTENTS: dict[str, Intent] = {
    name: Intent(tuple(filter(None, one["said"].split("\n"))), one["answers"], one.get("share", 1.0))
    for name, one in read_phrases("talk").items()
}


def generate(rng: np.random.Generator, split: Split) -> Example:
    """One remark and its answer; test has wordings that training never shows. meta holds the `intent`."""
    names = list(INTENTS)
    shares = np.array([INTENTS[name].share for name in names])
    while True:
        name = names[int(rng.choice(len(names), p=shares / shares.sum()))]
        said = choose(rng, INTENTS[name].said)
        if not in_split(f"said {said}", split):
            continue
        prompt = varied(rng, said)
        if not is_probe(prompt):
            return Example(prompt, choose(rng, INTENTS[name].answers), {"intent": name})
