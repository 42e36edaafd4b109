"""`python -m recipes.nano first-words MODEL`: what people type first, texts to mend and to read, judged by rules.

Nothing here is trained on: see `sources.phrasing.is_probe`.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusiongemma.errors import InputError
from diffusiongemma.options import STRENGTH
from recipes.nano.sources.phrasing import PROBES
from recipes.nano.writer.filters import loops

KINDS = ("opening", "repair", "extraction")
ONE_WORD = re.compile(r"[A-Za-z0-9'-]+[.!]?")  # enough of an answer where a word is asked for

# What an answer must name, by the question; alternatives apart by bars, several demands in a list.
DEMANDS: dict[str, list[str]] = {
    "Hello": [r"hello\b|hi\b|welcome|greet"],
    "Hi there!": [r"hello\b|hi\b|welcome|greet"],
    "Who are you?": ["nano", "diffusion"],
    "What can you do?": [
        "sudoku|correct|json|fact|answer|mend|write|solve",
        "correct|json|fact|answer|mend|write|story",
    ],
    "What is 2+2?": ["4|four"],
    "what is 7 times 6": ["42|forty-two"],
    "What is the capital of France?": ["paris"],
    "what is the capital of japan": ["tokyo"],
    "How many days are in a week?": ["7|seven"],
    "How many legs does a spider have?": ["8|eight"],
    "What colour is grass?": ["green"],
    "Is ice cold?": ["yes"],
    "What is the opposite of hot?": ["cold"],
    "Name three animals.": [r"[^.,\n]+[,\n][^.,\n]+(?:,|\n|\band\b)"],
    "Name a fruit that is yellow.": ["banana|lemon|pineapple|mango|pear|grapefruit|apple"],
    "Write a short poem about rain.": ["rain"],
    "Tell me a tiny story about a dog.": ["dog|puppy"],
    "Explain gravity in one sentence.": ["pull|attract|fall|force|down"],
    "What is a spider?": ["animal|arachnid|insect|creature|legs"],
    "Say hello in French.": ["bonjour|salut"],
    "Thanks!": ["welcome|pleasure|glad|problem"],
    "Goodbye": ["bye|see you|farewell|nice day"],
    "What day comes after Monday?": ["tuesday"],
    "Spell the word cat backwards.": [r"t\W?a\W?c"],
    "Which is bigger, an elephant or a mouse?": ["^(?:an |the )?elephant|elephant is"],
    "Translate to German: good morning": ["guten morgen|cannot translate|only speak|can't translate"],
    "Write a Python function that adds two numbers.": ["def |do not write code|cannot write|can't write|no code"],
    "What is the weather today?": ["cannot know|can't know|do not know|don't know|no connection"],
    "Summarise: The train was late because of snow, so we missed the concert and went home.": ["late|missed|snow"],
    "Why is the sky blue?": ["light|scatter"],
}
LINES = {"Write a short poem about rain.": (2, 4)}
SENTENCES = {"Tell me a tiny story about a dog.": (2, 4)}


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right, whether it ended of itself without a loop, and what it was."""

    kind: str
    prompt: str
    answer: str
    right: bool
    ended: bool


def sensible(prompt: str, answer: str) -> bool:
    """Whether an answer names what it must, in plain English, whole and without a loop."""
    if loops(answer) or not answer.strip() or not re.fullmatch(r"[\x20-\x7e\n]+", answer):
        return False
    if not all(re.search(rf"(?<![a-z0-9])(?:{demand})(?!\d)", answer, re.I) for demand in DEMANDS[prompt]):
        return False
    low, high = LINES.get(prompt, (1, 99))
    if not low <= answer.count("\n") + 1 <= high:
        return False
    low, high = SENTENCES.get(prompt, (0, 99))
    return low <= len(re.findall(r"[.!?](?=\s|$|\")", answer)) <= high and _whole(answer)


def _whole(answer: str) -> bool:
    """A sentence, a list of lines, or a word."""
    lines = answer.strip().split("\n")
    return len(lines) > 1 or answer.rstrip()[-1] in ".!?\"'`)" or bool(ONE_WORD.fullmatch(answer.strip()))


def read_probes(path: Path = PROBES) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def asked(probe: dict[str, Any]) -> str:
    """The prompt that puts a probe to a model."""
    if probe["kind"] == "opening":
        return probe["prompt"]
    if probe["kind"] == "repair":
        return f"{probe['instruction']}\n\n{probe['text']}"
    return f"Extract as JSON: {json.dumps(probe['shape'])}\n\n{probe['text']}"


def judged(probe: dict[str, Any], answer: str, ended: bool) -> Verdict:
    if probe["kind"] == "opening":
        right = sensible(probe["prompt"], answer)
    elif probe["kind"] == "repair":
        right = answer.strip() == probe["right"].strip()
    else:
        right = parsed(answer) == probe["right"]
    return Verdict(probe["kind"], asked(probe), answer, right, ended and not loops(answer))


def parsed(answer: str) -> Any:
    """What JSON says, None of what is none."""
    try:
        return json.loads(answer)
    except ValueError:
        return None


def measure(
    answer: Callable[[dict[str, Any], int], tuple[str, bool]], seeds: int, kinds: Collection[str] = KINDS
) -> list[Verdict]:
    """Every probe of these kinds under several seeds; `answer` takes probe and seed, gives the text and whether it
    ended."""
    probes = [probe for probe in read_probes() if probe["kind"] in kinds]
    return [judged(probe, *answer(probe, seed)) for seed in range(seeds) for probe in probes]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="nano, or a directory")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--mode", default="diffusion", choices=("diffusion", "ar", "edit"), help="edit: mistakes")
    parser.add_argument("--strength", type=float, help=f"of edits; default {STRENGTH}")
    parser.add_argument("--quiet", action="store_true", help="only the figures, not the answers of the first seed")


def run(options: argparse.Namespace) -> None:
    """Raises `InputError` for a strength without edits."""
    import diffusiongemma as dg

    edits = options.mode == "edit"
    if options.strength is not None and not edits:
        raise InputError("--strength goes with --mode edit: leave it out, or give both")
    strength = STRENGTH if options.strength is None else options.strength
    model = dg.load(options.model)

    def generated(probe: dict[str, Any], seed: int) -> tuple[str, bool]:
        result = model.generate(asked(probe), seed=seed, mode=options.mode)
        return result.text, result.finish_reason == "stop"

    def edited(probe: dict[str, Any], seed: int) -> tuple[str, bool]:
        result = model.edit(probe["text"], probe["instruction"], strength=strength, seed=seed)
        return result.text, all(part.finish_reason == "stop" for part in result.results)

    verdicts = measure(edited if edits else generated, options.seeds, ("repair",) if edits else KINDS)
    if not options.quiet:
        for verdict in verdicts[: len(verdicts) // options.seeds]:
            print(f"{'right' if verdict.right else 'WRONG'}  {verdict.prompt!r} -> {verdict.answer!r}")
    print(f"seeds 0 to {options.seeds - 1}, {options.mode}")
    by_kind: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        by_kind[verdict.kind].append(verdict)
    for kind, some in by_kind.items():
        right, ended = (100 * sum(getattr(v, name) for v in some) / len(some) for name in ("right", "ended"))
        print(f"{kind:<11} right {right:3.0f} %   ended without a loop {ended:3.0f} %   ({len(some)})")
