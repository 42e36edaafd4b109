"""What models are trained on: sources of examples, and mixtures of them as batches that depend on the step alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffusiongemma.config import ModelConfig
from diffusiongemma.errors import InputError, UserError
from diffusiongemma.evaluation.corpora import Corpus, fetch_corpora
from diffusiongemma.evaluation.held_out import training_documents
from diffusiongemma.tasks import TASKS, Example, answers, in_split, sudoku
from diffusiongemma.train.copying import copying_pair
from diffusiongemma.train.data import Tokenised, collate, tokenise
from diffusiongemma.train.objective import Batch, Batches
from diffusiongemma.train.prose import Prose, continuations, requested_continuations

Source = Callable[[np.random.Generator, int, int], list[Tokenised]]  # (rng, how many, step from 0)

EASIEST, HARDEST = 45, 24  # fewest givens of sudoku puzzles at first, and later
MOST = 50  # givens
HARD_MOST, HARD_FEWEST = 38, 21  # for a model that solves the easy ones
RUNS = 64.0  # mean length, at most, of what is corrupted together in texts
MOST_DRAWS = 100  # of a source whose examples are mostly too long
HARDER_EVERY = 800  # boards after which the fewest givens fall by one


@dataclass(frozen=True)
class Part:
    """A source and its share of every batch, of which it makes a batch of its own.

    Examples of more than `length` tokens of prompt and answer are passed over, unless that is 0. `runs` is that of
    `Batch`. Without `encoder` the encoder learns nothing of it.
    """

    source: Source
    share: float
    length: int = 0
    runs: float = 1.0
    encoder: bool = True

    def draw(self, rng: np.random.Generator, count: int, step: int) -> list[Tokenised]:
        """`count` examples. Raises `InputError` where hardly any are short enough."""
        found: list[Tokenised] = []
        for _ in range(MOST_DRAWS):
            made = self.source(rng, count - len(found), step)
            found += [e for e in made if not self.length or e.tokens <= self.length]
            if len(found) == count:
                return found
        raise InputError(f"too few examples of at most {self.length} tokens: raise the length")


@dataclass(frozen=True)
class Mixture:
    """Parts of every batch.

    The encoder learns to predict on every `encoder_every`-th step only, 0 for none: give its loss that weight for the
    same mean gradient. The other steps need not encode the answers, which for sudoku makes 1.7 times as many examples
    a second.
    """

    parts: tuple[Part, ...]
    encoder_every: int = 1

    def batches(self, config: ModelConfig, size: int, seed: int) -> Batches:
        counts = divided(size, [part.share for part in self.parts])

        def batches(step: int) -> list[Batch]:
            rng = np.random.default_rng((seed, step))
            encoder = self.encoder_every > 0 and step % self.encoder_every == 0
            made = [(part, part.draw(rng, n, step)) for part, n in zip(self.parts, counts, strict=True) if n]
            return [collate(some, config, rng, encoder and part.encoder, part.runs) for part, some in made]

        return batches


def divided(total: int, shares: Sequence[float]) -> list[int]:
    """`total` in whole numbers as near to the shares as can be (largest remainders)."""
    exact = [total * share / sum(shares) for share in shares]
    counts = [int(x) for x in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


# --- sources --------------------------------------------------------------------------------------------------------


def sudoku_source(
    tokenizer: Any,
    config: ModelConfig,
    seeds: sudoku.Seeds,
    harder_every: int = HARDER_EVERY,
    most: int = MOST,
    fewest: int = HARDEST,
) -> Source:
    """Puzzles of `fewest` to `most` givens by symmetries of `seeds`, easier first unless `harder_every` is 0."""

    def source(rng: np.random.Generator, count: int, step: int) -> list[Tokenised]:
        least = max(fewest, EASIEST - step * count // harder_every) if harder_every else fewest
        boards = zip(*sudoku.sample_boards(seeds, count, rng, givens=(least, most)), strict=True)
        pairs = [(sudoku.format_puzzle(p), sudoku.format_solution(s)) for p, s in boards]
        return tokenise(pairs, tokenizer, config)

    return source


def task_source(name: str, tokenizer: Any, config: ModelConfig, **options: Any) -> Source:
    """Examples of the training half of a task."""
    generate: Callable[..., Example] = TASKS[name].generate

    def source(rng: np.random.Generator, count: int, step: int) -> list[Tokenised]:
        examples = [generate(rng, "train", **options) for _ in range(count)]
        return tokenise([(e.prompt, e.answer) for e in examples], tokenizer, config)

    return source


def mixed_source(*parts: tuple[Source, float]) -> Source:
    """Examples of several sources, each with its share."""

    def source(rng: np.random.Generator, count: int, step: int) -> list[Tokenised]:
        # Which source each one is from is drawn, as there may be fewer examples than sources.
        shares = np.array([share for _, share in parts])
        counts = rng.multinomial(count, shares / shares.sum())
        made = [e for (one, _), n in zip(parts, counts, strict=True) if n for e in one(rng, int(n), step)]
        return [made[i] for i in rng.permutation(len(made))]

    return source


def pair_source(pairs: Sequence[tuple[str, str]], tokenizer: Any, config: ModelConfig) -> Source:
    """Questions and answers out of a list."""

    def source(rng: np.random.Generator, count: int, step: int) -> list[Tokenised]:
        return tokenise([pairs[int(i)] for i in rng.integers(len(pairs), size=count)], tokenizer, config)

    return source


def copying_source(tokenizer: Any, config: ModelConfig) -> Source:
    """Small tables to write out once more."""
    return lambda rng, count, step: tokenise([copying_pair(rng) for _ in range(count)], tokenizer, config)


def prose_source(prose: Prose, tokenizer: Any, config: ModelConfig, chat: bool) -> Source:
    """Passages to continue, plain or as a request in a chat."""
    make = requested_continuations if chat else continuations
    return lambda rng, count, step: make(prose, tokenizer, config, rng, count)


# --- the recipes ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Places:
    """Where things made once are kept (`cache`), and where packages of text are fetched to (`corpora`)."""

    cache: Path
    corpora: Path = Path("runs/corpora")


def sudoku_recipe(
    tokenizer: Any, config: ModelConfig, places: Places, harder_every: int = HARDER_EVERY, encoder_every: int = 4
) -> Mixture:
    """Sudoku alone. The first time, seed puzzles are made, which takes about a minute."""
    seeds = sudoku.SeedBank.load_or_build(places.cache).train
    return Mixture((Part(sudoku_source(tokenizer, config, seeds, harder_every), 1.0),), encoder_every)


def more_sudoku_recipe(tokenizer: Any, config: ModelConfig, places: Places) -> Mixture:
    """The same for a model that has learnt some: puzzles of every kind from the beginning."""
    return sudoku_recipe(tokenizer, config, places, harder_every=0)


def base_recipe(tokenizer: Any, config: ModelConfig, places: Places) -> Mixture:
    """Simple English: passages to continue, definitions, small talk, plain facts, copying. No sudoku, no JSON.

    Raises `UserError` where the corpora cannot be fetched.
    """
    corpora = _corpora(places)
    prose = Prose.load_or_build([corpora["austen"], corpora["bible"]], tokenizer, places.cache)
    talk = list(answers.pairs_from_conversations(training_documents(corpora["chatterbot"])))
    meanings = list(answers.pairs_from_definitions(training_documents(corpora["wordnet"])))
    passages = mixed_source(
        (prose_source(prose, tokenizer, config, chat=False), 0.6),
        (prose_source(prose, tokenizer, config, chat=True), 0.4),
    )
    talk_and_tables = mixed_source(
        (pair_source(_training_half(meanings), tokenizer, config), 0.25),
        (pair_source(_training_half(talk), tokenizer, config), 0.125),
        (task_source("answers", tokenizer, config), 0.125),
        (copying_source(tokenizer, config), 0.5),
    )
    return Mixture(
        (Part(passages, 0.6, length=240, runs=RUNS), Part(talk_and_tables, 0.4, length=128, runs=RUNS)),
    )


def skills_recipe(tokenizer: Any, config: ModelConfig, places: Places, harder_every: int = HARDER_EVERY) -> Mixture:
    """The checkable skills, and some English, not to forget it.

    Meant for nano-base: puzzles get harder at first, and few are easy in the end, as those are solved sooner.
    """
    corpora = _corpora(places)
    seeds = sudoku.SeedBank.load_or_build(places.cache).train
    prose = Prose.load_or_build([corpora["austen"], corpora["bible"]], tokenizer, places.cache)
    sentences = _sentences(training_documents(corpora["factbook"]))
    texts = mixed_source(
        (task_source("repair", tokenizer, config, sentences=sentences), 0.7),
        (task_source("words", tokenizer, config), 0.14),
        (task_source("answers", tokenizer, config), 0.06),
        (prose_source(prose, tokenizer, config, chat=True), 0.1),
    )
    return Mixture(
        (
            Part(sudoku_source(tokenizer, config, seeds, harder_every, most=EASIEST), 0.4),
            Part(task_source("extraction", tokenizer, config), 0.3, length=224, runs=RUNS),
            Part(texts, 0.3, length=144, runs=RUNS),
        ),
        encoder_every=2,
    )


def more_skills_recipe(tokenizer: Any, config: ModelConfig, places: Places) -> Mixture:
    """The same for a model that has learnt them: puzzles of every kind from the beginning."""
    return skills_recipe(tokenizer, config, places, harder_every=0)


def own_skills_recipe(
    tokenizer: Any, config: ModelConfig, places: Places, boards: float = 0.5, most: int = HARD_MOST
) -> Mixture:
    """The skills whose answers are certain, for rollouts: where many answers are right, a model would learn to pay no
    heed to its own canvas. A share of `boards`, with at most `most` givens."""
    seeds = sudoku.SeedBank.load_or_build(places.cache).train
    sentences = _sentences(training_documents(_corpora(places, "factbook")["factbook"]))
    texts = mixed_source(
        (task_source("repair", tokenizer, config, sentences=sentences), 0.75),
        (task_source("words", tokenizer, config), 0.15),
        (task_source("answers", tokenizer, config), 0.1),
    )
    return Mixture(
        (
            Part(sudoku_source(tokenizer, config, seeds, 0, most, HARD_FEWEST), boards, encoder=False),
            Part(task_source("extraction", tokenizer, config), 0.4 * (1 - boards), length=224, runs=RUNS),
            Part(texts, 0.6 * (1 - boards), length=144, runs=RUNS),
        ),
    )


def own_sudoku_recipe(tokenizer: Any, config: ModelConfig, places: Places) -> Mixture:
    """The same for a model that mends texts well and lacks the hardest puzzles."""
    return own_skills_recipe(tokenizer, config, places, boards=0.75, most=34)


RECIPES: dict[str, Callable[[Any, ModelConfig, Places], Mixture]] = {
    "sudoku": sudoku_recipe,
    "more-sudoku": more_sudoku_recipe,
    "base": base_recipe,
    "skills": skills_recipe,
    "more-skills": more_skills_recipe,
    "own-skills": own_skills_recipe,
    "own-sudoku": own_sudoku_recipe,
}


def _corpora(places: Places, *names: str) -> dict[str, Corpus]:
    """Those of these names, or all that recipes use."""
    names = names or ("austen", "bible", "wordnet", "chatterbot", "factbook")
    corpora = fetch_corpora(places.corpora, names)
    missing = [name for name in names if name not in corpora]
    if missing:
        raise UserError(f"the corpus {missing[0]} could not be fetched: see the warning above, then run again")
    return corpora


def _training_half(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those that the task `answers` does not keep for its test."""
    return [pair for pair in pairs if in_split(pair[0], "train")]


def _sentences(documents: Any) -> list[str]:
    """Sentences of 3 to 40 words from prose among the documents."""
    prose = (line for document in documents if not document.startswith("{") for line in document.split("\n"))
    sentences = (s.strip() for line in prose for s in line.replace("; ", ". ").split(". "))
    return [s if s.endswith(".") else f"{s}." for s in sentences if 3 <= len(s.split()) <= 40 and s[0].isupper()]
