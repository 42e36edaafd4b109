"""Training steps on rollouts: losses of canvases on their way, and the pools they come from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from diffusiongemma.errors import CheckpointError, InputError
from diffusiongemma.model.model import Model
from diffusiongemma.train import parallel
from diffusiongemma.train.attention import shared_start
from diffusiongemma.train.compiled import Compiled
from diffusiongemma.train.config import TrainConfig
from diffusiongemma.train.objective import (
    Batch,
    Batches,
    Objective,
    Totals,
    cross_entropy,
    denoise,
    encode,
    next_token_loss,
)
from diffusiongemma.train.recorded import Recorder, record_encoder, record_rollout
from diffusiongemma.train.rollouts import Canvases, Pool, Rollouts
from diffusiongemma.train.runtime import seed_of

FIRST = 2**40  # number of the first of the batches that fill a pool: no step has it


def rollout_loss(model: Model, pool: Pool, canvases: Canvases) -> tuple[Tensor, Tensor]:
    """Take canvases [n] some steps further -> the mean loss [] of their readings, and which came to their end [n]."""
    start, (count, width) = canvases.start, canvases.canvas.shape
    shared, clean = shared_start(start), canvases.canvas.flatten()
    _, context = encode(model, canvases.ids)
    total, ended = torch.zeros((), device=start.device), torch.zeros(count, dtype=torch.bool)
    for _ in range(pool.rollouts.reads):
        denoised = denoise(model, canvases.noisy, start, context, canvases.soft, shared)  # [n*C, D]
        total = total + cross_entropy(model, denoised, clean) / pool.rollouts.reads
        ended |= pool.advance(model, canvases, denoised.detach().unflatten(0, (count, width)))
    return total, ended


def encoder_loss(model: Model, batch: Batch) -> Tensor:
    """Mean loss [] of the encoder's predictions of examples, whether or not they get a canvas."""
    return next_token_loss(model, encode(model, batch.ids)[0], batch)


class Rolling:
    """The canvases of a run, in this process: a pool for each part of its batches.

    Raises `InputError` for options that do not go with rollouts.
    """

    def __init__(
        self,
        model: Model,
        rollouts: Rollouts,
        objective: Objective,
        config: TrainConfig,
        batches: Batches,
        recorder: Recorder | None = None,
    ):
        if not rollouts.after and objective.draws > 1:
            raise InputError("rollouts take the place of draws: leave those out")
        if config.accumulate > 1 or (config.shard and parallel.world_size() > 1):
            raise InputError("rollouts work on whole weights and batches: leave out accumulate and shard, or rollouts")
        self.objective = replace(objective, draws=1)
        self.model, self.rollouts, self.config = model, rollouts, config
        self.rollout_loss = Compiled(rollout_loss) if config.compile else rollout_loss
        self.encoder_loss = Compiled(encoder_loss) if config.compile else encoder_loss
        self.recorder = recorder
        self.batches, self.pools = batches, dict[int, Pool]()

    def backward(self, batches: Sequence[Batch], step: int) -> dict[str, float]:
        """Add the gradients of a step -> this process's share of its losses, and how many canvases came to their end
        and how many of those are right."""
        found = dict.fromkeys(("denoise", "encoder", "ended", "right"), 0.0)
        totals = Totals.of(batches, self.objective)
        if not self.pools:
            self._fill()
        for number, batch in enumerate(map(self._mine, batches)):
            pool, generator = self.pools[number], self._generator(step, number)
            canvases, rows = pool.choose(len(batch.start), generator)
            loss, ended = self._further(pool, canvases, len(canvases) / totals.canvases)
            right = (canvases.argmax == canvases.canvas).all(1).cpu() & ended
            found["denoise"] += float(loss)
            found["encoder"] += self._backward_encoder(batch, totals)
            found["ended"] += float(ended.sum())
            found["right"] += float(right.sum())
            pool.put_back(canvases, rows, ended, batch, self.objective, generator)
        return found

    def _further(self, pool: Pool, canvases: Canvases, share: float) -> tuple[Tensor, Tensor]:
        """Take canvases some steps further and add gradients -> their share of the loss, and which are at their end."""
        if self.recorder is not None:
            return record_rollout(self.recorder, self.model, pool, canvases, share)
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            loss, ended = self.rollout_loss(self.model, pool, canvases)
        loss = loss * share
        loss.backward()
        return loss.detach(), ended

    def _backward_encoder(self, batch: Batch, totals: Totals) -> float:
        """Every example is read once by the encoder, be there room among the canvases or not."""
        supervised = int(batch.supervised[:, 1:].sum())
        if not (self.objective.encoder_weight and supervised):
            return 0.0
        weight = self.objective.encoder_weight
        if self.recorder is not None:
            return float(record_encoder(self.recorder, self.model, batch, weight, totals)["encoder"])
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            loss = self.encoder_loss(self.model, batch.to(self.model.device)) * (supervised / totals.supervised)
        (weight * loss).backward()
        return float(loss.detach())

    def _fill(self) -> None:
        """Canvases of examples of their own in every pool."""
        drawn = [[self._mine(b) for b in self.batches(FIRST + k)] for k in range(self.rollouts.pool)]
        for number, batches in enumerate(zip(*drawn, strict=True)):
            self.pools[number] = Pool(self.rollouts, self.model)
            self.pools[number].fill(batches, self.objective, self._generator(FIRST, number))

    def _mine(self, batch: Batch) -> Batch:
        """This process's share."""
        if len(batch.start) < parallel.world_size():
            raise InputError(f"a batch of {len(batch.start)} is less than one for each process: raise the batch size")
        return batch.take(torch.arange(parallel.rank(), len(batch.start), parallel.world_size()))

    def _generator(self, step: int, number: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed_of(self.config.seed, step, number, parallel.rank()))

    def state(self) -> dict[str, Tensor]:
        """The canvases of all processes, by name."""
        mine = {f"{number}/{name}": x for number, pool in self.pools.items() for name, x in pool.state().items()}
        return {
            f"{rank}/{name}": x for rank, state in enumerate(parallel.all_gather(mine)) for name, x in state.items()
        }

    def restore(self, tensors: dict[str, Tensor] | None) -> None:
        """Put a state back; an empty one is of a run before its first canvas.

        Raises `CheckpointError` where there is none, or one of another number of processes.
        """
        everybody = {str(rank) for rank in range(parallel.world_size())}
        if tensors is None or {name.split("/")[0] for name in tensors} not in (set(), everybody):
            raise CheckpointError("the saved run lacks canvases of so many processes: resume it with as many as before")
        mine: dict[int, dict[str, Tensor]] = defaultdict(dict)
        for name, tensor in tensors.items():
            rank, part, which = name.split("/")
            if int(rank) == parallel.rank():
                mine[int(part)][which] = tensor
        for number, state in mine.items():
            self.pools[number] = Pool(self.rollouts, self.model)
            self.pools[number].restore(state)
