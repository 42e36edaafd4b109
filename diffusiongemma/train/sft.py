"""Batches of people's own conversations: a shuffled order, a held-out part, and how well that is predicted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from diffusiongemma.config import ModelConfig
from diffusiongemma.errors import InputError
from diffusiongemma.train.chats import ChatFile, encode_chat
from diffusiongemma.train.config import DataConfig
from diffusiongemma.train.data import by_length, collate
from diffusiongemma.train.objective import Batch, Batches, Draw, Objective, Totals
from diffusiongemma.train.parallel import LossModule
from diffusiongemma.train.run import Run
from diffusiongemma.train.trainer import Evaluate, Evaluation

HELD_OUT_SHARE, MOST_HELD_OUT = 0.05, 64
FEWEST_TO_HOLD_OUT = 40  # lines; of fewer, all are needed for training
ROWS_TOGETHER = 8  # examples of like length padded to one size
PASSES, FEWEST_STEPS, MOST_STEPS = 3, 200, 2000
DEFAULT_LIMIT, SHORTEST_PROMPT = 2048, 32  # tokens


def split(lines: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the lines to train on and of those held out: 5 %, at most 64, none of fewer than 40."""
    order = np.random.default_rng((seed, lines)).permutation(lines)
    count = min(MOST_HELD_OUT, int(lines * HELD_OUT_SHARE)) if lines >= FEWEST_TO_HOLD_OUT else 0
    return np.sort(order[count:]), order[:count]


def sized(lines: int, changes: Mapping[str, Any], *presets: Run) -> list[Run]:
    """The presets with a length for so many lines, and evaluations at every tenth of it."""
    done = []
    for preset in presets:
        batch = preset.changed(changes).data.batch
        steps = min(MOST_STEPS, max(FEWEST_STEPS, math.ceil(PASSES * lines / batch)))
        every = max(10, (changes.get("train.steps") or steps) // 10)
        done.append(preset.changed({"train.steps": steps, "train.evaluate_every": every}))
    return done


def token_limit(config: ModelConfig, asked: int | None) -> int:
    """Tokens of an example. Raises `InputError` where that leaves no room for a prompt and a canvas."""
    most, least = config.max_position_embeddings, config.canvas_length + SHORTEST_PROMPT
    limit = min(DEFAULT_LIMIT, most) if asked is None else asked
    if not least <= limit <= most:
        raise InputError(f"data.max_length is {limit}: give {least:,} to {most:,} tokens")
    return limit


def chat_batches(
    file: ChatFile, lines: np.ndarray, tokenizer: Any, config: ModelConfig, *, data: DataConfig, limit: int, seed: int
) -> Batches:
    """All `lines` in a random order, then again in another; examples of a step in groups of like length."""
    size = data.batch

    @lru_cache(maxsize=2)
    def order(epoch: int) -> np.ndarray:
        return np.random.default_rng((seed, epoch, 1)).permutation(lines)

    def batches(step: int) -> list[Batch]:
        rng = np.random.default_rng((seed, step))
        places = (divmod(step * size + i, len(lines)) for i in range(size))
        chats = [file[order(epoch)[place]] for epoch, place in places]
        examples = [encode_chat(chat, tokenizer, config, rng, limit) for chat in chats]
        groups = by_length(examples, max(1, size // ROWS_TOGETHER))
        return [collate(group, config, rng, data.encoder_learns(step)) for group in groups]

    return batches


def held_out_batches(
    file: ChatFile, lines: np.ndarray, tokenizer: Any, config: ModelConfig, *, limit: int, seed: int
) -> list[Batch]:
    """One canvas of each held-out line, always the same."""
    rng = np.random.default_rng((seed, 2))
    examples = [encode_chat(file[i], tokenizer, config, rng, limit) for i in lines]
    groups = by_length(examples, max(1, len(lines) // ROWS_TOGETHER)) if examples else []
    return [collate(group, config, rng) for group in groups]


def held_out_loss(batches: Sequence[Batch], objective: Objective, precision: str, seed: int) -> Evaluate:
    """The objective on held-out batches under the same noise each time; the lower the loss, the higher the score."""
    totals = Totals.of(list(batches), objective)

    def evaluate(module: LossModule) -> Evaluation:
        device, width = module.model.device, module.model.config.canvas_length
        total = 0.0
        for number, batch in enumerate(batches):
            generator = torch.Generator().manual_seed(seed + number)
            draw = Draw.sample(len(batch.canvas), width, module.model.config.vocab_size, objective, generator)
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                total += float(module(batch.to(device), draw.to(device), objective, totals)[0])
        return Evaluation(-total, {"held_out_loss": total})

    return evaluate
