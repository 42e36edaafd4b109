"""What things are and why they happen, in a sentence (`data/explanations.toml`)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import numpy as np

from diffusiongemma.tasks.example import Example, Split, choose, in_split
from recipes.nano.phrases import read_phrases
from recipes.nano.sources.knowledge import capital
from recipes.nano.sources.phrasing import is_probe, varied
from recipes.nano.writer.topics import THINGS, UNCOUNTABLE, with_article

_TOLD = read_phrases("explanations")
MEANINGS, REASONS = _TOLD["meanings"], _TOLD["reasons"]  # by what stands in "What is …?"; see there

# What is asked for first.
FIRST = (
    "a spider", "gravity", "a dog", "a cat", "the sun", "the moon", "a computer", "the internet", "rain", "snow",
    "artificial intelligence", "a rainbow", "time", "love", "money", "water", "electricity", "energy", "a volcano",
    "an earthquake", "a star", "a planet", "a tree", "a book", "a friend", "photosynthesis", "music", "sleep", "a bird",
    "a fish", "a horse", "a sudoku", "a language model", "text diffusion", "a robot", "light", "air", "a doctor",
    "a teacher", "a school", *tuple(REASONS)[:24],
)  # fmt: skip

_WHAT = (
    "What is {k}?",
    "What is {k}?",
    "What's {k}?",
    "Explain {k} in one sentence.",
    "Explain {k} in a sentence.",
    "Explain {k}.",
    "Explain {k} to me.",
    "Explain {k} to a child.",
    "Explain briefly what {k} is.",
    "Can you explain {k}?",
    "Define {k}.",
    "Tell me what {k} is.",
    "What do you know about {k}?",
    "What does {b} mean?",
    "Describe {k} in one sentence.",
    "Tell me about {k}.",
    "In one sentence, what is {k}?",
    "Do you know what {k} is?",
    "{K}?",
    "What exactly is {k}?",
    "Give a short explanation of {k}.",
    "What is meant by {b}?",
    "Please explain {k} in simple words.",
)
_WHY = (
    "{q}?",
    "{q}?",
    "{q}?",
    "Explain why {s}.",
    "Explain in one sentence why {s}.",
    "Tell me why {s}.",
    "Do you know why {s}?",
    "What is the reason that {s}?",
    "How come {s}?",
    "Can you tell me why {s}?",
)
_BASE = {"are": "be", "is": "be"}
# What a thing is, where nothing more is said of it: by the kind that `THINGS` lists it under.
_KINDS = {
    "animals": "an animal", "birds": "a bird", "insects": "a small animal", "sea animals": "an animal of the sea",
    "fruits": "a fruit", "vegetables": "a vegetable", "foods": "something to eat", "drinks": "something to drink",
    "tools": "a tool", "clothes": "something to wear", "vehicles": "a vehicle", "furniture": "a piece of furniture",
    "musical instruments": "a musical instrument", "plants": "a plant", "body parts": "a part of the body",
    "sports and games": "a sport or a game", "feelings": "a feeling", "school subjects": "a subject at school",
}  # fmt: skip


def _of_a_kind() -> dict[str, str]:
    """Key and explanation as in MEANINGS, of things that are not among them."""
    found: dict[str, str] = {}
    for kind, said in _KINDS.items():
        for name in THINGS[kind]:
            plain = name in UNCOUNTABLE or kind in ("sports and games", "feelings", "school subjects", "drinks")
            key = name if plain else with_article(name)
            if name.endswith("s") and not name.endswith("ss"):  # of many, or not to be told
                continue
            found.setdefault(key, f"{capital(key)} is {said}.")
    return {key: text for key, text in found.items() if key not in MEANINGS}


SIMPLE = _of_a_kind()


def question_of(marked: str) -> str:
    """`leaves /fall` -> `Why do leaves fall`, `the sky /is blue` -> `Why is the sky blue`."""
    subject, rest = (part.strip() for part in marked.split("/"))
    verb, _, tail = rest.partition(" ")
    if verb in ("is", "are", "can"):
        return f"Why {verb} {subject} {tail}"
    if subject == "it" or (verb.endswith("s") and not subject.endswith("s")):
        base = verb[:-2] if verb.endswith(("shes", "ches", "sses")) else verb[:-1]
        return f"Why does {subject} {base} {tail}".strip()
    return f"Why do {subject} {verb} {tail}".strip()


def what_is(rng: np.random.Generator, key: str) -> str:
    """One of the ways to ask what `key`, "gravity" or "a shadow", is."""
    return choose(rng, _WHAT).format(k=key, K=capital(key), b=re.sub(r"^(?:a|an|the) ", "", key))


def generate(rng: np.random.Generator, split: Split, keys: Collection[str] | None = None) -> Example:
    """One thing or reason to explain, of `keys` alone where these are given; meta holds its `kind` and `key`."""
    while True:
        drawn = rng.random()
        if drawn < 0.7:
            table, kind = (MEANINGS, "meaning") if drawn < 0.5 else (SIMPLE, "simple")
            key = choose(rng, tuple(table))
            asked, answer = what_is(rng, key), table[key]
        else:
            key = choose(rng, tuple(REASONS))
            said = key.replace("/", "")
            asked, answer, kind = choose(rng, _WHY).format(q=question_of(key), s=said), REASONS[key], "reason"
        if (keys is None or key in keys) and in_split(f"asked {asked}", split):
            prompt = varied(rng, asked)
            if not is_probe(prompt):
                return Example(prompt, answer, {"kind": kind, "key": key})


# --- words of WordNet -------------------------------------------------------------------------------------------------

FREQUENT = 3  # times that a word was counted in WordNet's texts, at least


def frequent_nouns(root: Path) -> list[str]:
    """Out of WordNet's files: plain nouns that its texts have often enough."""
    folder = next(root.rglob("data.noun")).parent
    counts = Counter[str]()
    for line in (folder / "cntlist.rev").read_text().splitlines():
        key, _sense, count = line.split()
        word, _, rest = key.partition("%")
        counts[word] += int(count) if rest[0] == "1" else 0
    lines = (folder / "index.noun").read_text().splitlines()
    words = (line.split()[0] for line in lines if not line.startswith(" "))
    return [word for word in words if word.isalpha() and counts[word] >= FREQUENT]
