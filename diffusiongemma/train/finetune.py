"""Fine-tuning a loaded model: what is trained of it, with which settings, and where the result goes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from diffusiongemma.api import DiffusionGemma, load
from diffusiongemma.errors import InputError
from diffusiongemma.model.model import Model
from diffusiongemma.train import parallel
from diffusiongemma.train.checkpointing import RunDirectory
from diffusiongemma.train.config import DataConfig, TrainConfig
from diffusiongemma.train.objective import Batches, Objective
from diffusiongemma.train.rollouts import Rollouts
from diffusiongemma.train.run import Run
from diffusiongemma.train.trainer import Hooks, train
from diffusiongemma.weights.adapter import CONFIG as ADAPTER_CONFIG
from diffusiongemma.weights.adapter import save_adapter
from diffusiongemma.weights.locate import embedded, locate_adapted, weight_bytes
from diffusiongemma.weights.lora import LoraConfig, adapters, add_lora, merge, require_full
from diffusiongemma.weights.saving import save_model

LARGE = 2 * 10**9  # bytes of a checkpoint; from here on a model is not trained whole unless that is asked for

# The released 26B-A4B model: the open recipe's rank and length; the rest is what fits one 80 GB GPU.
SUDOKU_LARGE = Run(
    TrainConfig(steps=2000, learning_rate=2e-4, precision="auto", grad_checkpoint=True, evaluate_every=500),
    lora=LoraConfig(rank=8),
    data=DataConfig(encoder_every=4),
)
# The embedded base model on two CPU cores, within an hour with its evaluations. Small batches at a high rate, with two
# corruptions of each board, get furthest in the time (see the log). Mostly noisy canvases teach most: a half-clean one
# gives more clues than a puzzle does. The encoder's own loss would cost time, and what it asks for, the next digit from
# the left, can't be known. The last quarter of the time goes to the model's own canvases, its own mistakes on them.
SUDOKU_SMALL = Run(
    TrainConfig(
        steps=None, budget=3300.0, learning_rate=3e-2, optimiser="muon", ema=0.998, precision="auto", shard=False,
        evaluate_every=1000,
    ),
    Objective(draws=2, noise_bias=2.0),
    Rollouts(reads=3, after=0.75),
    data=DataConfig(encoder_every=0),
)  # fmt: skip
CHATS_LARGE = replace(SUDOKU_LARGE, train=replace(SUDOKU_LARGE.train, evaluate_every=0), data=DataConfig())
CHATS_SMALL = Run(TrainConfig(learning_rate=2e-3, precision="auto", shard=False))
LORA_SMALL = 5e-3  # learning rate of adapters on a small model


@dataclass(frozen=True)
class Options:
    """What to train and where to; `changes` to the preset by name, as `Run.changed` takes them."""

    model: str
    out: Path
    changes: Mapping[str, Any] = field(default_factory=dict)
    resume: bool = False
    device: str = "auto"


@dataclass(frozen=True)
class FineTune:
    """A model ready to be trained, the settings, and the files around it."""

    base: DiffusionGemma
    options: Options
    settings: Run

    @classmethod
    def prepare(cls, options: Options, large: Run, small: Run) -> FineTune:
        """Load the base and choose settings. Raises `UserError` before anything is written."""
        _require_free(options)
        preset = large if _bytes(options.model) >= LARGE else small
        lora = preset.changed(options.changes).lora
        base = _loaded(options, lora is not None)
        settings = _resolved(preset, options.changes, base)
        if lora is None:
            _open_weights(base.network)
            return cls(base, options, settings)
        if adapters(base.network):
            raise InputError(f"{options.model} is an adapter already: give its base model, or `lora` 0 to train all")
        add_lora(base.network, lora, settings.train.seed)
        return cls(base, options, settings)

    @property
    def model(self) -> Model:
        return self.base.network

    def run(self, batches: Batches, facts: dict[str, Any], hooks: Hooks) -> None:
        """Train, leaving in `out` what `load` and `run --model` take. `facts` about the data must not change."""
        lora = self.settings.lora
        facts = facts | {"base": _base_name(self.options.model), "batch": self.settings.data.batch}
        facts["lora"] = asdict(lora) if lora else None
        train(
            self.model,
            batches,
            self.settings,
            directory=RunDirectory(self.options.out),
            resume=self.options.resume,
            settings=facts,
            hooks=replace(hooks, export=self._export),
        )

    def _export(self, model: Model) -> None:
        if self.settings.lora:
            save_adapter(model, self.options.out, _base_name(self.options.model))
        else:
            save_model(model, self.options.out, source=self.base.directory)


def _bytes(model: str) -> int:
    return weight_bytes(locate_adapted(model)[0])


def _require_free(options: Options) -> None:
    out = options.out
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: give a directory for the result")
    taken = any((out / name).exists() for name in ("config.json", ADAPTER_CONFIG))
    if taken and not RunDirectory(out).root.exists():
        raise InputError(f"{out} holds a model already: give another directory")


def _loaded(options: Options, lora: bool) -> DiffusionGemma:
    device = options.device
    if device == "auto" and parallel.world_size() > 1 and torch.cuda.is_available():
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    # Adapters train in float32 beside weights as they are; weights that are trained themselves need float32.
    base = load(options.model, device=device, dtype="auto" if lora else torch.float32)
    if base.tokenizer is None:
        raise InputError(f"{base.directory} has no tokenizer files: copy them there")
    return base


def _open_weights(model: Model) -> None:
    """Have all text weights trained, in memory of their own instead of the file's."""
    require_full(model)
    merge(model)
    model.requires_grad_(False)
    for parameter in model.backbone.parameters():
        parameter.data = parameter.data.clone()
    model.backbone.requires_grad_(True)


def _resolved(preset: Run, changes: Mapping[str, Any], base: DiffusionGemma) -> Run:
    """The preset with what was asked for in its place, and what follows from both and was not asked for."""
    ended = {"train.steps": None, "train.budget": None} if {"train.steps", "train.budget"} & changes.keys() else {}
    run = preset.changed(ended | dict(changes))
    implied: dict[str, Any] = {}
    if run.lora and not preset.lora:
        implied["train.learning_rate"] = LORA_SMALL
    if run.lora or (run.train.shard and parallel.world_size() > 1):
        implied["train.optimiser"] = "adam"
    if run.rollouts and not run.rollouts.after:
        implied["objective.draws"] = 1
    run = run.changed({name: value for name, value in implied.items() if name not in changes})
    # Learning on every fourth step with four times the weight has the same mean gradient.
    objective = replace(run.objective, encoder_weight=run.objective.encoder_weight * run.data.encoder_every)
    # Rollouts go by the rules by which the model decodes.
    rollouts = replace(run.rollouts, decoding=base.generation) if run.rollouts else None
    return replace(run, train=run.train.on(base.network.device), objective=objective, rollouts=rollouts)


def _base_name(model: str) -> str:
    """How an adapter names its base: embedded models and hub ids as they are, paths in full."""
    path = Path(model).expanduser()
    return str(path.resolve()) if model not in embedded() and path.exists() else model
