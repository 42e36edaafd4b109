"""`train --pages COUNT`: sums in great number, for the encoder alone.

A question and its answer are mostly words. A page has sums one below the other, of which the model learns what stands
behind "=": in the same time it reads three times as many. Every second one is asked for in a line of its own, as people
do, and all of its answer is learnt: which numbers, and what to do with them. Texts (`--texts`) are whole conversations.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusiongemma.chat import render
from diffusiongemma.model.model import Model
from diffusiongemma.train.objective import Batch
from diffusiongemma.train.parallel import rank
from diffusiongemma.train.rolling import encoder_loss
from recipes.nano.sources import sums
from recipes.nano.sources.phrasing import is_probe

LENGTH = 128  # tokens of a page
ASKED = 0.5  # of its sums


class Pages:
    """The loss of the encoder on what sums come to, `count` pages of them in each process."""

    def __init__(self, tokenizer: Any, count: int, seed: int, weight: float = 2.0):
        self.tokenizer, self.count, self.seed, self.weight = tokenizer, count, seed, weight
        self.before = self._ids(render([{"role": "user", "content": "Sums"}], tokenizer))

    def __call__(self, model: Model, step: int) -> Tensor:
        return self.weight * encoder_loss(model, self.batch(step).to(model.device))

    def batch(self, step: int) -> Batch:
        rng = np.random.default_rng((self.seed, step, 3 + rank()))
        pages = [self._page(rng) for _ in range(self.count)]
        ids = torch.tensor([page for page, _ in pages])
        learnt = torch.tensor([learnt for _, learnt in pages])
        return Batch(ids, start=torch.full((len(ids),), LENGTH), canvas=ids[:, :0], supervised=learnt)

    def _page(self, rng: np.random.Generator) -> tuple[list[int], list[bool]]:
        """Its tokens, and of each whether it is learnt."""
        ids, learnt = list(self.before), [False] * len(self.before)
        while len(ids) < LENGTH:
            one = sums.draw_sum(rng)
            if one.belongs("train"):
                for text, wanted in zip(_line(one, rng), (False, True, False), strict=True):
                    part = self._ids(text)
                    ids += part
                    learnt += [wanted] * len(part)
        return ids[:LENGTH], learnt[:LENGTH]

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]


def _line(one: sums.Sum, rng: np.random.Generator) -> tuple[str, str, str]:
    """What stands before what is learnt of a sum, that, and what follows."""
    if rng.random() < ASKED:
        example = sums.ask(one, rng)
        if not is_probe(example.prompt):
            return f"{example.prompt}\n", example.answer, "\n"
    asked, _, said = one.said.partition(" =")
    return f"{asked} =", f"{said}.", "\n"
