"""What the embedded models are trained on: sources of examples, and a mixture of them for every stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusiongemma.config import ModelConfig
from diffusiongemma.errors import UserError
from diffusiongemma.evaluation.corpora import Corpus, fetch_corpora
from diffusiongemma.evaluation.held_out import training_documents
from diffusiongemma.tasks import answers, in_split, sudoku
from diffusiongemma.train.data import tokenise
from diffusiongemma.train.mixtures import Mixture, Part, Source, mixed_source, pair_source, task_source
from diffusiongemma.train.sudoku import EASIEST, HARDER_EVERY, sudoku_mixture, sudoku_source
from recipes.nano.copying import copying_pair
from recipes.nano.prose import Prose, continuations, requested_continuations

HARD_MOST, HARD_FEWEST = 38, 21  # givens, for a model that solves the easy ones
RUNS = 64.0  # mean length, at most, of what is corrupted together in texts


# --- sources --------------------------------------------------------------------------------------------------------


def copying_source(tokenizer: Any, config: ModelConfig) -> Source:
    """Small tables to write out once more."""
    return lambda rng, count, step: tokenise([copying_pair(rng) for _ in range(count)], tokenizer, config)


def prose_source(prose: Prose, tokenizer: Any, config: ModelConfig, chat: bool) -> Source:
    """Passages to continue, plain or as a request in a chat."""
    make = requested_continuations if chat else continuations
    return lambda rng, count, step: make(prose, tokenizer, config, rng, count)


# --- the recipes ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DataDirs:
    """Where things made once are kept (`cache`), where packages of text are fetched to (`corpora`), and where the
    texts are that `recipes.nano.writer` wrote (`written`)."""

    cache: Path = Path("runs/cache")
    corpora: Path = Path("runs/corpora")
    written: Path = Path("runs/written")


def sudoku_recipe(tokenizer: Any, config: ModelConfig, dirs: DataDirs, harder_every: int = HARDER_EVERY) -> Mixture:
    """Sudoku alone. The first time, seed puzzles are made, which takes about a minute."""
    return sudoku_mixture(tokenizer, config, _seeds(dirs), harder_every)


def more_sudoku_recipe(tokenizer: Any, config: ModelConfig, dirs: DataDirs) -> Mixture:
    """The same for a model that has learnt some: puzzles of every kind from the beginning."""
    return sudoku_recipe(tokenizer, config, dirs, harder_every=0)


def base_recipe(tokenizer: Any, config: ModelConfig, dirs: DataDirs) -> Mixture:
    """Simple English: passages to continue, definitions, small talk, plain facts, copying. No sudoku, no JSON.

    Raises `UserError` where the corpora cannot be fetched.
    """
    corpora = _corpora(dirs)
    prose = Prose.load_or_build([corpora["austen"], corpora["bible"]], tokenizer, dirs.cache)
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


def skills_recipe(tokenizer: Any, config: ModelConfig, dirs: DataDirs, harder_every: int = HARDER_EVERY) -> Mixture:
    """The checkable skills, and some English, not to forget it.

    Meant for nano-base: puzzles get harder at first, and few are easy in the end, as those are solved sooner.
    """
    corpora = _corpora(dirs)
    seeds = _seeds(dirs)
    prose = Prose.load_or_build([corpora["austen"], corpora["bible"]], tokenizer, dirs.cache)
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


def more_skills_recipe(tokenizer: Any, config: ModelConfig, dirs: DataDirs) -> Mixture:
    """The same for a model that has learnt them: puzzles of every kind from the beginning."""
    return skills_recipe(tokenizer, config, dirs, harder_every=0)


def own_skills_recipe(
    tokenizer: Any, config: ModelConfig, dirs: DataDirs, boards: float = 0.5, most: int = HARD_MOST
) -> Mixture:
    """The skills whose answers are certain, for rollouts: where many answers are right, a model would learn to pay no
    heed to its own canvas. A share of `boards`, with at most `most` givens."""
    seeds = _seeds(dirs)
    sentences = _sentences(training_documents(_corpora(dirs, "factbook")["factbook"]))
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


def own_sudoku_recipe(tokenizer: Any, config: ModelConfig, dirs: DataDirs) -> Mixture:
    """The same for a model that mends texts well and lacks the hardest puzzles."""
    return own_skills_recipe(tokenizer, config, dirs, boards=0.75, most=34)


RECIPES: dict[str, Callable[[Any, ModelConfig, DataDirs], Mixture]] = {
    "sudoku": sudoku_recipe,
    "more-sudoku": more_sudoku_recipe,
    "base": base_recipe,
    "skills": skills_recipe,
    "more-skills": more_skills_recipe,
    "own-skills": own_skills_recipe,
    "own-sudoku": own_sudoku_recipe,
}


def _seeds(dirs: DataDirs) -> sudoku.Seeds:
    return sudoku.SeedBank.load_or_build(dirs.cache).train


def _corpora(dirs: DataDirs, *names: str) -> dict[str, Corpus]:
    """Those of these names, or all that recipes use."""
    names = names or ("austen", "bible", "wordnet", "chatterbot", "factbook")
    corpora = fetch_corpora(dirs.corpora, names)
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
