"""One everyday sentence with one mistake of those that people make most: a wrong form of a verb, a misspelt word."""

from __future__ import annotations

import numpy as np

from diffusiongemma.tasks.example import Example, Split, chance, choose, in_split
from diffusiongemma.tasks.repair import misspell
from recipes.nano.sources.editing import VERBS
from recipes.nano.sources.mending import AGREEMENT, COMMON_MISSPELLINGS, REQUESTS, Damage, articles, forms, swap
from recipes.nano.sources.phrasing import is_probe, varied
from recipes.nano.sources.sentences import everyday, shopping, third


def _both_forms(verb: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """Each present form of a verb, with the other one."""
    return (verb, third(verb)), (third(verb), verb)


_AGREEMENT = AGREEMENT | {form: wrong for verb, _ in VERBS for form, wrong in _both_forms(verb)}
_SLIPS: tuple[tuple[str, Damage, float], ...] = (
    ("grammar", lambda text, rng: swap(text, rng, _AGREEMENT), 6.0),
    ("grammar", forms, 0.7),
    ("grammar", articles, 0.8),
    ("spelling", lambda text, rng: swap(text, rng, COMMON_MISSPELLINGS, 2), 3.0),
    ("spelling", lambda text, rng: misspell(text, rng, 1), 1.0),
    ("all", lambda text, rng: text.lower().rstrip("."), 0.5),
)


def generate(rng: np.random.Generator, split: Split) -> Example:
    """One everyday sentence with one mistake as people make most, and nothing around it; meta as of `mending.generate`.

    A wrong verb is a token of a hundred that are copied: among longer texts a model learns to copy and little else.
    """
    shares = np.array([share for *_, share in _SLIPS])
    while True:
        edit, damage, _ = _SLIPS[int(rng.choice(len(_SLIPS), p=shares / shares.sum()))]
        answer = shopping(rng) if edit == "spelling" and chance(rng, 0.6) else everyday(rng)
        source = damage(answer, rng)
        if source == answer or not in_split(answer, split) or is_probe(source) or is_probe(answer):
            continue
        request = choose(rng, REQUESTS[edit if chance(rng, 0.8) else "all"])
        request = request if chance(rng, 0.6) else varied(rng, request, keep=0.7)
        prompt = f"{request}\n\n{source}" if chance(rng, 0.8) else f"{request.rstrip('.?')}: {source}"
        return Example(prompt, answer, {"source": source, "edit": edit})
