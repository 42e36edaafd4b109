"""The state of a run on disk: complete at any moment, and enough to go on as if nothing had happened.

    OUT/                    the model, ready to use
    OUT/training/           the run
      metrics.jsonl         one line per step
      step-00000500/        weights, their average, optimiser state (safetensors), state.json

A state is written under another name and renamed when it is complete; then the one before it is removed. Batches and
random numbers are functions of (seed, step), so there is no generator or data position to keep but the step.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diffusiongemma.errors import CheckpointError, UserError
from diffusiongemma.train.optimisation import Average, trained_parameters
from diffusiongemma.train.parallel import full_tensor, sharded_like
from diffusiongemma.weights.checkpoint import file_name

Tensors = dict[str, Tensor]
PARTS = ("weights", "average", "optimiser")
FURTHER = ("rollouts",)  # in runs that have them
_PARTIAL = ".partial-"


class RunDirectory:
    """`OUT/training`. Raises `UserError` where it cannot be written, `CheckpointError` where it cannot be read."""

    def __init__(self, out: Path):
        self.root = out / "training"
        self.metrics = self.root / "metrics.jsonl"

    def states(self) -> list[Path]:
        """Complete states, oldest first."""
        return sorted(path for path in self.root.glob("step-*") if (path / "state.json").exists())

    def save(self, step: int, tensors: dict[str, Tensors], values: dict[str, Any]) -> None:
        """Write a state and remove those before it."""
        partial, final = self.root / f"{_PARTIAL}{step:08d}", self.root / f"step-{step:08d}"
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            for part, content in tensors.items():
                save_file(content, partial / f"{part}.safetensors", {"format": "pt"})
            (partial / "state.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
            for path in partial.iterdir():
                _flush(path)
            shutil.rmtree(final, ignore_errors=True)  # there only if a run has gone on from an older state
            os.replace(partial, final)
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"cannot write {final}: {error}: see that there is space, then go on with --resume; "
                f"{self._intact()} is intact"
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        for old in self.states()[:-1]:
            shutil.rmtree(old, ignore_errors=True)

    def _intact(self) -> str:
        states = self.states()
        return str(states[-1]) if states else "nothing saved before"

    def load(self) -> tuple[dict[str, Tensors], dict[str, Any]] | None:
        """The newest state, or None where there is none yet. What a killed process left half-written is removed."""
        for path in self.root.glob(f"{_PARTIAL}*"):
            shutil.rmtree(path, ignore_errors=True)
        states = self.states()
        if not states:
            return None
        try:
            further = [part for part in FURTHER if (states[-1] / f"{part}.safetensors").exists()]
            tensors = {part: load_file(states[-1] / f"{part}.safetensors") for part in (*PARTS, *further)}
            return tensors, json.loads((states[-1] / "state.json").read_text(encoding="utf-8"))
        except (OSError, SafetensorError, ValueError) as error:
            raise CheckpointError(f"{states[-1]} cannot be read: {error}: start again in another directory") from error

    # One line per step.

    def append(self, record: dict[str, Any]) -> None:
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {self.metrics}: {error}: {self._intact()} is intact") from error

    def records(self) -> Iterator[dict[str, Any]]:
        """What `append` wrote, in its order. The last line may be torn where a process was killed."""
        if self.metrics.exists():
            for line in self.metrics.read_text(encoding="utf-8", errors="replace").splitlines():
                with contextlib.suppress(ValueError):
                    yield json.loads(line)

    def begin(self, resume: bool) -> None:
        """Make the directory and the file of records; when resuming, end a torn last line."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            kept = self.metrics.read_bytes() if resume and self.metrics.exists() else b""
            if not kept:
                self.metrics.write_bytes(b"")
            elif not kept.endswith(b"\n"):
                with self.metrics.open("a", encoding="utf-8") as file:
                    file.write("\n")
        except OSError as error:
            raise UserError(f"cannot write {self.root}: {error}: give a directory that you may write to") from error


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def snapshot(model: nn.Module, optimisers: list[torch.optim.Optimizer], average: Average) -> dict[str, Tensors]:
    """The tensors of a state, whole and on the CPU. Weights are named as in checkpoints of models."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in trained_parameters(model).items()}
    optimiser = {
        f"{names[parameter]}/{key}": full_tensor(value)
        for one in optimisers
        for parameter, state in one.state.items()
        for key, value in state.items()
    }
    weights = {file_name(n): full_tensor(p) for n, p in trained_parameters(model).items()}
    averaged = {file_name(n): full_tensor(w) for n, w in average.weights.items()}
    return {"weights": weights, "average": averaged, "optimiser": optimiser}


@torch.no_grad()
def restore(
    tensors: dict[str, Tensors], model: nn.Module, optimisers: list[torch.optim.Optimizer], average: Average
) -> None:
    """Put a snapshot back. Raises `CheckpointError` where it is one of another model."""
    parameters = trained_parameters(model)
    shapes = {file_name(n): tuple(p.shape) for n, p in parameters.items()}
    if {n: tuple(t.shape) for n, t in tensors["weights"].items()} != shapes:
        raise CheckpointError("the state to resume from is one of another model: start again in another directory")
    for name, parameter in parameters.items():
        parameter.copy_(sharded_like(tensors["weights"][file_name(name)], parameter))
    for name, weight in average.weights.items():
        weight.copy_(sharded_like(tensors["average"][file_name(name)], weight))
    owner = {name: one for one in optimisers for name in _names(one, parameters)}
    for key, value in tensors["optimiser"].items():
        name, _, entry = key.rpartition("/")
        state = owner[name].state[parameters[name]]
        # Adam keeps its step count on the CPU, whatever the device.
        state[entry] = sharded_like(value, parameters[name]) if value.ndim else value


def _names(optimiser: torch.optim.Optimizer, parameters: dict[str, nn.Parameter]) -> list[str]:
    held = {id(p) for group in optimiser.param_groups for p in group["params"]}
    return [name for name, parameter in parameters.items() if id(parameter) in held]
