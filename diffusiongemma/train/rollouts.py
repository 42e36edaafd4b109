"""Training on the canvases that a model meets while it decodes: its own, with its own mistakes on them.

Under uniform noise every token that fits its neighbours is right, so a model never learns to doubt one. Decoding
accepts wrong ones, and a canvas that holds some often stays as it is until its steps run out (see the log). Here
canvases are on their way from noise to text all the time. A training step reads some of them, learns what the clean
canvas is, and takes each one step further by the rules of decoding: on-policy states (Ross et al. 2011, Savinov et al.
2021), for the price of reading the vocabulary once more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.diffusion.noise import SAMPLE, NoiseOfSeveral, corrupt
from diffusiongemma.diffusion.readout import Prediction, read
from diffusiongemma.diffusion.samplers import StepContext
from diffusiongemma.errors import CheckpointError, InputError
from diffusiongemma.model.model import Model
from diffusiongemma.train import parallel
from diffusiongemma.train.attention import shared_start
from diffusiongemma.train.compiled import Compiled
from diffusiongemma.train.config import TrainConfig, require_at_least
from diffusiongemma.train.objective import (
    Batch,
    Batches,
    Draw,
    Objective,
    Totals,
    cross_entropy,
    denoise,
    encode,
    next_token_loss,
)  # fmt: skip
from diffusiongemma.train.runtime import seed_of

FIRST = 2**40  # number of the first of the batches that fill a pool: no step has it


@dataclass(frozen=True)
class Rollouts:
    """How many canvases are on their way, and by which rules. Raises `InputError` out of range.

    A training step takes as many canvases as it is offered examples, out of `pool` times as many, `reads` steps further
    behind one encoder pass. A canvas begins at a noise level drawn as for any corruption and goes on until it has
    converged, its schedule ends or it has been read `longest` times. Then the next of the examples takes its place.
    Every reading but a canvas's first is conditioned on the one before, as in decoding: the objective's
    `self_conditioning` has no say. Patience has none either: what stands still and is wrong is what there is to learn
    from. All this begins when the share `after` of the run has gone by; until then it learns from corruptions.
    """

    decoding: Decoding = field(default_factory=Decoding)
    reads: int = 3
    pool: int = 16
    longest: int = 24
    after: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.after < 1:
            raise InputError("give a share from 0 to below 1", option="after", got=self.after)
        require_at_least(self, reads=1, pool=1, longest=1)


@dataclass
class Canvases:
    """P canvases on their way, ids padded to one length. Names as in `Batch`, and of the canvas itself:

    noisy [P, C] and soft [P, C, D], what is read next; argmax [P, C] of the last reading, -1 before the first; step [P]
    of the schedule and entered [P], the one it began at; seed [P] of its random numbers: these three on the CPU.
    """

    ids: Tensor
    start: Tensor
    canvas: Tensor
    noisy: Tensor
    soft: Tensor
    argmax: Tensor
    step: Tensor
    entered: Tensor
    seed: Tensor

    @classmethod
    def begin(cls, batch: Batch, draw: Draw, decoding: Decoding, hidden: int, generator: torch.Generator) -> Canvases:
        """Those of the examples of `batch`, each corrupted once, on the CPU."""
        count, width = batch.canvas.shape
        noisy = corrupt(batch.canvas, draw.level, draw.uniforms, draw.random_tokens)
        step = torch.tensor([decoding.entry(level) for level in draw.level.tolist()])
        return cls(
            batch.ids, batch.start, batch.canvas, noisy, torch.zeros(count, width, hidden), torch.full_like(noisy, -1),
            step, step.clone(), torch.randint(2**62, (count,), generator=generator),
        )  # fmt: skip

    def to(self, device: torch.device) -> Canvases:
        here = ("step", "entered", "seed")
        return replace(self, **{name: x.to(device) for name, x in self.tensors().items() if name not in here})

    def take(self, rows: Tensor) -> Canvases:
        return Canvases(*(x[rows] for x in self.tensors().values()))

    def put(self, rows: Tensor, others: Canvases) -> None:
        for mine, theirs in zip(self.tensors().values(), others.tensors().values(), strict=True):
            mine[rows] = theirs

    def tensors(self) -> dict[str, Tensor]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __len__(self) -> int:
        return len(self.start)


class Pool:
    """The canvases of one part of every batch, in one process."""

    def __init__(self, rollouts: Rollouts, model: Model):
        self.rollouts, self.decoding = rollouts, rollouts.decoding
        self.vocab_size, self.hidden, self.device = model.config.vocab_size, model.config.hidden_size, model.device
        self.canvases: Canvases | None = None

    def fill(self, batches: Sequence[Batch], objective: Objective, generator: torch.Generator) -> None:
        """Begin with a canvas of every example of these batches."""
        begun = _padded(*(self._begin(batch, objective, generator) for batch in batches))
        self.canvases = Canvases(*map(torch.cat, zip(*(c.tensors().values() for c in begun), strict=True)))

    def choose(self, offered: int, generator: torch.Generator) -> tuple[Canvases, Tensor]:
        """As many of the canvases as a step is offered examples, and where they lie."""
        assert self.canvases is not None
        rows = torch.randperm(len(self.canvases), generator=generator)[:offered]
        return self.canvases.take(rows), rows

    def put_back(
        self, canvases: Canvases, rows: Tensor, ended: Tensor, batch: Batch, objective: Objective, generator: Any
    ) -> None:
        """Canvases [n] that went on back to their rows; of `batch`, of as many examples, the first take the places of
        those that `ended` [n]."""
        assert self.canvases is not None
        places = ended.nonzero()[:, 0]
        if len(places):
            fresh = self._begin(batch.take(torch.arange(len(places))), objective, generator)
            self.canvases, canvases, fresh = _padded(self.canvases, canvases, fresh)
            canvases.put(places, fresh)
        self.canvases.put(rows, canvases)

    def _begin(self, batch: Batch, objective: Objective, generator: torch.Generator) -> Canvases:
        count, width = batch.canvas.shape
        draw = Draw.sample(count, width, self.vocab_size, objective, generator, batch.runs)
        return Canvases.begin(batch, draw, self.decoding, self.hidden, generator).to(self.device)

    @torch.no_grad()
    def advance(self, model: Model, canvases: Canvases, denoised: Tensor) -> Tensor:
        """One step of decoding of each canvas [n] after its hidden states [n, C, D] -> which are at their end [n], told
        on the CPU. What has been read is left as it is, for the backward pass, and replaced.
        """
        noise = NoiseOfSeveral(tuple(canvases.seed.tolist()))
        step, before = canvases.step + 1, canvases.argmax
        prediction = self._read(model, denoised, step, noise)
        context = StepContext(noise, step[:, None].double().to(self.device), self.decoding.steps, self.vocab_size)
        canvases.noisy = self.decoding.sampler(canvases.noisy, prediction, context)[0]
        canvases.soft, canvases.argmax, canvases.step = prediction.soft.float(), prediction.argmax, step
        passed = (step >= self.decoding.steps) | (step - canvases.entered >= self.rollouts.longest)
        # Before the first reading the argmax is -1, like no token.
        return passed | self.decoding.stop([before, prediction.argmax], prediction.entropy).cpu()

    def _read(self, model: Model, hidden: Tensor, step: Tensor, noise: NoiseOfSeveral) -> Prediction:
        """Predictions [n, C] at hidden states [n, C, D], for a step [n] of each canvas."""
        count, width = hidden.shape[:2]
        uniforms = noise.uniforms(step, SAMPLE, width).flatten().to(hidden.device)
        levels = [max(0.0, 1 - (at - 1) / self.decoding.steps) for at in step.tolist()]
        temperature = torch.tensor([self.decoding.temperature(level) for level in levels]).repeat_interleave(width)
        greedy = torch.full((count * width,), self.decoding.temperature.greedy, device=hidden.device)
        flat = read(model.backbone, hidden.flatten(0, 1), temperature.to(hidden.device), uniforms, greedy)
        return Prediction(**{name: x.unflatten(0, (count, width)) for name, x in vars(flat).items()})

    def state(self) -> dict[str, Tensor]:
        return {} if self.canvases is None else self.canvases.to(torch.device("cpu")).tensors()

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Raises `CheckpointError` where these are not a pool's."""
        if tensors.keys() != {f.name for f in fields(Canvases)}:
            raise CheckpointError("the canvases of the saved run are not whole: start again in another directory")
        self.canvases = Canvases(**tensors).to(self.device)


def _padded(*several: Canvases) -> list[Canvases]:
    """The same with ids as long as the longest of them."""
    size = max(canvases.ids.shape[1] for canvases in several)
    return [c if c.ids.shape[1] == size else replace(c, ids=F.pad(c.ids, (0, size - c.ids.shape[1]))) for c in several]


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

    def __init__(self, model: Model, rollouts: Rollouts, objective: Objective, config: TrainConfig, batches: Batches):
        if not rollouts.after and objective.draws > 1:
            raise InputError("rollouts take the place of draws: leave those out")
        if config.accumulate > 1 or (config.shard and parallel.world_size() > 1):
            raise InputError("rollouts work on whole weights and batches: leave out accumulate and shard, or rollouts")
        self.objective = replace(objective, draws=1)
        self.model, self.rollouts, self.config = model, rollouts, config
        self.rollout_loss = Compiled(rollout_loss) if config.compile else rollout_loss
        self.encoder_loss = Compiled(encoder_loss) if config.compile else encoder_loss
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
            with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
                loss, ended = self.rollout_loss(self.model, pool, canvases)
            loss = loss * (len(canvases) / totals.canvases)
            loss.backward()
            right = (canvases.argmax == canvases.canvas).all(1).cpu() & ended
            found["denoise"] += float(loss.detach())
            found["encoder"] += self._backward_encoder(batch, totals)
            found["ended"] += float(ended.sum())
            found["right"] += float(right.sum())
            pool.put_back(canvases, rows, ended, batch, self.objective, generator)
        return found

    def _backward_encoder(self, batch: Batch, totals: Totals) -> float:
        """Every example is read once by the encoder, be there room among the canvases or not."""
        supervised = int(batch.supervised[:, 1:].sum())
        if not (self.objective.encoder_weight and supervised):
            return 0.0
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            loss = self.encoder_loss(self.model, batch.to(self.model.device)) * (supervised / totals.supervised)
        (self.objective.encoder_weight * loss).backward()
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
