"""From prompt and answer texts to what the objective reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from diffusiongemma.config import ModelConfig
from diffusiongemma.train.objective import Batch

TURN_END = "<turn|>"


@dataclass(frozen=True)
class Tokenised:
    """One example: what stands before, as the chat template writes it, and the answer cut into whole canvases.

    The last canvas is filled with end tokens, which are supervised like the rest: this is how the model learns
    where to stop. The encoder learns to predict the answer up to its first end token (nothing is read after it),
    and with `whole_text` the prompt too.
    """

    prompt: list[int]
    answer: list[int]  # a multiple of the canvas length
    length: int  # of the answer without the end tokens that fill it up
    whole_text: bool = False

    @property
    def tokens(self) -> int:
        """Of prompt and answer, without what fills the last canvas."""
        return len(self.prompt) + self.length


def tokenise(pairs: Sequence[tuple[str, str]], tokenizer: Any, config: ModelConfig) -> list[Tokenised]:
    """Chat prompts and answers of (prompt, answer) texts that hold no markup."""
    from diffusiongemma.chat import render

    if not pairs:
        return []
    prompts = [render([{"role": "user", "content": prompt}], tokenizer) for prompt, _ in pairs]
    answers = [answer + TURN_END for _, answer in pairs]
    encoded = tokenizer(prompts + answers, add_special_tokens=False).input_ids
    return [
        Tokenised(prompt, fill_canvases(answer, config), len(answer))
        for prompt, answer in zip(encoded[: len(pairs)], encoded[len(pairs) :], strict=True)
    ]


def fill_canvases(answer: list[int], config: ModelConfig) -> list[int]:
    """The answer, lengthened with end tokens to whole canvases."""
    end = config.eos_token_id if isinstance(config.eos_token_id, int) else config.eos_token_id[0]
    return answer + [end] * (-len(answer) % config.canvas_length)


def collate(
    examples: Sequence[Tokenised],
    config: ModelConfig,
    rng: np.random.Generator,
    encoder_loss: bool = True,
    runs: float = 1.0,
) -> Batch:
    """One random canvas of each example. Without `encoder_loss` the encoder reads only what precedes the canvas.

    `runs` as in `Batch`.
    """
    width = config.canvas_length
    chosen = [int(rng.integers(len(e.answer) // width)) * width for e in examples]
    read = [max(c, e.length if encoder_loss else 0) for e, c in zip(examples, chosen, strict=True)]
    rows = [e.prompt + e.answer[:n] for e, n in zip(examples, read, strict=True)]
    ids = torch.full((len(rows), max(map(len, rows))), config.pad_token_id)
    supervised = torch.zeros(ids.shape, dtype=torch.bool)
    for i, (row, example) in enumerate(zip(rows, examples, strict=True)):
        ids[i, : len(row)] = torch.tensor(row)
        first = 0 if example.whole_text else len(example.prompt)
        supervised[i, first : len(example.prompt) + example.length] = encoder_loss
    return Batch(
        ids=ids,
        start=torch.tensor([len(e.prompt) + c for e, c in zip(examples, chosen, strict=True)]),
        canvas=torch.tensor([e.answer[c : c + width] for e, c in zip(examples, chosen, strict=True)]),
        supervised=supervised,
        runs=runs,
    )


def by_length(examples: Sequence[Tokenised], groups: int) -> list[Sequence[Tokenised]]:
    """The examples in `groups` batches of like length, so that little of them is padding."""
    ordered = sorted(examples, key=lambda e: e.tokens)
    cuts = [round(i * len(ordered) / groups) for i in range(groups + 1)]
    return [ordered[a:b] for a, b in pairwise(cuts) if b > a]
