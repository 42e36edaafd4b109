"""Forward and backward passes as CUDA graphs: the step of a small model is launches, which a graph makes all at once.

What a graph reads lies where it lay when it was captured, in tensors of the same shapes: texts are padded to a few
lengths, and what the plain passes choose by its value is masked here. On other devices the same passes run as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusiongemma.model.model import Model
from diffusiongemma.train.compiled import Compiled
from diffusiongemma.train.objective import (
    Batch,
    Draw,
    Objective,
    Totals,
    cross_entropy,
    denoise,
    encode,
    mean_canvas_loss,
)
from diffusiongemma.train.optimisation import trained_parameters
from diffusiongemma.train.rollouts import Canvases, Numbers, Pool

Tensors = dict[str, Tensor]
Pass = Callable[[Tensors], tuple[Tensor, Tensors]]  # -> the loss to differentiate [], and what else is wanted

LENGTHS = 64  # texts are padded to multiples of this
NOTHING = -100  # in place of a token that nobody learns to predict
WARM = 2  # runs before a capture, in which libraries choose their kernels


@dataclass(frozen=True)
class _Graph:
    graph: torch.cuda.CUDAGraph
    inputs: Tensors
    outputs: Tensors


class Recorder:
    """Adds up gradients, pass by pass: on a CUDA device each is captured once for its name and shapes, then replayed.

    Gradients must stay where they are: set them to zero, not to None. With `compiled` parts what is captured is those.
    """

    def __init__(self, model: nn.Module, device: torch.device, precision: str, compiled: bool = False):
        self.parameters, self.device, self.precision = list(trained_parameters(model).values()), device, precision
        self.apply: Callable[[Pass, Tensors], tuple[Tensor, Tensors]] = Compiled(_apply) if compiled else _apply
        self.graphs: dict[Hashable, _Graph] = {}
        self.cuda = device.type == "cuda"
        if self.cuda:
            self.stream, self.pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)

    def __call__(self, name: Hashable, function: Pass, inputs: Tensors) -> Tensors:
        """Add the gradients of the loss of `function` at `inputs`, on any device -> what it returns besides."""
        if not self.cuda:
            return self._run(function, {key: x.to(self.device) for key, x in inputs.items()})
        key = (name, *((n, x.shape, x.dtype) for n, x in inputs.items()))
        if key not in self.graphs:
            self.graphs[key] = self._captured(function, inputs)
        graph = self.graphs[key]
        for n, x in inputs.items():
            graph.inputs[n].copy_(x, non_blocking=True)
        graph.graph.replay()
        return {n: x.clone() for n, x in graph.outputs.items()}  # the next graph writes over them

    def _run(self, function: Pass, inputs: Tensors) -> Tensors:
        # Within a capture nothing may be left of another one: what autocast has cast ends with it.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            loss, outputs = self.apply(function, inputs)
        loss.backward()
        return {n: x.detach() for n, x in outputs.items()}

    def _captured(self, function: Pass, inputs: Tensors) -> _Graph:
        static = {n: x.to(self.device, copy=True) for n, x in inputs.items()}
        kept = [torch.clone(p.grad) for p in self.parameters if p.grad is not None]
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            for _ in range(WARM):
                self._run(function, static)
        torch.cuda.current_stream().wait_stream(self.stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
            outputs = self._run(function, static)
        for parameter, gradient in zip(self.parameters, kept, strict=True):
            assert parameter.grad is not None
            parameter.grad.copy_(gradient)
        return _Graph(graph, static, outputs)


def _apply(function: Pass, inputs: Tensors) -> tuple[Tensor, Tensors]:
    return function(inputs)


def padded(ids: Tensor, least: int, fill: int) -> Tensor:
    """ids [B, S] -> [B, S'] of a length that few others have, at least `least`."""
    size = -(-max(least, 1) // LENGTHS) * LENGTHS
    return ids[:, :size] if ids.shape[1] >= size else F.pad(ids, (0, size - ids.shape[1]), value=fill)


# --- corruptions ----------------------------------------------------------------------------------------------------


def record_corruption(
    recorder: Recorder, model: Model, batch: Batch, draw: Draw, objective: Objective, totals: Totals
) -> Tensors:
    """Add the gradients of `objective.loss` at one batch -> its shares of the step's means, `denoise` and `encoder`."""
    supervised = int(batch.supervised.sum())
    learns = bool(objective.encoder_weight and supervised)
    inputs = {
        "canvas": batch.canvas.repeat(objective.draws, 1),
        "start": batch.start.repeat(objective.draws),
        "level": draw.level,
        "uniforms": draw.uniforms,
        "random_tokens": draw.random_tokens,
        "share": torch.tensor(len(batch.canvas) * objective.draws / totals.canvases),
        **_texts(batch, model, totals, learns),
    }
    weight = objective.encoder_weight if learns else 0.0
    function = partial(_corruption, model, weight, draw.conditioned)
    return recorder(("corruption", weight, draw.conditioned), function, inputs)


def _corruption(model: Model, weight: float, conditioned: int, x: Tensors) -> tuple[Tensor, Tensors]:
    draw = Draw(x["level"], x["uniforms"], x["random_tokens"], conditioned, conditioned)
    loss, hidden = mean_canvas_loss(model, x["ids"], x["canvas"], x["start"], None, draw)
    loss = loss * x["share"]
    if not weight:
        return loss, {"denoise": loss}
    encoder = _encoder(model, hidden, x)
    return loss + weight * encoder, {"denoise": loss, "encoder": encoder}


def record_encoder(recorder: Recorder, model: Model, batch: Batch, weight: float, totals: Totals) -> Tensors:
    """Add the gradients of `weight` times the encoder's loss at the supervised tokens of a batch -> `encoder`."""

    def function(x: Tensors) -> tuple[Tensor, Tensors]:
        loss = _encoder(model, encode(model, x["ids"])[0], x)
        return weight * loss, {"encoder": loss}

    return recorder(("encoder", weight), function, _texts(batch, model, totals, learns=True))


def _texts(batch: Batch, model: Model, totals: Totals, learns: bool) -> Tensors:
    """Padded ids [B, S] of a batch, and where the encoder `learns`, what it is to predict."""
    ids = padded(batch.ids, batch.ids.shape[1] if learns else int(batch.start.max()), model.config.pad_token_id)
    if not learns:
        return {"ids": ids}
    supervised = padded(batch.supervised, ids.shape[1], False)
    targets = torch.where(supervised, ids, NOTHING)[:, 1:]
    return {"ids": ids, "targets": targets, "per_token": torch.tensor(1 / totals.supervised)}


def _encoder(model: Model, hidden: Tensor, x: Tensors) -> Tensor:
    """A batch's share of the mean loss [] of predicting the supervised tokens from hidden states [B, S, D]."""
    logits = model.backbone.logits(hidden[:, :-1].flatten(0, 1))
    return F.cross_entropy(logits, x["targets"].flatten(), ignore_index=NOTHING, reduction="sum") * x["per_token"]


# --- rollouts -------------------------------------------------------------------------------------------------------


def record_rollout(
    recorder: Recorder, model: Model, pool: Pool, canvases: Canvases, share: float
) -> tuple[Tensor, Tensor]:
    """Take canvases [n] some steps further and add the gradients of `share` times their mean loss -> that loss [], and
    which came to their end [n] on the CPU. As `rollout_loss`."""
    reads = pool.rollouts.reads
    numbers = [pool.numbers(canvases, ahead) for ahead in range(1, reads + 1)]
    inputs = {
        "ids": padded(canvases.ids, int(canvases.start.max()), model.config.pad_token_id),
        **{name: getattr(canvases, name) for name in ("start", "canvas", "noisy", "soft", "argmax")},
        **{name: torch.stack([getattr(n, name) for n in numbers]) for name in Numbers.FIELDS},
        "share": torch.tensor(share),
    }
    found = recorder(("rollout", reads), partial(_rollout, model, pool), inputs)
    canvases.noisy, canvases.soft, canvases.argmax = (found[name] for name in ("noisy", "soft", "argmax"))
    ended = torch.zeros(len(canvases), dtype=torch.bool)
    for stops in found["stops"].cpu():
        ended |= pool.pass_on(canvases, stops)
    return found["loss"], ended


def _rollout(model: Model, pool: Pool, x: Tensors) -> tuple[Tensor, Tensors]:
    _, context = encode(model, x["ids"])
    noisy, soft, argmax, stops = x["noisy"], x["soft"], x["argmax"], []
    losses: list[Tensor] = []
    for read in range(pool.rollouts.reads):
        denoised = denoise(model, noisy, x["start"], context, soft)
        losses.append(cross_entropy(model, denoised, x["canvas"].flatten()))
        numbers = Numbers(*(x[name][read] for name in Numbers.FIELDS))
        noisy, soft, argmax, stop = pool.followed(model, noisy, argmax, denoised.detach(), numbers)
        stops.append(stop)
    loss = _mean(losses) * x["share"]
    return loss, {"loss": loss, "noisy": noisy, "soft": soft, "argmax": argmax, "stops": torch.stack(stops)}


def _mean(losses: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(losses)).mean()
