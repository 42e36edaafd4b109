"""The training loop. A step is a function of the state and its number alone: that is why runs resume exactly."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from diffusiongemma.errors import CheckpointError, InputError, UserError
from diffusiongemma.host import keep_freed_memory
from diffusiongemma.kernels.experts import DENSE_RATIO
from diffusiongemma.model.model import Model
from diffusiongemma.train import parallel
from diffusiongemma.train.checkpointing import RunDirectory, restore, snapshot
from diffusiongemma.train.compiled import Compiled
from diffusiongemma.train.objective import Batch, Batches, Draw, Totals, mean_canvas_loss
from diffusiongemma.train.optimisation import Average, optimisers, trained_parameters
from diffusiongemma.train.parallel import LossModule
from diffusiongemma.train.recorded import Recorder, record_corruption
from diffusiongemma.train.rolling import Rolling
from diffusiongemma.train.run import Run
from diffusiongemma.train.runtime import Clock, Prefetch, recomputed, seed_of, stop_on_signal

Record = dict[str, Any]
Report = Callable[[Record], None]
Export = Callable[[Model], None]
Also = Callable[[Model, int], Tensor]  # a further loss [] of each step, by its number from 0

# What may differ between a run and its continuation: how long it goes, and what only watches it.
MAY_CHANGE = ("steps", "budget", "save_seconds", "evaluate_every", "shard", "compile", "capture", "workers")
SAVING_SHARE = 0.02  # of the time, at most, goes into saving


@dataclass(frozen=True)
class Evaluation:
    """How good a model is, the higher the score the better, and figures to show."""

    score: float
    figures: dict[str, float] = field(default_factory=dict)


Evaluate = Callable[[LossModule], Evaluation]


@dataclass(frozen=True)
class Hooks:
    """What a run tells and asks of the outside.

    `report` gets a record per step (`step` from 1, `seconds` and `progress` before it, `rate`, `loss`, `denoise`,
    `encoder`, `norm`; with rollouts `right`, the share of the ended canvases that are right) and per evaluation
    (`step`, `score`, `best`, figures). `export` writes the model for use: the best one so far by `evaluate`, or else
    the newest.
    """

    report: Report = lambda record: None
    evaluate: Evaluate | None = None
    export: Export = lambda model: None


def train(
    model: Model,
    batches: Batches,
    run: Run = Run(),
    *,
    directory: RunDirectory | None = None,
    resume: bool = False,
    settings: dict[str, Any] | None = None,
    hooks: Hooks = Hooks(),
    also: Also | None = None,
) -> None:
    """Train those parameters of `model` that require gradients, in place; in the end they hold their average.

    A step follows the mean loss over all its batches, or with rollouts, once they have begun, that of canvases on
    their way, whose places the batches' examples take when they come free; `also` is a loss of each step beside that.
    With a `directory` the run is saved now and then, and `resume` goes on from there; `settings` are further facts
    (data, base model) that must then be the same.

    Raises `UserError` when the loss is not finite, the disk is full or the saved run is another one; what was saved
    before stays intact. After Ctrl-C or SIGTERM the run is saved, then `KeyboardInterrupt` raised.
    """
    keep_freed_memory()
    training = Training(model, batches, run, directory, hooks, also)
    training.open(resume, settings or {})
    layers = model.backbone.layers
    with closing(training.batches), stop_on_signal() as stop, recomputed(layers, run.train.grad_checkpoint):
        while not training.finished and not stop.asked:
            training.update()
            if training.evaluation_due():
                training.judge()
            if training.saving_due():
                training.save()
        if not stop.asked:
            training.judge()
        training.save()
    training.average.settle(model)
    model.eval()
    if stop.asked:
        raise KeyboardInterrupt


class Training:
    """The state of a run and what a step does to it."""

    def __init__(
        self,
        model: Model,
        batches: Batches,
        run: Run,
        directory: RunDirectory | None = None,
        hooks: Hooks = Hooks(),
        also: Also | None = None,
    ):
        config, objective = run.train.on(model.device), run.objective
        if config.optimiser == "muon" and config.shard and parallel.world_size() > 1:
            raise InputError("muon does not work on sharded matrices: choose adam, or train in one process")
        if config.compile and (config.grad_checkpoint or (config.shard and parallel.world_size() > 1)):
            raise InputError("compile works on whole weights without gradient checkpointing: leave one of them out")
        if config.capture and (config.grad_checkpoint or parallel.world_size() > 1):
            raise InputError("captured passes are whole and of one process: leave out grad_checkpoint")
        if config.capture and model.config.num_experts > DENSE_RATIO * model.config.top_k_experts:
            raise InputError("passes with many experts cannot be captured: their gradients wait for the device")
        self.model, self.config, self.objective, self.directory = model.train(), config, objective, directory
        self.hooks, self.also = hooks, also
        self.batches = Prefetch(batches, config.workers)
        self.module = LossModule(model, Compiled(mean_canvas_loss) if config.compile else mean_canvas_loss)
        if config.shard:
            parallel.shard(self.module)
        self.replicated = parallel.world_size() > 1 and not config.shard
        self.recorder = Recorder(model, model.device, config.precision, config.compile) if config.capture else None
        self.rolling = (
            Rolling(model, run.rollouts, objective, config, self.batches, self.recorder) if run.rollouts else None
        )
        self.steppers = optimisers(model, config)
        self.average = Average(model, config.ema)
        self.clock = Clock()
        self.step = 0
        self.seconds, self.progress = 0.0, 0.0  # before the next step
        self.best: float | None = None
        self.judged = -1  # the step last evaluated at
        self.saved_at, self.save_cost = time.monotonic(), 0.0

    @property
    def finished(self) -> bool:
        return self.progress >= 1

    def update(self) -> None:
        """One step."""
        batches = self.batches(self.step)
        rolling = self.rolling if self.rolling and self.progress >= self.rolling.rollouts.after else None
        means = rolling.backward(batches, self.step) if rolling else self._backward(batches)
        if self.also is not None:
            means["also"] = self._backward_also(self.also)
        if self.replicated:
            parallel.sum_gradients(trained_parameters(self.model).values())
        rate = self.config.rate(self.step, self.progress)
        norm = self._descend(rate)
        self.average.update(self.model, self.step)
        self._record(parallel.all_reduce(means), norm, rate, any(bool(b.supervised.any()) for b in batches))

    def _backward(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Add the gradients of a step -> this process's share of its losses."""
        totals = Totals.of(batches, self.objective)
        if self.recorder is not None:
            return self._backward_recorded(self.recorder, batches, totals)
        means = {"denoise": 0.0, "encoder": 0.0}
        for batch, draw in self._parts(batches):
            total, denoise, encoder = self._loss(batch, draw, totals)
            # Sharded gradients are averaged over the processes.
            (total * (parallel.world_size() if self.module.sharded else 1)).backward()
            means["denoise"] += float(denoise.detach())
            means["encoder"] += float(encoder.detach())
        return means

    def _backward_also(self, also: Also) -> float:
        """Add the gradients of the further loss -> this process's share of it."""
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            found = also(self.model, self.step) / parallel.world_size()
        found.backward()
        return float(found.detach())

    def _backward_recorded(self, recorder: Recorder, batches: Sequence[Batch], totals: Totals) -> dict[str, float]:
        """The same by captured passes, all of which are on their way before the first is waited for."""
        parts = self._parts(batches)
        found = [record_corruption(recorder, self.model, *part, self.objective, totals) for part in parts]
        return {name: float(sum(f[name] for f in found if name in f)) for name in ("denoise", "encoder")}

    def _parts(self, batches: Sequence[Batch]) -> Iterator[tuple[Batch, Draw]]:
        """This process's parts of the step, one at a time. Random numbers are those of the whole batch."""
        processes, device = parallel.world_size(), self.model.device
        for number, batch in enumerate(batches):
            size, width = batch.canvas.shape
            if size < processes:
                raise InputError(f"a batch of {size} does not divide among {processes} processes: raise the batch size")
            generator = torch.Generator().manual_seed(seed_of(self.config.seed, self.step, number))
            vocabulary = self.model.config.vocab_size
            draw = Draw.sample(size, width, vocabulary, self.objective, generator, batch.runs)
            parts = min(self.config.accumulate, size // processes) * processes
            for part in range(parallel.rank(), parts, processes):
                torch.manual_seed(seed_of(self.config.seed, self.step, number, part))  # dropout of adapters
                rows = torch.arange(part, size, parts)
                yield batch.take(rows).to(device), draw.take(rows, size).to(device)

    def _loss(self, batch: Batch, draw: Draw, totals: Totals) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            return self.module(batch, draw, self.objective, totals)

    def _descend(self, rate: float) -> float:
        """Clip the gradients and move the weights -> norm of the gradients before clipping."""
        total = nn.utils.clip_grad_norm_(trained_parameters(self.model).values(), self.config.clip)
        norm = float(parallel.full_tensor(total))
        if not math.isfinite(norm):
            raise UserError(
                f"step {self.step + 1}: the loss is no longer a finite number: start again with a lower learning rate; "
                "what was saved before is intact"
            )
        for stepper in self.steppers:
            for group in stepper.param_groups:
                group["lr"] = self.config.learning_rate * rate * group.get("share", 1.0)
            stepper.step()
            stepper.zero_grad(set_to_none=self.recorder is None)
        return norm

    def _record(self, means: dict[str, float], norm: float, rate: float, supervised: bool) -> None:
        """Tell what happened; the next step begins."""
        ended, right = means.pop("ended", 0.0), means.pop("right", 0.0)
        if ended:
            means["right"] = right / ended
        means["loss"] = means["denoise"] + self.objective.encoder_weight * means["encoder"] + means.get("also", 0.0)
        if not (supervised and self.objective.encoder_weight):
            del means["encoder"]
        self.step += 1
        record = {"step": self.step, "seconds": self.seconds, "progress": self.progress, "rate": rate}
        record |= means | {"norm": norm}
        self._note(record)
        self._tick()

    def _note(self, record: Record) -> None:
        if parallel.rank() == 0:
            if self.directory is not None:
                self.directory.append(record)
            self.hooks.report(record)

    def _tick(self) -> None:
        self.seconds = parallel.broadcast(self.clock.at(self.step))
        self.progress = self.config.progress(self.step, self.seconds)

    # Evaluating, saving, resuming.

    def evaluation_due(self) -> bool:
        return self.config.evaluate_every > 0 and self.step % self.config.evaluate_every == 0

    def judge(self) -> None:
        """Evaluate the averaged weights, unless that is done, and export them if they are the best so far."""
        if self.hooks.evaluate is None or self.judged == self.step:
            return
        with self.average.applied(self.model), torch.no_grad():
            result = self.hooks.evaluate(self.module)
            parallel.reshard(self.module)
        self.judged = self.step
        score = parallel.broadcast(result.score)
        better = self.best is None or score >= self.best
        if better:
            self.best = score
            self._export()
        self._note({"step": self.step, "score": score, "best": better, **result.figures})

    def _export(self) -> None:
        with self.average.applied(self.model), parallel.full_weights(self.model) as first:
            if first:
                self.hooks.export(self.model)

    def saving_due(self) -> bool:
        wait = max(self.config.save_seconds, self.save_cost / SAVING_SHARE)
        return parallel.broadcast(float(time.monotonic() - self.saved_at >= wait)) > 0

    def save(self) -> None:
        """Write the state of the run, then the model for use where no evaluation chooses it."""
        started = time.monotonic()
        if self.directory is not None:
            tensors = snapshot(self.model, self.steppers, self.average)
            if self.rolling:
                tensors["rollouts"] = self.rolling.state()
            values = {"step": self.step, "elapsed": self.clock.elapsed, "best": self.best, "judged": self.judged}
            if parallel.rank() == 0:
                self.directory.save(self.step, tensors, values | {"settings": self.settings})
        if self.hooks.evaluate is None:
            self._export()
        self.saved_at = time.monotonic()
        self.save_cost = self.saved_at - started

    def open(self, resume: bool, settings: dict[str, Any]) -> None:
        """Begin, or go on from the saved state. Raises `UserError` where there is one that does not fit."""
        facts = settings | {"model": self.model.config.to_hf()} | asdict(self.objective) | asdict(self.config)
        facts |= {"rollouts": asdict(self.rolling.rollouts)} if self.rolling else {}
        self.settings = json.loads(json.dumps(facts))
        if self.directory is None:
            return
        loaded = self.directory.load()
        if loaded is not None and not resume:
            raise InputError(
                f"{self.directory.root} holds a run of {loaded[1]['step']:,} steps: go on with --resume, or give "
                "another directory"
            )
        self.directory.begin(resume)
        if loaded is not None:
            self._go_on(*loaded)
        recorded = {r["step"] - 1: r["seconds"] for r in self.directory.records() if "seconds" in r}
        self.clock = Clock(self.clock.elapsed, recorded)
        self._tick()

    def _go_on(self, tensors: dict[str, Any], values: dict[str, Any]) -> None:
        before = values["settings"]
        for name in self.settings.keys() | before.keys():
            old, new = before.get(name), self.settings.get(name)
            if old != new and name not in MAY_CHANGE:
                raise CheckpointError(
                    f"the saved run has another {name.replace('_', '-')}{_difference(old, new)}: resume it with the "
                    "options it was started with, or give another directory"
                )
        restore(tensors, self.model, self.steppers, self.average)
        if self.rolling:
            self.rolling.restore(tensors.get("rollouts"))
        self.step, self.best, self.judged = values["step"], values["best"], values["judged"]
        self.clock = Clock(values["elapsed"])


def _difference(old: Any, new: Any) -> str:
    short = all(isinstance(value, str | int | float | None) for value in (old, new))
    return f" ({old}, not {new})" if short else ""
