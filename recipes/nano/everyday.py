"""What nano learns from: small talk, facts, writing, mending, editing, reading, deciding and sudoku, as mixtures."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from diffusiongemma.config import ModelConfig
from diffusiongemma.evaluation.held_out import training_documents
from diffusiongemma.tasks import TASKS, Example, Split, extraction, sudoku
from diffusiongemma.train.data import Tokenised, tokenise
from diffusiongemma.train.mixtures import Mixture, Part, Source, mixed_source
from recipes.nano.mixtures import HARD_MOST, RUNS, DataDirs, _corpora, _seeds
from recipes.nano.sources import (
    boards,
    deciding,
    declining,
    editing,
    explanations,
    knowledge,
    lists,
    mending,
    reading,
    slips,
    summing_up,
    sums,
    talk,
    verses,
    writing,
)
from recipes.nano.sources.pictured import Pictured
from recipes.nano.sources.sentences import Sentences, of_definitions, of_writer

Make = partial[Example]  # a generator of examples that lacks but the random numbers

# Of facts, those that are asked for first and learnt soonest; the short ones are of the kinds that a model knew before.
ANSWERED = (
    "continent", "count", "country", "goodbye abroad", "hello abroad", "legs", "quality", "sound", "thanks abroad",
)  # fmt: skip
ANSWERED_FURTHER = (*ANSWERED, "able", "compared")
FEWEST_GIVENS, MOST_GIVENS = 21, 50  # of sudokus
PICTURES = 0.25  # of them shown, not typed
MANY_ANSWERS = ("verses", "writing")  # to one request


@dataclass(frozen=True)
class Materials:
    """What is read once: sentences to mend, nouns that nothing is taught about, and the writer's texts."""

    sentences: Sentences
    unknown: list[str]
    written: writing.Written

    @classmethod
    def read(cls, dirs: DataDirs) -> Materials:
        wordnet = _corpora(dirs, "wordnet")["wordnet"]
        texts = [*of_definitions(training_documents(wordnet)), *of_writer(dirs.written)]
        nouns = explanations.frequent_nouns(wordnet.root)
        return cls(Sentences(texts), declining.unknown(nouns), writing.Written.load(dirs.written, "train"))


# What each recipe teaches, and in which shares: of short answers, and of texts to read, to change or to write.
SHARES: dict[str, tuple[dict[str, float], dict[str, float]]] = {
    "talk": (
        {
            "talk": 4, "facts": 5, "explanations": 1.5, "lists": 1.5, "sums": 5, "summing up": 0.8, "decisions": 1.2,
            "mending": 7, "declining": 2.5, "small sums": 2, "answers": 1.5,
        },
        {"editing": 3, "reading": 4, "extraction": 2, "questions": 1, "repair": 2, "verses": 2, "writing": 3},
    ),
    # For a model that is not trained long enough for all facts, and for sums: to talk about itself, what it could
    # answer before and a little more, to mend texts, and to say that the rest is beyond it.
    "modest": (
        {
            "talk": 8, "answers": 8, "facts in a word": 5, "first facts": 3, "other facts declined": 2.5,
            "explanations declined": 1.5, "decisions declined": 0.8, "lists declined": 1.5, "sums declined": 2.5,
            "verses declined": 1.5, "declining": 2, "summing up": 0.8, "mending": 9,
        },
        {"editing": 4, "reading": 4, "extraction": 4.5, "repair": 4.5},
    ),
    # What it goes on with: lists, reasons and meanings, and simple mistakes.
    "further": (
        {
            "talk": 6, "answers": 8, "facts in a word": 6, "more facts": 5, "rarer facts declined": 1.5,
            "first explanations": 4, "other explanations declined": 1.5, "decisions declined": 0.5, "first lists": 3,
            "other lists declined": 0.7, "sums declined": 1.5, "verses declined": 1.5, "declining": 1.5,
            "summing up": 1, "slips": 8, "mending": 7,
        },
        {"editing": 4, "reading": 4, "extraction": 4.5, "repair": 4.5},
    ),
    # For attention that learns too: more of the same, and lists, poems and stories of which it knows one each.
    "whole": (
        {
            "talk": 6, "answers": 4, "facts in a word": 6, "more facts": 6, "rarer facts declined": 1.2,
            "first explanations": 4.5, "other explanations declined": 1.2, "decisions declined": 0.3,
            "usual lists": 4, "other lists declined": 0.6, "sums declined": 1.2, "usual verses": 3, "declining": 1.5,
            "summing up": 1, "slips": 8, "mending": 6,
        },
        {"editing": 3, "reading": 6, "extraction": 4, "repair": 4},
    ),
    # For an encoder with layers of its own: all of it, sums and decisions too.
    "deeper": (
        {
            "talk": 6, "answers": 4, "facts in a word": 5, "more facts": 4, "facts": 8, "first explanations": 3,
            "explanations": 4, "usual lists": 2.5, "lists": 2, "sums": 30, "usual verses": 3, "decisions": 4,
            "declining": 2, "summing up": 1, "slips": 7, "mending": 6,
        },
        {"editing": 4, "reading": 6, "extraction": 3, "questions": 1, "repair": 3},
    ),
    # What that goes on with once it does sums: fewer of these, and more of what it could do before.
    "evened": (
        {
            "talk": 12, "answers": 7, "facts in a word": 6, "more facts": 6, "facts": 3, "first explanations": 4,
            "explanations": 1.5, "usual lists": 5, "lists": 1, "sums": 14, "usual verses": 2.5, "decisions": 3,
            "declining": 4, "summing up": 1, "slips": 9, "mending": 8,
        },
        {"editing": 6, "reading": 6, "extraction": 5, "questions": 1, "repair": 5},
    ),
}  # fmt: skip
# What one that is to do sums learns beside all that `whole` taught.
_short, _longer = SHARES["whole"]
SHARES["reckoning"] = {name: share for name, share in _short.items() if name != "sums declined"} | {"sums": 30}, _longer


def makers(materials: Materials, split: Split) -> dict[str, Make]:
    """Every source of examples by its name, of one half."""
    facts = partial(knowledge.generate, split=split)
    meanings = partial(explanations.generate, split=split)
    of_lists, of_sums = partial(lists.generate, split=split), partial(sums.generate, split=split)
    decisions, poems = partial(deciding.generate, split=split), partial(verses.generate, split=split)
    return {
        "talk": partial(talk.generate, split=split),
        "answers": partial(TASKS["answers"].generate, split=split),
        "facts": facts,
        "facts in a word": partial(knowledge.generate_short, split=split),
        "first facts": partial(facts, kinds=ANSWERED),
        "more facts": partial(facts, kinds=ANSWERED_FURTHER),
        "other facts declined": _beyond(facts, declining.UNKNOWN, (*ANSWERED, *knowledge.IN_A_WORD)),
        "rarer facts declined": _beyond(facts, declining.UNKNOWN, (*ANSWERED_FURTHER, *knowledge.IN_A_WORD)),
        "explanations": meanings,
        "first explanations": partial(meanings, keys=explanations.FIRST),
        "explanations declined": _beyond(meanings, declining.UNKNOWN),
        "other explanations declined": _beyond(meanings, declining.UNKNOWN, explanations.FIRST),
        "lists": of_lists,
        "first lists": partial(of_lists, kinds=lists.FIRST),
        "usual lists": partial(of_lists, kinds=lists.FIRST, usual=True),
        "lists declined": _beyond(of_lists, declining.NO_LIST),
        "other lists declined": _beyond(of_lists, declining.NO_LIST, lists.FIRST),
        "sums": of_sums,
        "small sums": partial(declining.generate_small_sum, split=split),
        "sums declined": _beyond(of_sums, declining.NO_SUM),
        "decisions": decisions,
        "decisions declined": _beyond(decisions, declining.UNKNOWN),
        "verses": poems,
        "usual verses": partial(poems, usual=True),
        "verses declined": _beyond(poems, declining.NO_TEXT),
        "declining": partial(declining.generate, split=split, nouns=materials.unknown),
        "summing up": partial(summing_up.generate, split=split),
        "slips": partial(slips.generate, split=split),
        "mending": partial(mending.generate, split=split, sentences=materials.sentences),
        "editing": partial(editing.generate, split=split, sentences=materials.sentences),
        "reading": partial(reading.generate_extraction, split=split),
        "extraction": partial(extraction.generate, split=split),
        "questions": partial(reading.generate_question, split=split),
        "repair": partial(TASKS["repair"].generate, split=split),
        **({"writing": partial(writing.generate, written=materials.written)} if materials.written.texts else {}),
    }


def _beyond(make: Make, answer: str, known: Collection[str] = ()) -> Make:
    return partial(declining.generate_beyond, make=make, answer=answer, known=frozenset(known))


def taught(recipe: str, materials: Materials, split: Split = "train") -> list[dict[str, tuple[Make, float]]]:
    """Its sources by name with their shares, of short answers and of longer texts: those that there are."""
    made = makers(materials, split)
    return [{name: (made[name], share) for name, share in part.items() if name in made} for part in SHARES[recipe]]


def source(parts: dict[str, tuple[Make, float]], tokenizer: Any, config: ModelConfig) -> Source:
    """Examples of several makers, each with its share."""
    made, shares = [make for make, _ in parts.values()], np.array([share for _, share in parts.values()])

    def draw(rng: np.random.Generator, count: int, step: int) -> list[Tokenised]:
        chosen = rng.choice(len(made), size=count, p=shares / shares.sum())
        examples = [made[int(i)](rng) for i in chosen]
        return tokenise([(e.prompt, e.answer) for e in examples], tokenizer, config)

    return draw


def board_source(
    tokenizer: Any, config: ModelConfig, seeds: sudoku.Seeds, most: int = MOST_GIVENS, pictures: float = PICTURES
) -> Source:
    """Sudokus in all spellings, a share of them as pictures."""
    pictured = Pictured(tokenizer, config)

    def draw(rng: np.random.Generator, count: int, step: int) -> list[Tokenised]:
        drawn = list(zip(*sudoku.sample_boards(seeds, count, rng, givens=(FEWEST_GIVENS, most)), strict=True))
        shown = round(count * pictures + float(rng.random()) - 0.5)
        typed = [boards.pair(rng, puzzle, solution) for puzzle, solution in drawn[shown:]]
        return [
            *(pictured.example(rng, puzzle, solution) for puzzle, solution in drawn[:shown]),
            *tokenise(typed, tokenizer, config),
        ]

    return draw


def everyday_recipe(tokenizer: Any, config: ModelConfig, dirs: DataDirs, sudokus: float = 0.18) -> Mixture:
    """Everything at once; `sudokus` is their share, of which the encoder learns nothing."""
    short, longer = taught("talk", Materials.read(dirs))
    texts = 1 - sudokus
    return Mixture(
        (
            Part(board_source(tokenizer, config, _seeds(dirs)), sudokus, encoder=False),
            Part(source(short, tokenizer, config), 0.6 * texts, length=160, runs=RUNS),
            Part(source(longer, tokenizer, config), 0.4 * texts, length=320, runs=RUNS),
        ),
        encoder_every=2,
    )


def own_everyday_recipe(tokenizer: Any, config: ModelConfig, dirs: DataDirs, sudokus: float = 0.4) -> Mixture:
    """What has one right answer, for rollouts: where many are right, a model learns to pay no heed to its canvas."""
    short, longer = taught("talk", Materials.read(dirs))
    texts = 1 - sudokus
    certain = {name: part for name, part in longer.items() if name not in MANY_ANSWERS}
    return Mixture(
        (
            Part(board_source(tokenizer, config, _seeds(dirs), HARD_MOST), sudokus, encoder=False),
            Part(source(short, tokenizer, config), 0.5 * texts, length=160, runs=RUNS),
            Part(source(certain, tokenizer, config), 0.5 * texts, length=320, runs=RUNS),
        ),
    )


def apart_recipe(tokenizer: Any, config: ModelConfig, dirs: DataDirs, name: str) -> Mixture:
    """Everything of `name` but sudokus, for experts that learn apart from these (`recipes.nano.apart`)."""
    short, longer = taught(name, Materials.read(dirs))
    return Mixture(
        (
            Part(source(short, tokenizer, config), 0.5, length=160, runs=RUNS),
            Part(source(longer, tokenizer, config), 0.5, length=320, runs=RUNS),
        ),
        encoder_every=0,
    )


def apart_texts(tokenizer: Any, config: ModelConfig, dirs: DataDirs, name: str) -> Source:
    """The same for the encoder alone, and a few sudokus, so that it learns how little it knows of them."""
    short, longer = taught(name, Materials.read(dirs))
    told = source(short | longer, tokenizer, config)
    return mixed_source((told, 0.97), (board_source(tokenizer, config, _seeds(dirs)), 0.03))


EVERYDAY: dict[str, Callable[[Any, ModelConfig, DataDirs], Mixture]] = {
    **{name: partial(apart_recipe, name=name) for name in SHARES},
    "everyday": everyday_recipe,
    "own-everyday": own_everyday_recipe,
}
