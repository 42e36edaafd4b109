"""Sudoku to train on, and held-out puzzles to keep the best weights by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from diffusiongemma import evaluation
from diffusiongemma.api import DiffusionGemma
from diffusiongemma.config import ModelConfig
from diffusiongemma.tasks import sudoku
from diffusiongemma.train import parallel
from diffusiongemma.train.data import Tokenised, tokenise
from diffusiongemma.train.mixtures import Mixture, Part, Source
from diffusiongemma.train.parallel import LossModule
from diffusiongemma.train.trainer import Evaluate, Evaluation

EASIEST, HARDEST = 45, 24  # fewest givens of puzzles at first, and later
MOST = 50  # givens
HARDER_EVERY = 800  # boards after which the fewest givens fall by one


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


def sudoku_mixture(
    tokenizer: Any,
    config: ModelConfig,
    seeds: sudoku.Seeds,
    harder_every: int = HARDER_EVERY,
    encoder_every: int = 4,
) -> Mixture:
    """Sudoku alone."""
    return Mixture((Part(sudoku_source(tokenizer, config, seeds, harder_every), 1.0),), encoder_every)


def solved_share(model: DiffusionGemma) -> Evaluate:
    """The share of 128 held-out puzzles of 30 to 45 givens that `model` solves; each process asks its part of them."""
    suite, setting = evaluation.sudoku_suite(128, seed=1, givens="30-45"), evaluation.Setting("diffusion")
    mine = replace(suite, questions=suite.questions[parallel.rank() :: parallel.world_size()])

    def evaluate(module: LossModule) -> Evaluation:
        measured = evaluation.tally(mine, setting, evaluation.ask(model, mine, setting, seed=1))
        means, share = measured.overall.means, len(mine.questions) / len(suite.questions)
        figures = {name: means[name] for name in ("solved", "cell_accuracy")}
        figures["steps_per_canvas"] = measured.cost.steps_per_canvas or 0.0
        figures = parallel.all_reduce({name: figure * share for name, figure in figures.items()})
        return Evaluation(figures["solved"], figures)

    return evaluate
