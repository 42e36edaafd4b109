"""`python -m recipes.nano marks MODEL OUT`: teach the two marks around a picture, and nothing else.

A page of soft tokens reads as the board typed (`sources/pictured.py`), so a text model that solves typed boards lacks
but the marks before and behind it, which it has never seen. Their two embeddings are learnt on imitated pictures, and
kept from being written in texts, since they are rows of the head too; all other weights stay as they are.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diffusiongemma.config import ModelConfig
from diffusiongemma.model.model import Model
from diffusiongemma.tasks import sudoku
from diffusiongemma.train.attention import shared_start
from diffusiongemma.train.data import Tokenised, collate
from diffusiongemma.train.mixtures import Source, task_source
from diffusiongemma.train.objective import Batch, Draw, Objective, denoise, encode, mean_canvas_loss
from diffusiongemma.train.progress import seconds_of
from diffusiongemma.weights.checkpoint import load_model
from diffusiongemma.weights.saving import save_model
from recipes.nano.mixtures import DataDirs, _seeds
from recipes.nano.sources.pictured import Pictured

GIVENS = (26, 55)
TEXTS = ("extraction", "repair", "words", "answers")  # a batch of one of them for each batch of pictures
OBJECTIVE = Objective(noise_bias=2.0)
BELOW = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--budget", type=seconds_of, default=600.0, metavar="3600|50m|1h", help="default 10m")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="where seed puzzles are kept")


def run(options: argparse.Namespace) -> None:
    from transformers import AutoTokenizer

    model, tokenizer = load_model(options.model, torch.float32), AutoTokenizer.from_pretrained(options.model)
    sources = [
        pictured_source(tokenizer, model.config, _seeds(DataDirs(options.cache))),
        *(task_source(name, tokenizer, model.config) for name in TEXTS),
    ]
    train(model, sources, options)
    save_model(model, options.out, source=options.model, dtype=torch.bfloat16)


def pictured_source(tokenizer: Any, config: ModelConfig, seeds: sudoku.Seeds) -> Source:
    pictured = Pictured(tokenizer, config)

    def draw(rng: np.random.Generator, count: int, step: int) -> list[Tokenised]:
        drawn = zip(*sudoku.sample_boards(seeds, count, rng, givens=GIVENS), strict=True)
        return [pictured.example(rng, puzzle, solution) for puzzle, solution in drawn]

    return draw


def train(model: Model, sources: list[Source], options: argparse.Namespace) -> None:
    """Adam on the marks' rows of the embedding, whose rate falls to zero over the second half of the budget."""
    marks = [model.config.boi_token_id, model.config.eoi_token_id]
    weight = model.requires_grad_(False).backbone.embed_tokens.weight.requires_grad_(True)
    others = torch.ones(len(weight), 1, dtype=torch.bool).index_fill(0, torch.tensor(marks), False)
    optimiser = torch.optim.Adam([weight], lr=options.learning_rate, betas=(0.9, 0.98))
    start, step = time.monotonic(), 0
    while (done := (time.monotonic() - start) / options.budget) < 1:
        of_pictures = _loss(model, _batch(sources[0], model.config, options, step), step)
        of_texts = _likelihood(model, _batch(sources[1 + step % len(TEXTS)], model.config, options, step), marks)
        (of_pictures + of_texts).backward()
        assert weight.grad is not None
        weight.grad.masked_fill_(others, 0.0)
        optimiser.param_groups[0]["lr"] = options.learning_rate * min(1.0, 2 * (1 - done))
        optimiser.step()
        optimiser.zero_grad()
        step += 1
        if step % 5 == 0:
            seconds = time.monotonic() - start
            print(f"step {step} {seconds:.0f} s pictures {of_pictures:.3f} in texts {of_texts:.4f}", flush=True)


def _batch(source: Source, config: ModelConfig, options: argparse.Namespace, step: int) -> Batch:
    rng = np.random.default_rng((options.seed, step))
    return collate(source(rng, options.batch, step), config, rng, encoder_loss=False)


def _loss(model: Model, batch: Batch, step: int) -> Tensor:
    """Of a canvas of each example."""
    count, width = batch.canvas.shape
    draw = Draw.sample(count, width, model.config.vocab_size, OBJECTIVE, torch.Generator().manual_seed(step))
    loss: Tensor = mean_canvas_loss(model, batch.ids, batch.canvas, batch.start, shared_start(batch.start), draw)[0]
    return loss


def _likelihood(model: Model, batch: Batch, marks: list[int]) -> Tensor:
    """How near the marks come to being written: both in reading prompts and on canvases of nothing but noise, where the
    model is least sure, their logits should stay `BELOW` the best one."""
    hidden, context = encode(model, batch.ids)
    read = hidden[torch.arange(hidden.shape[1]) < batch.start[:, None]]
    noise = torch.randint_like(batch.canvas, model.config.vocab_size)
    logits = model.backbone.logits(torch.cat([read, denoise(model, noise, batch.start, context, None)]))
    return F.softplus(logits[:, marks] - logits.amax(-1, keepdim=True).detach() + BELOW).mean()
