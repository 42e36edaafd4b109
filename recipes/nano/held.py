"""`train --new-from N --held COUNT`: all of a model learns, and goes on saying of sudokus what it said of them before.

Other experts alone (`recipes.nano.apart`) leave a model the attention of before, which knows no texts: it copies long
words wrong. Here everything learns but the first `N` experts, at a lower rate, and a loss holds what the model says on
canvases of sudokus, on their way as the old model decodes them, to what the old model says of them. At the start this
loss is zero, and so is its gradient: it says nothing where nothing has changed, unlike the right answers themselves.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.model.model import Model
from diffusiongemma.train.attention import shared_start
from diffusiongemma.train.data import collate
from diffusiongemma.train.mixtures import Source
from diffusiongemma.train.objective import Batch, Objective, denoise, encode
from diffusiongemma.train.optimisation import slow_down
from diffusiongemma.train.parallel import rank
from diffusiongemma.train.rollouts import Pool, Rollouts
from diffusiongemma.train.runtime import seed_of
from recipes.nano.apart import train_new_experts

POOL = 16  # canvases on their way, for each that a step reads
SLOWER = 1 / 6  # the rate of what all tokens share, beside that of new experts


def train_all_but(model: Model, old: int, muon: float = 0.0) -> None:
    """Of the layers everything gets gradients but the experts before number `old`: what tokens share, at a lower rate,
    or its matrices by Muon at a share of `muon`. Embeddings stay: they are the head's weights too."""
    train_new_experts(model, old)
    for layer in model.backbone.layers:
        for weight in layer.parameters():
            if not weight.requires_grad:
                slow_down(weight.requires_grad_(True), muon or SLOWER, muon > 0)


class Held:
    """The loss of a model that says other things than `before` says, on `count` canvases of `source` in each process.

    Canvases begin anew when a run is resumed."""

    def __init__(self, before: Model, source: Source, decoding: Decoding, count: int, seed: int, weight: float = 20.0):
        self.before, self.source, self.count, self.seed, self.weight = before, source, count, seed, weight
        before.requires_grad_(False)
        self.objective = Objective(noise_bias=4)
        self.pool = Pool(Rollouts(decoding, reads=1), before)

    def __call__(self, model: Model, step: int) -> Tensor:
        """Nats per token of the canvases, by the weight []."""
        rng = np.random.default_rng((self.seed, step, 2 + rank()))
        generator = torch.Generator().manual_seed(seed_of(self.seed, step, rank()))
        if self.pool.canvases is None:
            self.pool.fill([self._batch(self.count * POOL, rng)], self.objective, generator)
        canvases, rows = self.pool.choose(self.count, generator)
        noisy, soft, start = canvases.noisy, canvases.soft, canvases.start
        shared = shared_start(start)
        with torch.no_grad():
            hidden = denoise(self.before, noisy, start, encode(self.before, canvases.ids)[1], soft, shared)
            said = self.before.backbone.logits(hidden).float().log_softmax(-1)
        ended = self.pool.advance(self.before, canvases, hidden.unflatten(0, noisy.shape))
        now = denoise(model, noisy, start, encode(model, canvases.ids)[1], soft, shared)
        says = model.backbone.logits(now).float().log_softmax(-1)
        self.pool.put_back(canvases, rows, ended, self._batch(self.count, rng), self.objective, generator)
        return self.weight * (said.exp() * (said - says)).sum(-1).mean()

    def _batch(self, count: int, rng: np.random.Generator) -> Batch:
        return collate(self.source(rng, count, 0), self.before.config, rng, encoder_loss=False)
