"""Training on the canvases that a model meets while it decodes: its own, with its own mistakes on them.

Under uniform noise every token that fits its neighbours is right, so a model never learns to doubt one. Decoding
accepts wrong ones, and a canvas that holds some often stays as it is until its steps run out (see the log). Here
canvases are on their way from noise to text all the time. A training step reads some of them, learns what the clean
canvas is, and takes each one step further by the rules of decoding: on-policy states (Ross et al. 2011, Savinov et al.
2021), for the price of reading the vocabulary once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.diffusion.noise import ANCESTRAL, RENOISE, SAMPLE, GivenNoise, NoiseOfSeveral, corrupt
from diffusiongemma.diffusion.readout import Prediction, read
from diffusiongemma.diffusion.samplers import Ancestral, StepContext
from diffusiongemma.errors import CheckpointError, InputError
from diffusiongemma.model.model import Model
from diffusiongemma.train.config import require_at_least
from diffusiongemma.train.objective import Batch, Draw, Objective


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


@dataclass(frozen=True)
class Numbers:
    """What a step of decoding of n canvases takes from the CPU: step [n, 1] float64 and temperature [n], and uniforms
    [n, streams, C] float64 of the streams that its sampler draws from."""

    FIELDS: ClassVar = ("step", "temperature", "uniforms")

    step: Tensor
    temperature: Tensor
    uniforms: Tensor

    def to(self, device: torch.device) -> Numbers:
        return Numbers(*(getattr(self, name).to(device) for name in self.FIELDS))


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
        numbers = self.numbers(canvases, 1).to(self.device)
        found = self.followed(model, canvases.noisy, canvases.argmax, denoised.flatten(0, 1), numbers)
        canvases.noisy, canvases.soft, canvases.argmax, stops = found
        return self.pass_on(canvases, stops.cpu())

    def numbers(self, canvases: Canvases, ahead: int) -> Numbers:
        """What the step that is so far `ahead` takes from the CPU, for each canvas [n]."""
        step, width = canvases.step + ahead, canvases.canvas.shape[1]
        noise = NoiseOfSeveral(tuple(canvases.seed.tolist()))
        levels = [max(0.0, 1 - (at - 1) / self.decoding.steps) for at in step.tolist()]
        temperature = torch.tensor([self.decoding.temperature(level) for level in levels])
        uniforms = torch.stack([noise.uniforms(step, stream, width) for stream in self.streams], dim=1)
        return Numbers(step[:, None].double(), temperature, uniforms)

    @property
    def streams(self) -> tuple[int, ...]:
        """The random numbers that a step of this sampler takes."""
        return (SAMPLE, RENOISE, ANCESTRAL) if isinstance(self.decoding.sampler, Ancestral) else (SAMPLE, RENOISE)

    @torch.no_grad()
    def followed(
        self, model: Model, noisy: Tensor, before: Tensor, denoised: Tensor, numbers: Numbers
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One step of decoding of canvases `noisy` [n, C], of which the last reading was `before` [n, C], after hidden
        states [n*C, D] -> (noisy, soft, argmax) as in `Canvases`, and by which of them the stop rule holds [n].

        Nothing here waits for the device, on which all of it lies.
        """
        count, width = noisy.shape
        noise = GivenNoise(dict(zip(self.streams, numbers.uniforms.unbind(1), strict=True)))
        temperature = numbers.temperature.repeat_interleave(width)
        greedy = torch.full((count * width,), self.decoding.temperature.greedy, device=noisy.device)
        uniforms = noise.uniforms(numbers.step, SAMPLE, width).flatten()
        flat = read(model.backbone, denoised, temperature, uniforms, greedy)
        prediction = Prediction(**{name: x.unflatten(0, (count, width)) for name, x in vars(flat).items()})
        context = StepContext(noise, numbers.step, self.decoding.steps, self.vocab_size)
        following = self.decoding.sampler(noisy, prediction, context)[0]
        # Before the first reading the argmax is -1, like no token.
        stops = self.decoding.stop([before, prediction.argmax], prediction.entropy)
        return following, prediction.soft.float(), prediction.argmax, stops

    def pass_on(self, canvases: Canvases, stops: Tensor) -> Tensor:
        """Count a step of each canvas [n] -> which are at their end [n], as those are that `stops` [n] names."""
        canvases.step = canvases.step + 1
        going = canvases.step - canvases.entered < self.rollouts.longest
        return (canvases.step >= self.decoding.steps) | ~going | stops

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
