"""What nano learns from: small talk, facts, writing, mending, editing, reading, deciding and sudoku, as mixtures."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from diffusiongemma.config import ModelConfig
from diffusiongemma.evaluation.held_out import training_documents
from diffusiongemma.tasks import TASKS, Example, extraction, sudoku
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
MANY_ANSWERS = (verses.generate, writing.generate)  # to one request


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


def short_answers(materials: Materials) -> list[tuple[Make, float]]:
    """Questions and requests whose prompts and answers are short, with their shares."""
    return [
        (partial(talk.generate, split="train"), 4.0),
        (partial(knowledge.generate, split="train"), 5.0),
        (partial(explanations.generate, split="train"), 1.5),
        (partial(lists.generate, split="train"), 1.5),
        (partial(sums.generate, split="train"), 5.0),
        (partial(summing_up.generate, split="train"), 0.8),
        (partial(deciding.generate, split="train"), 1.2),
        (partial(mending.generate, split="train", sentences=materials.sentences), 7.0),
        (partial(declining.generate, split="train", nouns=materials.unknown), 2.5),
        (partial(declining.generate_small_sum, split="train"), 2.0),
        (partial(TASKS["answers"].generate, split="train"), 1.5),
    ]


def longer_texts(materials: Materials) -> list[tuple[Make, float]]:
    """Texts to read, to change or to write, with their shares."""
    made: list[tuple[Make, float]] = [
        (partial(editing.generate, split="train", sentences=materials.sentences), 3.0),
        (partial(reading.generate_extraction, split="train"), 4.0),
        (partial(extraction.generate, split="train"), 2.0),
        (partial(reading.generate_question, split="train"), 1.0),
        (partial(TASKS["repair"].generate, split="train"), 2.0),
        (partial(verses.generate, split="train"), 2.0),
    ]
    return [*made, (partial(writing.generate, written=materials.written), 3.0)] if materials.written.texts else made


def _beyond(make: Make, answer: str, known: Collection[str] = ()) -> Make:
    return partial(declining.generate_beyond, make=make, answer=answer, known=frozenset(known))


def modest_answers(materials: Materials) -> list[tuple[Make, float]]:
    """What a model is taught that is not trained long enough for all facts, and for sums: to talk about itself, what it
    could answer before and a little more, to mend texts, and to say that the rest is beyond it."""
    facts = partial(knowledge.generate, split="train")
    return [
        (partial(talk.generate, split="train"), 8.0),
        (partial(TASKS["answers"].generate, split="train"), 8.0),
        (partial(knowledge.generate_short, split="train"), 5.0),
        (partial(knowledge.generate, split="train", kinds=ANSWERED), 3.0),
        (_beyond(facts, declining.UNKNOWN, (*ANSWERED, *knowledge.IN_A_WORD)), 2.5),
        (_beyond(partial(explanations.generate, split="train"), declining.UNKNOWN), 1.5),
        (_beyond(partial(deciding.generate, split="train"), declining.UNKNOWN), 0.8),
        (_beyond(partial(lists.generate, split="train"), declining.NO_LIST), 1.5),
        (_beyond(partial(sums.generate, split="train"), declining.NO_SUM), 2.5),
        (_beyond(partial(verses.generate, split="train"), declining.NO_TEXT), 1.5),
        (partial(declining.generate, split="train", nouns=materials.unknown), 2.0),
        (partial(summing_up.generate, split="train"), 0.8),
        (partial(mending.generate, split="train", sentences=materials.sentences), 9.0),
    ]


def modest_texts(materials: Materials) -> list[tuple[Make, float]]:
    """Texts to change and to read."""
    return [
        (partial(editing.generate, split="train", sentences=materials.sentences), 4.0),
        (partial(reading.generate_extraction, split="train"), 4.0),
        (partial(extraction.generate, split="train"), 4.5),
        (partial(TASKS["repair"].generate, split="train"), 4.5),
    ]


def further_answers(materials: Materials) -> list[tuple[Make, float]]:
    """What a model that was taught what is modest goes on with: lists, reasons and meanings, and simple mistakes."""
    facts = partial(knowledge.generate, split="train")
    return [
        (partial(talk.generate, split="train"), 6.0),
        (partial(TASKS["answers"].generate, split="train"), 8.0),
        (partial(knowledge.generate_short, split="train"), 6.0),
        (partial(knowledge.generate, split="train", kinds=ANSWERED_FURTHER), 5.0),
        (_beyond(facts, declining.UNKNOWN, (*ANSWERED_FURTHER, *knowledge.IN_A_WORD)), 1.5),
        (partial(explanations.generate, split="train", keys=explanations.FIRST), 4.0),
        (_beyond(partial(explanations.generate, split="train"), declining.UNKNOWN, explanations.FIRST), 1.5),
        (_beyond(partial(deciding.generate, split="train"), declining.UNKNOWN), 0.5),
        (partial(lists.generate, split="train", kinds=lists.FIRST), 3.0),
        (_beyond(partial(lists.generate, split="train"), declining.NO_LIST, lists.FIRST), 0.7),
        (_beyond(partial(sums.generate, split="train"), declining.NO_SUM), 1.5),
        (_beyond(partial(verses.generate, split="train"), declining.NO_TEXT), 1.5),
        (partial(declining.generate, split="train", nouns=materials.unknown), 1.5),
        (partial(summing_up.generate, split="train"), 1.0),
        (partial(slips.generate, split="train"), 8.0),
        (partial(mending.generate, split="train", sentences=materials.sentences), 7.0),
    ]


def whole_answers(materials: Materials) -> list[tuple[Make, float]]:
    """What a model learns further whose attention learns too: more of the same, and lists, poems and stories of which
    it knows one each."""
    facts = partial(knowledge.generate, split="train")
    return [
        (partial(talk.generate, split="train"), 6.0),
        (partial(TASKS["answers"].generate, split="train"), 4.0),
        (partial(knowledge.generate_short, split="train"), 6.0),
        (partial(knowledge.generate, split="train", kinds=ANSWERED_FURTHER), 6.0),
        (_beyond(facts, declining.UNKNOWN, (*ANSWERED_FURTHER, *knowledge.IN_A_WORD)), 1.2),
        (partial(explanations.generate, split="train", keys=explanations.FIRST), 4.5),
        (_beyond(partial(explanations.generate, split="train"), declining.UNKNOWN, explanations.FIRST), 1.2),
        (_beyond(partial(deciding.generate, split="train"), declining.UNKNOWN), 0.3),
        (partial(lists.generate, split="train", kinds=lists.FIRST, usual=True), 4.0),
        (_beyond(partial(lists.generate, split="train"), declining.NO_LIST, lists.FIRST), 0.6),
        (_beyond(partial(sums.generate, split="train"), declining.NO_SUM), 1.2),
        (partial(verses.generate, split="train", usual=True), 3.0),
        (partial(declining.generate, split="train", nouns=materials.unknown), 1.5),
        (partial(summing_up.generate, split="train"), 1.0),
        (partial(slips.generate, split="train"), 8.0),
        (partial(mending.generate, split="train", sentences=materials.sentences), 6.0),
    ]


def whole_texts(materials: Materials) -> list[tuple[Make, float]]:
    """Texts to change and to read."""
    return [
        (partial(editing.generate, split="train", sentences=materials.sentences), 3.0),
        (partial(reading.generate_extraction, split="train"), 6.0),
        (partial(extraction.generate, split="train"), 4.0),
        (partial(TASKS["repair"].generate, split="train"), 4.0),
    ]


def reckoning_answers(materials: Materials) -> list[tuple[Make, float]]:
    """What a model learns that is to do sums beside all that `whole` taught: these, and the same as there."""
    declined = _beyond(partial(sums.generate, split="train"), declining.NO_SUM)
    kept = [(make, share) for make, share in whole_answers(materials) if not _same(make, declined)]
    return [*kept, (partial(sums.generate, split="train"), 30.0)]


def deeper_answers(materials: Materials) -> list[tuple[Make, float]]:
    """What an encoder with layers of its own learns: all of it, sums and decisions too."""
    return [
        (partial(talk.generate, split="train"), 6.0),
        (partial(TASKS["answers"].generate, split="train"), 4.0),
        (partial(knowledge.generate_short, split="train"), 5.0),
        (partial(knowledge.generate, split="train", kinds=ANSWERED_FURTHER), 4.0),
        (partial(knowledge.generate, split="train"), 8.0),
        (partial(explanations.generate, split="train", keys=explanations.FIRST), 3.0),
        (partial(explanations.generate, split="train"), 4.0),
        (partial(lists.generate, split="train", kinds=lists.FIRST, usual=True), 2.5),
        (partial(lists.generate, split="train"), 2.0),
        (partial(sums.generate, split="train"), 30.0),
        (partial(verses.generate, split="train", usual=True), 3.0),
        (partial(deciding.generate, split="train"), 4.0),
        (partial(declining.generate, split="train", nouns=materials.unknown), 2.0),
        (partial(summing_up.generate, split="train"), 1.0),
        (partial(slips.generate, split="train"), 7.0),
        (partial(mending.generate, split="train", sentences=materials.sentences), 6.0),
    ]


def deeper_texts(materials: Materials) -> list[tuple[Make, float]]:
    """Texts to change and to read, with questions about them."""
    return [
        (partial(editing.generate, split="train", sentences=materials.sentences), 4.0),
        (partial(reading.generate_extraction, split="train"), 6.0),
        (partial(extraction.generate, split="train"), 3.0),
        (partial(reading.generate_question, split="train"), 1.0),
        (partial(TASKS["repair"].generate, split="train"), 3.0),
    ]


def _same(make: Make, other: Make) -> bool:
    """Whether two sources decline the same."""
    return make.func is other.func and make.keywords.get("answer") == other.keywords["answer"]


def source(makers: list[tuple[Make, float]], tokenizer: Any, config: ModelConfig) -> Source:
    """Examples of several makers, each with its share."""
    shares = np.array([share for _, share in makers])

    def draw(rng: np.random.Generator, count: int, step: int) -> list[Tokenised]:
        chosen = rng.choice(len(makers), size=count, p=shares / shares.sum())
        examples = [makers[int(i)][0](rng) for i in chosen]
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
    materials = Materials.read(dirs)
    texts = 1 - sudokus
    return Mixture(
        (
            Part(board_source(tokenizer, config, _seeds(dirs)), sudokus, encoder=False),
            Part(source(short_answers(materials), tokenizer, config), 0.6 * texts, length=160, runs=RUNS),
            Part(source(longer_texts(materials), tokenizer, config), 0.4 * texts, length=320, runs=RUNS),
        ),
        encoder_every=2,
    )


def own_everyday_recipe(tokenizer: Any, config: ModelConfig, dirs: DataDirs, sudokus: float = 0.4) -> Mixture:
    """What has one right answer, for rollouts: where many are right, a model learns to pay no heed to its canvas."""
    materials = Materials.read(dirs)
    texts = 1 - sudokus
    certain = [(make, share) for make, share in longer_texts(materials) if make.func not in MANY_ANSWERS]
    return Mixture(
        (
            Part(board_source(tokenizer, config, _seeds(dirs), HARD_MOST), sudokus, encoder=False),
            Part(source(short_answers(materials), tokenizer, config), 0.5 * texts, length=160, runs=RUNS),
            Part(source(certain, tokenizer, config), 0.5 * texts, length=320, runs=RUNS),
        ),
    )


TAUGHT = {
    "talk": (short_answers, longer_texts),
    "modest": (modest_answers, modest_texts),
    "further": (further_answers, modest_texts),
    "whole": (whole_answers, whole_texts),
    "reckoning": (reckoning_answers, whole_texts),
    "deeper": (deeper_answers, deeper_texts),
}


def apart_recipe(tokenizer: Any, config: ModelConfig, dirs: DataDirs, name: str) -> Mixture:
    """Everything of `name` but sudokus, for experts that learn apart from these (`recipes.nano.apart`)."""
    materials, (short, longer) = Materials.read(dirs), TAUGHT[name]
    return Mixture(
        (
            Part(source(short(materials), tokenizer, config), 0.5, length=160, runs=RUNS),
            Part(source(longer(materials), tokenizer, config), 0.5, length=320, runs=RUNS),
        ),
        encoder_every=0,
    )


def apart_texts(tokenizer: Any, config: ModelConfig, dirs: DataDirs, name: str) -> Source:
    """The same for the encoder alone, and a few sudokus, so that it learns how little it knows of them."""
    materials, (short, longer) = Materials.read(dirs), TAUGHT[name]
    told = source([*short(materials), *longer(materials)], tokenizer, config)
    return mixed_source((told, 0.97), (board_source(tokenizer, config, _seeds(dirs)), 0.03))


EVERYDAY: dict[str, Callable[[Any, ModelConfig, DataDirs], Mixture]] = {
    **{name: partial(apart_recipe, name=name) for name in TAUGHT},
    "everyday": everyday_recipe,
    "own-everyday": own_everyday_recipe,
}
