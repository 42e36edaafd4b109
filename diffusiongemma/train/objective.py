"""The training objective: cross-entropy of the clean canvas given a corrupted one, and next-token on the encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from diffusiongemma.diffusion.noise import corrupt
from diffusiongemma.errors import InputError
from diffusiongemma.kernels.head_loss import head_loss
from diffusiongemma.model.model import Model
from diffusiongemma.train.attention import DenoiseBatch, EncodeBatch, shared_start
from diffusiongemma.train.config import require_at_least

CHUNK_ELEMENTS = 1 << 24  # probabilities of the first reading held at a time: 64 MiB in float32


@dataclass(frozen=True)
class Objective:
    """Weights and probabilities of the loss; the defaults are the open recipe's. Raises `InputError` out of range.

    `self_conditioning` is the share of canvases read a second time with the first reading's prediction as soft
    embedding; the others get zeros. `draws` is the number of corruptions of each canvas behind one encoder pass. Noise
    levels have the density b·t^(b-1) with b the `noise_bias`: 1 is the recipe's uniform one, more favours canvases
    that are mostly noise.
    """

    self_conditioning: float = 0.5
    encoder_weight: float = 1.0
    draws: int = 1
    noise_bias: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.self_conditioning <= 1:
            raise InputError("give a share from 0 to 1", option="self_conditioning", got=self.self_conditioning)
        require_at_least(self, encoder_weight=0, draws=1)
        if not self.noise_bias > 0:
            raise InputError("give a number above 0", option="noise_bias", got=self.noise_bias)


@dataclass(frozen=True)
class Batch:
    """What the encoder reads and which canvas behind it is denoised.

    ids [B, S], padded on the right; start [B], the tokens before the canvas; canvas [B, C], clean; supervised
    [B, S] bool, the tokens the encoder is trained to predict (ids may stop before the canvas where there are none).
    `runs` is that of `in_runs` for the noise of these canvases.
    """

    ids: Tensor
    start: Tensor
    canvas: Tensor
    supervised: Tensor
    runs: float = 1.0

    def take(self, rows: Tensor) -> Batch:
        """The examples at `rows`, without the padding that none of them needs."""
        start, supervised = self.start[rows], self.supervised[rows]
        used = supervised.any(0).nonzero()
        size = max(int(start.max()), int(used[-1]) + 1 if len(used) else 0)
        canvas, supervised = self.canvas[rows], supervised[:, :size]
        return replace(self, ids=self.ids[rows, :size], start=start, canvas=canvas, supervised=supervised)

    def to(self, device: torch.device) -> Batch:
        moved: dict[str, Any] = {n: x.to(device) for n, x in vars(self).items() if isinstance(x, Tensor)}
        return replace(self, **moved)


Batches = Callable[[int], Sequence[Batch]]  # those of a step, by its number from 0: a pure function


@dataclass(frozen=True)
class Draw:
    """The random numbers of one loss over N = draws · B canvases, canvas n of example n % B.

    level [N]; uniforms and random_tokens [N, C]. The first `conditioned` canvases are self-conditioned: as good as an
    exact share of every batch, so that shapes are static. The first reading is of `read` canvases: processes that
    share a model must all make one or none.
    """

    level: Tensor
    uniforms: Tensor
    random_tokens: Tensor
    conditioned: int
    read: int

    @classmethod
    def sample(
        cls,
        batch: int,
        width: int,
        vocab_size: int,
        objective: Objective,
        generator: torch.Generator,
        runs: float = 1.0,
    ) -> Draw:
        count = batch * objective.draws
        shape = (count, width)
        level = torch.rand(count, generator=generator) ** (1 / objective.noise_bias)
        uniforms = in_runs(torch.rand(shape, generator=generator), runs, generator)
        tokens = torch.randint(vocab_size, shape, generator=generator)
        # Rounded up or down at random, so that single examples are self-conditioned as often as they should be.
        conditioned = int(count * objective.self_conditioning + float(torch.rand((), generator=generator)))
        return cls(level, uniforms, tokens, conditioned, read=conditioned)

    def take(self, rows: Tensor, batch: int) -> Draw:
        """The numbers of the examples at `rows`, ascending, of `batch`."""
        draws = len(self.level) // batch
        index = (torch.arange(draws)[:, None] * batch + rows).flatten()
        conditioned = int((index < self.conditioned).sum())  # these come first here too, as rows ascend
        read = max(conditioned, min(1, self.conditioned))
        return Draw(self.level[index], self.uniforms[index], self.random_tokens[index], conditioned, read)

    def to(self, device: torch.device) -> Draw:
        moved: dict[str, Any] = {n: x.to(device) for n, x in vars(self).items() if isinstance(x, Tensor)}
        return replace(self, **moved)


def in_runs(uniforms: Tensor, longest: float, generator: torch.Generator) -> Tensor:
    """uniforms [N, C] -> the same where neighbours share a number, so that they are corrupted together or not at all.

    Each position keeps its distribution. A canvas's mean length of runs is drawn between 1 and `longest`, evenly on a
    logarithmic scale. Text settles in runs while it is sampled, which independent noise hardly ever shows.
    """
    if longest <= 1:
        return uniforms
    count, width = uniforms.shape
    mean = longest ** torch.rand(count, 1, generator=generator)
    begins = torch.rand(count, width, generator=generator) < 1 / mean
    first = torch.where(begins, torch.arange(width), 0).cummax(1).values
    return uniforms.gather(1, first)


@dataclass(frozen=True)
class Totals:
    """Over how many canvases and supervised tokens a loss is the mean, where several batches make one step."""

    canvases: int
    supervised: int

    @classmethod
    def of(cls, batches: Sequence[Batch], objective: Objective) -> Totals:
        return cls(
            sum(len(b.canvas) for b in batches) * objective.draws, sum(int(b.supervised[:, 1:].sum()) for b in batches)
        )


@dataclass
class Loss:
    """Nats. Of a part of a step: its share of the step's means."""

    total: Tensor
    denoise: Tensor  # mean over all canvas positions
    encoder: Tensor  # mean over supervised tokens
    hidden: Tensor  # [B, S, D] what the encoder predicts from


def loss(
    model: Model,
    batch: Batch,
    draw: Draw,
    objective: Objective,
    totals: Totals | None = None,
    canvas_loss: Callable[..., Any] | None = None,
) -> Loss:
    """The loss of one batch. Gradients flow from the canvas through the encoder's keys and values.

    `canvas_loss` stands in for the function of that name, compiled for instance.
    """
    totals = totals or Totals.of([batch], objective)
    canvas, start = batch.canvas.repeat(objective.draws, 1), batch.start.repeat(objective.draws)  # [N, C], [N]
    denoise_loss, hidden = (canvas_loss or mean_canvas_loss)(model, batch.ids, canvas, start, shared_start(start), draw)
    denoise_loss = denoise_loss * (len(canvas) / totals.canvases)
    encoder_loss = torch.zeros((), device=hidden.device)
    supervised = int(batch.supervised[:, 1:].sum())
    if objective.encoder_weight and supervised:
        encoder_loss = next_token_loss(model, hidden, batch) * (supervised / totals.supervised)
    return Loss(denoise_loss + objective.encoder_weight * encoder_loss, denoise_loss, encoder_loss, hidden)


def mean_canvas_loss(
    model: Model, ids: Tensor, canvas: Tensor, start: Tensor, shared: int | None, draw: Draw
) -> tuple[Tensor, Tensor]:
    """Mean loss [] over canvas [N, C], and what the encoder makes of ids [B, S]: hidden states [B, S, D].

    start [N], which is `shared` where all are alike.
    """
    hidden, context = encode(model, ids)
    noisy = corrupt(canvas, draw.level, draw.uniforms, draw.random_tokens)
    soft = _first_reading(model, noisy, start, context, shared, draw)
    denoised = denoise(model, noisy, start, context, soft, shared)  # [N*C, D]
    return cross_entropy(model, denoised, canvas.flatten()), hidden


def encode(model: Model, ids: Tensor) -> tuple[Tensor, EncodeBatch]:
    """Causal pass over padded ids [B, S] -> hidden states [B, S, D] and the keys and values a canvas reads."""
    batch, size = ids.shape
    context = EncodeBatch(batch, size, model.config)
    positions = torch.arange(size, device=ids.device).repeat(batch)
    hidden = model.backbone.encode(model.backbone.embed(ids.flatten()), positions, context)
    return hidden.view(batch, size, -1), context


def denoise(
    model: Model, canvas: Tensor, start: Tensor, encoded: EncodeBatch, soft: Tensor | None, shared: int | None = None
) -> Tensor:
    """Bidirectional pass over canvas [N, C] behind the first `start` [N] tokens -> hidden states [N*C, D].

    Canvas n stands behind encoded row n % B. soft [N, C, D] or None for zeros. `shared` as in `DenoiseBatch`.
    """
    width = canvas.shape[1]
    positions = (start[:, None] + torch.arange(width, device=canvas.device)).flatten()
    context = DenoiseBatch(encoded, start, width, shared)
    flat = soft.flatten(0, 1) if soft is not None else None
    return model.backbone.denoise(canvas.flatten(), flat, positions, context)


def next_token_loss(model: Model, hidden: Tensor, batch: Batch) -> Tensor:
    """Mean cross-entropy of the encoder's prediction of each supervised token from those before it."""
    chosen = batch.supervised[:, 1:]
    return cross_entropy(model, hidden[:, :-1][chosen], batch.ids[:, 1:][chosen])


def cross_entropy(model: Model, hidden: Tensor, targets: Tensor) -> Tensor:
    """Mean loss [] of predicting targets [n] at hidden states [n, D]."""
    backbone = model.backbone
    return head_loss(hidden, backbone.embed_tokens.weight, targets, model.config.final_logit_softcapping)


@torch.no_grad()
def _first_reading(
    model: Model, noisy: Tensor, start: Tensor, context: EncodeBatch, shared: int | None, draw: Draw
) -> Tensor:
    """The soft embeddings [N, C, D] of canvases [N, C]: zeros for all but the first `draw.conditioned`.

    Nothing here is differentiated.
    """
    soft = torch.zeros(*noisy.shape, model.config.hidden_size, device=noisy.device)
    if not draw.read:
        return soft
    read = slice(draw.read)
    hidden = denoise(model, noisy[read], start[read], context, None, shared)  # [read*C, D]
    soft[: draw.conditioned] = _expected_embeddings(model, hidden).view(-1, *soft.shape[1:])[: draw.conditioned]
    return soft


def _expected_embeddings(model: Model, hidden: Tensor) -> Tensor:
    """Expected embeddings [n, D] under the prediction at hidden states [n, D]."""
    rows = max(1, CHUNK_ELEMENTS // model.config.vocab_size)
    chunks = (hidden[first : first + rows] for first in range(0, len(hidden), rows))
    return torch.cat([model.backbone.soft_embedding(model.backbone.logits(chunk).softmax(-1)) for chunk in chunks])
