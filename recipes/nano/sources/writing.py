"""Stories, poems, descriptions and answers that the writer wrote, asked for in many ways."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffusiongemma.tasks.example import Example, Split, chance, choose
from recipes.nano.sources.phrasing import is_probe, varied
from recipes.nano.writer.kinds import BY_NAME
from recipes.nano.writer.shards import read

LIKELIEST = 0.75  # the share of each kind's texts that is used, by the writer's own likelihood

REQUESTS: dict[str, tuple[str, ...]] = {
    "story": (
        "Tell me a story about {t}.",
        "Tell me a short story about {t}.",
        "Write a short story about {t}.",
        "Write a tiny story about {t}.",
        "Write a story about {t}.",
        "Can you tell me a story about {t}?",
        "A story about {t}, please.",
        "Make up a story about {t}.",
        "I want to hear a story about {t}.",
        "Invent a short story about {t}.",
        "Tell a tale about {t}.",
        "Write three sentences about what {t} did.",
        "Tell me a bedtime story about {t}.",
        "Write a very short story with {t} in it.",
    ),
    "poem": (
        "Write a poem about {t}.",
        "Write a short poem about {t}.",
        "Write me a poem about {t}.",
        "A poem about {t}, please.",
        "Can you write a poem about {t}?",
        "Make a rhyme about {t}.",
        "Write four lines about {t}.",
        "Compose a small poem on {t}.",
        "Write some verses about {t}.",
        "I'd like a poem about {t}.",
        "Poem about {t}",
        "Make up a poem about {t}.",
    ),
    "describe": (
        "Describe {t}.",
        "Describe {t} in one sentence.",
        "Say something about {t}.",
        "Tell me something about {t}.",
        "Tell me about {t}.",
        "What do you know about {t}?",
        "What can you say about {t}?",
        "Write a sentence that describes {t}.",
        "Write one sentence about {t}.",
    ),
    "sentence": (
        "Write a sentence about {t}.",
        "Write a sentence with {t}.",
        "Make a sentence with {t}.",
        "Give me a sentence about {t}.",
        "Use {t} in a sentence.",
    ),
    "paragraph": (
        "Write three sentences about {t}.",
        "Write a short text about {t}.",
        "Write a few sentences about {t}.",
        "Write a paragraph about {t}.",
        "Write something about {t}.",
    ),
    "message": (
        "Write a short message about {t}.",
        "Write a note about {t}.",
        "Write a message to a friend about {t}.",
        "Write two sentences to a friend about {t}.",
    ),
    "tip": (
        "How do I {t}?",
        "How can I {t}?",
        "Give me a tip: how do I {t}?",
        "Tell me how to {t}.",
        "How does one {t}?",
        "What is the best way to {t}?",
        "How to {t}?",
    ),
    "explain": ("Explain {t} in one sentence.", "Explain {t}.", "Can you explain {t}?", "What is {t}?"),
    "define": ("What is {t}?", "Define {t}.", "Explain what {t} is."),
    "why": ("Explain why {t}.", "Why is it that {t}?"),
    "things": ("Name three things that one finds in {t}.", "What can you find in {t}?", "List three things in {t}."),
    "remark": ("{t}.", "{t}", "{t}!"),
}
SHARES = {
    "story": 3.0,
    "poem": 3.0,
    "describe": 1.5,
    "sentence": 1.0,
    "paragraph": 1.0,
    "message": 0.7,
    "tip": 0.7,
    "remark": 1.5,
    "explain": 0.3,
    "define": 0.2,
    "why": 0.1,
    "things": 0.4,
}


@dataclass(frozen=True)
class Written:
    """(topic, request, text) by kind."""

    texts: dict[str, list[tuple[str, str, str]]]

    @classmethod
    def load(cls, directory: Path, split: Split) -> Written:
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for record in read(directory):
            if record["split"] == split:
                found[record["kind"]].append(record)
        return cls({kind: chosen(kind, records) for kind, records in found.items()})


def chosen(kind: str, records: Sequence[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """The likelier texts; of what claims to be a fact, those that another answer to the same question agrees with."""
    if kind in ("define", "explain", "why"):
        records = agreeing(records)
    ordered = sorted(records, key=lambda record: -record["likelihood"])
    return [(r["topic"], r["request"], r["text"]) for r in ordered[: max(1, int(len(ordered) * LIKELIEST))]]


def agreeing(records: Sequence[dict[str, Any]], least: float = 0.3) -> list[dict[str, Any]]:
    """Of each topic the text that shares most words with the others, where it shares `least` of them (Jaccard)."""
    by_topic: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        by_topic[record["topic"]].append(record)
    kept = []
    for same in by_topic.values():
        likeness = [max((_likeness(a["text"], b["text"]) for b in same if b is not a), default=0.0) for a in same]
        best = int(np.argmax(likeness))
        if likeness[best] >= least:
            kept.append(same[best])
    return kept


def _likeness(a: str, b: str) -> float:
    first, second = ({word for word in re.findall(r"[a-z]{4,}", text.lower())} for text in (a, b))
    return len(first & second) / max(1, len(first | second))


def generate(rng: np.random.Generator, written: Written) -> Example:
    """One text and a request for it; meta holds `kind` and `topic`. The split is that of what is `written`."""
    kinds = [kind for kind in REQUESTS if written.texts.get(kind)]
    shares = np.array([SHARES[kind] for kind in kinds])
    while True:
        kind = kinds[int(rng.choice(len(kinds), p=shares / shares.sum()))]
        topic, request, text = choose(rng, written.texts[kind])
        own = chance(rng, 0.15) and kind != "remark"
        asked = request if own else choose(rng, REQUESTS[kind]).format(t=BY_NAME[kind].shown(topic))
        prompt = varied(rng, asked)
        if not is_probe(prompt):
            return Example(prompt, text, {"kind": kind, "topic": topic})


def topics_of(records: Iterable[dict[str, Any]]) -> set[str]:
    return {record["topic"] for record in records}
