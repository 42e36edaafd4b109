"""How people type: the same request in lower case, without its mark, politely, in a hurry; and what is never asked."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path

import numpy as np

from diffusiongemma.tasks.example import chance, choose
from diffusiongemma.tasks.repair import misspell

PROBES = Path(__file__).parents[1] / "probes.jsonl"
_BEFORE = (
    "please ",
    "Please ",
    "Can you tell me: ",
    "Hey, ",
    "Hi, ",
    "Hello! ",
    "nano, ",
    "I have a question: ",
    "Quick question: ",
    "So, ",
    "ok, ",
)
_BEFORE_IMPERATIVE = (
    "please ",
    "Please ",
    "Could you please ",
    "Can you ",
    "Could you ",
    "I want you to ",
    "Would you ",
    "Now ",
    "Hi! ",
    "Hey nano, ",
)
_BEFORE_ANYTHING = ("Hi! ", "Hello! ", "Quick question: ", "Listen: ", "OK: ", "Next: ")
_IMPERATIVES = frozenset(
    [
        "add",
        "answer",
        "calculate",
        "capital",
        "change",
        "check",
        "clean",
        "colour",
        "complete",
        "compute",
        "continue",
        "convert",
        "correct",
        "count",
        "define",
        "delete",
        "describe",
        "double",
        "edit",
        "enumerate",
        "explain",
        "extract",
        "fill",
        "find",
        "fix",
        "give",
        "go",
        "greet",
        "improve",
        "insert",
        "introduce",
        "join",
        "list",
        "make",
        "mend",
        "name",
        "number",
        "proofread",
        "put",
        "read",
        "remove",
        "repair",
        "replace",
        "restore",
        "return",
        "reverse",
        "rewrite",
        "say",
        "sort",
        "spell",
        "solve",
        "split",
        "summarise",
        "summarize",
        "tell",
        "translate",
        "turn",
        "uppercase",
        "use",
        "work",
        "write",
    ]
)
_AFTER = (" Thanks.", " Thank you!", " please", " Please.", " thanks")
_QUESTION = re.compile(r"(?:what|who|where|when|why|how|which|is|are|can|does|do|did|name the)\b", re.I)


def varied(rng: np.random.Generator, request: str, keep: float = 0.45) -> str:
    """A request as one of many people would type it; in a share of `keep` as it is. Only its first line is touched."""
    if chance(rng, keep):
        return request
    first, line_end, rest = request.partition("\n")
    question = bool(_QUESTION.match(first))
    if chance(rng, 0.25) and first[:1].isupper():
        imperative = first.split()[0].lower() in _IMPERATIVES
        before = choose(rng, _BEFORE if question else _BEFORE_IMPERATIVE if imperative else _BEFORE_ANYTHING)
        stays = first.split()[0] in ("I", "I'm") or (before[-2:] in ("! ", ": ") and not question)
        first = before + (first if stays else first[0].lower() + first[1:])
        if first.startswith(("Could you", "Can you ", "Would you")) and first.endswith("."):
            first = first[:-1] + "?"
    if chance(rng, 0.08) and not rest:
        first += choose(rng, _AFTER)
    if chance(rng, 0.4):
        first = first.rstrip("?.!" if not rest else "?.") or first  # a remark may be nothing but its mark
    if chance(rng, 0.35):
        first = first.lower()
    elif chance(rng, 0.1):
        first = first[:1].lower() + first[1:]
    if chance(rng, 0.04) and not rest:
        first = first.upper()
    if chance(rng, 0.1):
        first = misspell(first, rng, 1)
    if chance(rng, 0.03) and not rest:
        first += choose(rng, ("??", "!!", " ?", " ...", "!"))
    return first + line_end + rest


def is_probe(prompt: str) -> bool:
    """Whether a prompt is one of those kept for the final test, or as good as one.

    That is: the same words, each with at most one letter wrong, politeness and marks aside; numbers are the same.
    """
    words = _plain(prompt)
    return any(len(words) == len(probe) and all(map(_alike, words, probe)) for probe in _probes())


@lru_cache(maxsize=1)
def _probes() -> tuple[tuple[str, ...], ...]:
    return tuple(
        _plain(_prompt_of(json.loads(line))) for line in PROBES.read_text(encoding="utf-8").splitlines() if line
    )


def _prompt_of(probe: dict[str, str]) -> str:
    return probe["prompt"] if "prompt" in probe else probe["text"]


_POLITE = frozenset(
    [
        "please",
        "thanks",
        "thank",
        "you",
        "hey",
        "hi",
        "hello",
        "nano",
        "ok",
        "so",
        "now",
        "could",
        "can",
        "would",
        "tell",
        "me",
        "i",
        "have",
        "a",
        "question",
        "quick",
        "want",
        "to",
    ]
)


@lru_cache(maxsize=1 << 16)
def _plain(prompt: str) -> tuple[str, ...]:
    words = re.findall(r"[a-z]+|\d+|[+*/x×-]", prompt.lower())
    kept = tuple(word for word in words if word not in _POLITE)
    return kept or tuple(words)


def _alike(a: str, b: str) -> bool:
    """At most one letter changed, left out or added; words of up to three letters and numbers must be the same."""
    if a == b:
        return True
    if min(len(a), len(b)) < 4 or abs(len(a) - len(b)) > 1:
        return False
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    rest_a, rest_b = a[start:], b[start:]
    return (
        rest_a[1:] == rest_b
        or rest_a == rest_b[1:]
        or rest_a[1:] == rest_b[1:]
        or (rest_a[:2] == rest_b[1::-1] and rest_a[2:] == rest_b[2:])
    )
