"""`python -m recipes.nano states OUT.npz`: what a trained model thinks of the canvases it meets while it decodes.

`train --keep OUT.npz` then teaches other things and holds the model to these predictions (Li and Hoiem 2017: learning
without forgetting). What rollouts taught it is lost to plain corruptions within a few hundred steps otherwise; the
states were met once, so that this costs less than going on with rollouts. Beside it, texts for the encoder alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusiongemma.config import ModelConfig
from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.diffusion.denoise import Canvas, denoise_step
from diffusiongemma.diffusion.noise import Noise
from diffusiongemma.errors import InputError
from diffusiongemma.model.model import Model
from diffusiongemma.train.data import by_length, collate, tokenise
from diffusiongemma.train.mixtures import Source, mixed_source, task_source
from diffusiongemma.train.objective import denoise, encode
from diffusiongemma.train.rolling import encoder_loss
from diffusiongemma.train.runtime import seed_of
from recipes.nano.everyday import FEWEST_GIVENS
from recipes.nano.mixtures import DataDirs, _seeds
from recipes.nano.sources import boards

TOP = 8  # tokens that are kept of a prediction
TOGETHER = 32  # canvases decoded at a time
GROUPS = 4  # of texts of like length
MOST_GIVENS = 60


@dataclass(frozen=True)
class States:
    """n moments of decoding: ids [n, S] padded on the right, start [n], noisy [n, C], soft [n, C, D] in bfloat16, and
    the TOP most probable tokens [n, C, TOP] with their probabilities."""

    ids: Tensor
    start: Tensor
    noisy: Tensor
    soft: Tensor
    tokens: Tensor
    probabilities: Tensor

    def __len__(self) -> int:
        return len(self.start)

    def take(self, rows: Tensor) -> States:
        taken = States(*(getattr(self, f.name)[rows] for f in fields(self)))
        return States(taken.ids[:, : int(taken.start.max())], *(getattr(taken, f.name) for f in fields(self)[1:]))

    def save(self, path: Path) -> None:
        arrays = {f.name: getattr(self, f.name) for f in fields(self)}
        arrays["soft"] = self.soft.view(torch.int16)
        np.savez(path, **{name: x.numpy() for name, x in arrays.items()})

    @classmethod
    def load(cls, path: Path) -> States:
        """Raises `InputError` where there are none."""
        try:
            with np.load(path) as file:
                arrays = {f.name: torch.from_numpy(file[f.name]) for f in fields(cls)}
        except (OSError, KeyError, ValueError) as error:
            raise InputError(
                f"{path} holds no states ({error}): make them with `python -m recipes.nano states`"
            ) from None
        return cls(**(arrays | {"soft": arrays["soft"].view(torch.bfloat16)}))


class Keeper:
    """The loss of forgetting: cross-entropy of a model's predictions at some of the states with those kept."""

    COUNT, WEIGHT = 10, 3.0  # states at a step, and of their loss, where nothing else is said

    def __init__(self, states: States, count: int, seed: int, weight: float = 1.0):
        self.states, self.count, self.seed, self.weight = states, count, seed, weight

    def __call__(self, model: Model, step: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed_of(self.seed, step))
        rows = torch.randint(len(self.states), (self.count,), generator=generator)
        return self.weight * kept_loss(model, self.states.take(rows))


class Texts:
    """The loss of the encoder on texts of their own, which costs a third of what it costs with a canvas behind them."""

    def __init__(self, source: Source, config: ModelConfig, count: int, seed: int, weight: float = 2.0):
        self.source, self.config, self.count, self.seed, self.weight = source, config, count, seed, weight

    def __call__(self, model: Model, step: int) -> Tensor:
        rng = np.random.default_rng((self.seed, step, 1))
        groups = by_length(self.source(rng, self.count, step), GROUPS)
        batches = [collate(group, self.config, rng).to(model.device) for group in groups]
        tokens = [int(batch.supervised[:, 1:].sum()) for batch in batches]
        losses = [encoder_loss(model, batch) * n for batch, n in zip(batches, tokens, strict=True)]
        return self.weight * torch.stack(losses).sum() / sum(tokens)


def kept_loss(model: Model, states: States) -> Tensor:
    """Mean cross-entropy [] over all positions."""
    device = model.device
    start = states.start.to(device)
    _, context = encode(model, states.ids.to(device).long())
    hidden = denoise(model, states.noisy.to(device).long(), start, context, states.soft.to(device).float())
    logits = model.backbone.logits(hidden).float()  # [n*C, V]
    tokens, probabilities = states.tokens.flatten(0, 1).long().to(device), states.probabilities.flatten(0, 1).to(device)
    found = logits.gather(1, tokens) - logits.logsumexp(-1, keepdim=True)
    return -(probabilities.float() * found).sum(-1).mean()


# --- making them ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def met(model: Model, prompts: Sequence[list[int]], decoding: Decoding, each: int, rng: np.random.Generator) -> States:
    """`each` of the states that the first canvases behind these prompts go through, chosen at random."""
    config = model.config
    cache = [model.encode(torch.tensor([ids])).rows[0] for ids in prompts]
    seeds = rng.integers(2**31, size=len(prompts))
    canvases = [
        Canvas.open(row, config.canvas_length, config.vocab_size, Noise(int(seed), 0), decoding, model.device)
        for row, seed in zip(cache, seeds, strict=True)
    ]
    seen: list[list[tuple[Tensor, Tensor]]] = [[] for _ in canvases]
    while going := [i for i, canvas in enumerate(canvases) if not canvas.done]:
        for i in going:
            canvas = canvases[i]
            soft = torch.zeros(len(canvas.tokens), config.hidden_size) if canvas.soft is None else canvas.soft
            seen[i].append((canvas.tokens.clone(), soft.bfloat16()))
        denoise_step(model, [canvases[i] for i in going])
    chosen = [
        (i, *states[int(at)])
        for i, states in enumerate(seen)
        for at in rng.choice(len(states), min(each, len(states)), replace=False)
    ]
    softs = [soft.float() if bool(soft.any()) else None for _, _, soft in chosen]
    hidden = model.denoise_rows([cache[i] for i, _, _ in chosen], [tokens for _, tokens, _ in chosen], softs)
    shares, tokens = model.backbone.logits(hidden).softmax(-1).topk(TOP)
    shape = (len(chosen), config.canvas_length, TOP)
    ids = torch.zeros(len(chosen), max(map(len, prompts)), dtype=torch.int16)
    for row, (i, _, _) in enumerate(chosen):
        ids[row, : len(prompts[i])] = torch.tensor(prompts[i])
    return States(
        ids,
        torch.tensor([len(prompts[i]) for i, _, _ in chosen]),
        torch.stack([tokens for _, tokens, _ in chosen]).short(),
        torch.stack([soft for _, _, soft in chosen]),
        tokens.view(shape).short(),
        (shares / shares.sum(-1, keepdim=True)).view(shape).half(),
    )


def skills(tokenizer: Any, config: Any, dirs: DataDirs) -> Source:
    """What nano was taught first."""
    seeds = _seeds(dirs)

    def sudokus(rng: np.random.Generator, count: int, step: int) -> list[Any]:
        drawn = zip(*boards.sudoku.sample_boards(seeds, count, rng, givens=(FEWEST_GIVENS, MOST_GIVENS)), strict=True)
        return tokenise([boards.pair(rng, *one, usual=0.8) for one in drawn], tokenizer, config)

    shares = {"extraction": 0.22, "repair": 0.22, "words": 0.06, "answers": 0.05}
    tasks = [(task_source(name, tokenizer, config), share) for name, share in shares.items()]
    return mixed_source((sudokus, 0.45), *tasks)


def joined(parts: Sequence[States]) -> States:
    size = max(part.ids.shape[1] for part in parts)
    padded = [torch.nn.functional.pad(part.ids, (0, size - part.ids.shape[1])) for part in parts]
    rest = [torch.cat([getattr(part, f.name) for part in parts]) for f in fields(States)[1:]]
    return States(torch.cat(padded), *rest)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT.npz")
    parser.add_argument("--model", default="nano", help="whose predictions are kept; default nano")
    parser.add_argument("--canvases", type=int, default=3000, help="that it decodes")
    parser.add_argument("--each", type=int, default=3, help="states of each of them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="where seed puzzles are kept")


def run(options: argparse.Namespace) -> None:
    import diffusiongemma as dg

    loaded = dg.load(options.model)
    model, decoding = loaded.network, loaded.generation
    source = skills(loaded.tokenizer, model.config, DataDirs(options.cache))
    rng = np.random.default_rng(options.seed)
    parts: list[States] = []
    while (made := TOGETHER * len(parts)) < options.canvases:
        prompts = [example.prompt for example in source(rng, TOGETHER, 0)]
        parts.append(met(model, prompts, decoding, options.each, rng))
        print(f"{made + TOGETHER} of {options.canvases} canvases", flush=True)
    joined(parts).save(options.out)
