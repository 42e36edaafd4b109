"""The training objective: cross-entropy of the clean canvas given a corrupted one, and next-token on the encoder."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusiongemma.diffusion.noise import corrupt
from diffusiongemma.kernels.head_loss import head_loss
from diffusiongemma.model.model import Model


@dataclass(frozen=True)
class Objective:
    """Weights and probabilities of the loss; the defaults are the open recipe's.

    `self_conditioning` is the share of examples whose canvas is read a second time with the first reading's
    prediction as soft embedding; the others get zeros.
    """

    self_conditioning: float = 0.5
    encoder_weight: float = 1.0


@dataclass(frozen=True)
class Batch:
    """What the encoder reads and which canvas behind it is denoised.

    ids [B, S], padded on the right; start [B], the tokens before the canvas; canvas [B, C], clean; supervised
    [B, S] bool, the tokens the encoder is trained to predict (ids may stop before the canvas where there are none).
    """

    ids: Tensor
    start: Tensor
    canvas: Tensor
    supervised: Tensor


@dataclass(frozen=True)
class Draw:
    """The random numbers of one loss: level [B], uniforms [B, C], random_tokens [B, C].

    The first `conditioned` examples are self-conditioned: an exact share of every batch, so that shapes are static.
    """

    level: Tensor
    uniforms: Tensor
    random_tokens: Tensor
    conditioned: int

    @classmethod
    def sample(cls, batch: int, width: int, vocab_size: int, objective: Objective, generator: torch.Generator) -> Draw:
        return cls(
            torch.rand(batch, generator=generator),
            torch.rand(batch, width, generator=generator),
            torch.randint(vocab_size, (batch, width), generator=generator),
            round(batch * objective.self_conditioning),
        )


@dataclass
class Loss:
    total: Tensor
    denoise: Tensor  # mean over all canvas positions, nats
    encoder: Tensor  # mean over supervised tokens, nats


def loss(model: Model, batch: Batch, draw: Draw, objective: Objective) -> Loss:
    """The loss of one batch. Gradients flow from the canvas through the encoder's keys and values."""
    hidden, context = encode(model, batch.ids)
    noisy = corrupt(batch.canvas, draw.level, draw.uniforms, draw.random_tokens)
    soft = _self_condition(model, noisy, batch.start, context, draw.conditioned)
    denoised = denoise(model, noisy, batch.start, context, soft)  # [B*C, D]
    denoise_loss = _cross_entropy(model, denoised, batch.canvas.flatten())
    encoder_loss = torch.zeros((), device=hidden.device)
    if objective.encoder_weight:
        encoder_loss = next_token_loss(model, hidden, batch)
    return Loss(denoise_loss + objective.encoder_weight * encoder_loss, denoise_loss, encoder_loss)


def encode(model: Model, ids: Tensor) -> tuple[Tensor, EncodeBatch]:
    """Causal pass over padded ids [B, S] -> hidden states [B, S, D] and the keys and values a canvas reads."""
    batch, size = ids.shape
    config = model.config
    sliding = tuple(config.is_sliding(i) for i in range(config.num_layers))
    context = EncodeBatch(batch, size, config.sliding_window, sliding)
    positions = torch.arange(size, device=ids.device).repeat(batch)
    hidden = model.backbone.encode(model.backbone.embed(ids.flatten()), positions, context)
    return hidden.view(batch, size, -1), context


def denoise(model: Model, canvas: Tensor, start: Tensor, encoded: EncodeBatch, soft: Tensor | None) -> Tensor:
    """Bidirectional pass over canvas [B, C] behind the first `start` [B] tokens -> hidden states [B*C, D]."""
    width = canvas.shape[1]
    positions = (start[:, None] + torch.arange(width, device=canvas.device)).flatten()
    context = DenoiseBatch(encoded, start, width)
    flat = soft.flatten(0, 1) if soft is not None else None
    return model.backbone.denoise(canvas.flatten(), flat, positions, context)


def next_token_loss(model: Model, hidden: Tensor, batch: Batch) -> Tensor:
    """Mean cross-entropy of the encoder's prediction of each supervised token from those before it."""
    chosen = batch.supervised[:, 1:]
    return _cross_entropy(model, hidden[:, :-1][chosen], batch.ids[:, 1:][chosen])


def _cross_entropy(model: Model, hidden: Tensor, targets: Tensor) -> Tensor:
    backbone = model.backbone
    return head_loss(hidden, backbone.embed_tokens.weight, targets, model.config.final_logit_softcapping)


@torch.no_grad()
def _self_condition(model: Model, noisy: Tensor, start: Tensor, context: EncodeBatch, count: int) -> Tensor:
    """Soft embeddings [B, C, D]: the first reading's prediction for the first `count` examples, else zeros."""
    soft = torch.zeros(*noisy.shape, model.config.hidden_size, device=noisy.device)
    if count:
        hidden = denoise(model, noisy[:count], start[:count], context.first(count), None)
        probabilities = model.backbone.logits(hidden).softmax(-1)
        soft[:count] = model.backbone.soft_embedding(probabilities).view(count, *soft.shape[1:])
    return soft


@dataclass
class EncodeBatch:
    """Causal attention over a padded batch that keeps keys and values with their gradients."""

    batch: int
    size: int
    window: int
    sliding: tuple[bool, ...]  # per layer
    keys: dict[int, Tensor] = field(default_factory=dict)  # layer -> [B, KV, S, d]
    values: dict[int, Tensor] = field(default_factory=dict)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (_heads_first(x, self.batch) for x in (q, k, v))
        self.keys[layer], self.values[layer] = k, v
        index = torch.arange(self.size, device=q.device)
        allowed = index[None] <= index[:, None]
        if self.sliding[layer]:
            allowed = allowed & (index[None] > index[:, None] - self.window)
        return _explicit_attention(q, k, v, allowed)

    def first(self, count: int) -> EncodeBatch:
        """The first `count` examples."""
        part = EncodeBatch(count, self.size, self.window, self.sliding)
        part.keys = {layer: k[:count] for layer, k in self.keys.items()}
        part.values = {layer: v[:count] for layer, v in self.values.items()}
        return part


@dataclass
class DenoiseBatch:
    """Each canvas sees the tokens before its start, as far as the layer's window goes, and all of itself."""

    encoded: EncodeBatch
    start: Tensor  # [B]
    width: int

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        encoded = self.encoded
        q, k, v = (_heads_first(x, encoded.batch) for x in (q, k, v))
        index = torch.arange(encoded.size, device=q.device)
        seen = index < self.start[:, None]  # [B, S]
        if encoded.sliding[layer]:
            seen = seen & (index > self.start[:, None] - encoded.window)
        allowed = F.pad(seen, (0, self.width), value=True)[:, None, None]  # [B, 1, 1, S + C]
        keys = torch.cat([encoded.keys[layer], k], dim=2)
        return _explicit_attention(q, keys, torch.cat([encoded.values[layer], v], dim=2), allowed)


def _heads_first(x: Tensor, batch: int) -> Tensor:  # [B*T, H, d] -> [B, H, T, d]
    return x.view(batch, -1, *x.shape[1:]).transpose(1, 2)


def _explicit_attention(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> Tensor:
    """q [B, H, T, d], k and v [B, KV, S, d], allowed broadcast to [B, H, T, S] -> [B*T, H, d].

    Matrix products rather than the fused kernel, whose backward is several times slower on the CPU at small heads.
    """
    groups = q.shape[1] // k.shape[1]
    q = q.unflatten(1, (-1, groups))  # [B, KV, G, T, d]
    if allowed.ndim == 4:
        allowed = allowed[:, None]
    scores = q @ k[:, :, None].transpose(-1, -2)  # [B, KV, G, T, S]
    weights = scores.float().masked_fill(~allowed, float("-inf")).softmax(-1).to(v.dtype)
    return (weights @ v[:, :, None]).flatten(1, 2).transpose(1, 2).flatten(0, 1)
