"""Short reports of a cause and what came of it, to be summed up in a sentence, by rule."""

from __future__ import annotations

import numpy as np

from diffusiongemma.tasks.example import Example, Split, chance, choose, in_split
from diffusiongemma.tasks.vocabulary import MEN, WEEKDAYS, WOMEN
from recipes.nano.phrases import read_phrases
from recipes.nano.sources.phrasing import is_probe, varied

_PHRASES = read_phrases("reports")


def generate(rng: np.random.Generator, split: Split) -> Example:
    """A report and its summary, or a question for its reason; meta holds the `kind` and what the answer must name."""
    while True:
        event, cause, first, second = choose(rng, _PHRASES["events"])
        if not in_split(f"event {event}", split):
            continue
        who = choose(rng, ("we", "they", "I", choose(rng, WOMEN), choose(rng, MEN)))
        shown = {
            "e": event,
            "E": event[0].upper() + event[1:],
            "c": cause,
            "w": who,
            "W": who[0].upper() + who[1:],
            "a": first,
            "b": second,
            "day": choose(rng, WEEKDAYS),
        }
        text = choose(rng, _PHRASES["forms"]).format(**shown)
        if chance(rng, 0.25):
            subject, verb, rest = _split(event)
            prompt = choose(rng, _PHRASES["why"]).format(q=f"{verb} {subject} {rest}".strip(), t=text)
            answer, kind = f"Because of {cause}.", "reason"
        else:
            prompt = choose(rng, _PHRASES["requests"]).format(t=text)
            answer, kind = f"{shown['E']} because of {cause}, so {who} {first}.", "summary"
        first_line, _, rest_lines = prompt.partition("\n")
        if text not in first_line:
            prompt = varied(rng, first_line, keep=0.6) + ("\n" + rest_lines if rest_lines else "")
        if not is_probe(prompt) and not is_probe(text):
            return Example(prompt, answer, {"kind": kind, "names": [cause, first] if kind == "summary" else [cause]})


def _split(event: str) -> tuple[str, str, str]:
    """`the bus was late` -> the bus, was, late; `the river rose` -> the river rose, was it that, (nothing)."""
    for verb in (" was ", " were ", " did "):
        if verb in event:
            subject, rest = event.split(verb, 1)
            return subject, verb.strip(), rest
    return event, "is it that", ""
