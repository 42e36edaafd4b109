"""Fine-tuning a loaded model: what is trained of it, with which settings, and where the result goes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from diffusiongemma.api import DiffusionGemma, load
from diffusiongemma.errors import InputError
from diffusiongemma.model.model import Model
from diffusiongemma.train import parallel
from diffusiongemma.train.checkpointing import RunDirectory
from diffusiongemma.train.config import TrainConfig
from diffusiongemma.train.objective import Batches, Objective
from diffusiongemma.train.rollouts import Rollouts
from diffusiongemma.train.trainer import Evaluate, Export, Report, train
from diffusiongemma.weights.adapter import CONFIG as ADAPTER_CONFIG
from diffusiongemma.weights.adapter import save_adapter
from diffusiongemma.weights.checkpoint import save_model
from diffusiongemma.weights.locate import embedded, locate_adapted
from diffusiongemma.weights.lora import LoraConfig, adapters, add_lora, merge

LARGE = 2 * 10**9  # bytes of a checkpoint; from here on a model is not trained whole unless that is asked for


@dataclass(frozen=True)
class Preset:
    """Settings of one kind of model and task: LoRA of `lora` rank, or all weights (0); the rest as in TrainConfig."""

    batch: int
    learning_rate: float
    steps: int | None = None
    budget: float | None = None
    lora: int = 0
    optimiser: str = "adam"
    ema: float = 0.0
    grad_checkpoint: bool = False
    evaluate_every: int = 0
    shard: bool = True
    draws: int = 1
    noise_bias: float = 1.0
    encoder_every: int = 1
    rollouts: int = 0
    rollouts_after: float = 0.0


# The released 26B-A4B model: the open recipe's rank and length; the rest is what fits one 80 GB GPU.
SUDOKU_LARGE = Preset(
    batch=16, learning_rate=2e-4, steps=2000, lora=8, grad_checkpoint=True, evaluate_every=500, encoder_every=4
)  # fmt: skip
# The embedded base model on two CPU cores, within an hour with its evaluations. Small batches at a high rate, with two
# corruptions of each board, get furthest in the time (see the log). Mostly noisy canvases teach most: a half-clean one
# gives more clues than a puzzle does. The encoder's own loss would cost time, and what it asks for, the next digit from
# the left, can't be known. The last quarter of the time goes to the model's own canvases, its own mistakes on them.
SUDOKU_SMALL = Preset(
    batch=16, learning_rate=3e-2, budget=3300.0, optimiser="muon", ema=0.998, evaluate_every=1000, shard=False, draws=2,
    noise_bias=2, encoder_every=0, rollouts=3, rollouts_after=0.75,
)  # fmt: skip
CHATS_LARGE = Preset(batch=16, learning_rate=2e-4, lora=8, grad_checkpoint=True)
CHATS_SMALL = Preset(batch=16, learning_rate=2e-3, shard=False)
LORA_SMALL = 5e-3  # learning rate of adapters on a small model


@dataclass(frozen=True)
class Options:
    """What was asked for; None leaves it to the preset. `lora` 0 trains all weights."""

    model: str
    out: Path
    steps: int | None = None
    budget: float | None = None
    batch: int | None = None
    learning_rate: float | None = None
    lora: int | None = None
    lora_experts: bool = False
    accumulate: int = 1
    grad_checkpoint: bool | None = None
    precision: str = "auto"
    compile: bool = False
    seed: int = 0
    resume: bool = False
    device: str = "auto"
    evaluate_every: int | None = None
    draws: int | None = None
    noise_bias: float | None = None
    encoder_every: int | None = None
    rollouts: int | None = None
    rollouts_after: float | None = None


@dataclass(frozen=True)
class FineTune:
    """A model ready to be trained, the settings, and the files around it.

    The encoder is to learn next-token prediction on every `encoder_every`-th step, on none with 0.
    """

    base: DiffusionGemma
    config: TrainConfig
    objective: Objective
    batch: int
    lora: int
    encoder_every: int
    options: Options
    rollouts: Rollouts | None

    @property
    def model(self) -> Model:
        return self.base.model

    @property
    def directory(self) -> RunDirectory:
        return RunDirectory(self.options.out)

    @classmethod
    def prepare(cls, options: Options, large: Preset, small: Preset) -> FineTune:
        """Load the base and choose settings. Raises `UserError` before anything is written."""
        _require_free(options)
        preset = large if _bytes(options.model) >= LARGE else small
        lora = preset.lora if options.lora is None else options.lora
        base = _loaded(options, lora)
        if lora:
            if adapters(base.model):
                raise InputError(
                    f"{options.model} is an adapter already: give its base model, or --lora 0 to train all"
                )
            add_lora(base.model, LoraConfig(rank=lora, experts=options.lora_experts), options.seed)
        else:
            _open_weights(base.model)
        config = _config(options, preset, base.model.device, lora)
        every = preset.encoder_every if options.encoder_every is None else options.encoder_every
        rollouts = _rollouts(options, preset, base)
        return cls(
            base, config, _objective(options, preset, every, rollouts), options.batch or preset.batch, lora, every,
            options, rollouts,
        )  # fmt: skip

    def run(
        self,
        batches: Batches,
        settings: dict[str, Any],
        report: Report,
        evaluate: Evaluate | None,
    ) -> None:
        """Train, leaving in `out` what `load` and `run --model` take."""
        facts = {"base": _base_name(self.options.model), "lora": [self.lora, self.options.lora_experts]}
        train(
            self.model, batches, self.config, self.objective, directory=self.directory, resume=self.options.resume,
            settings=facts | settings | {"batch": self.batch}, report=report, evaluate=evaluate, export=self.export,
            rollouts=self.rollouts,
        )  # fmt: skip

    @property
    def export(self) -> Export:
        if self.lora:
            return lambda model: save_adapter(model, self.options.out, _base_name(self.options.model))
        return lambda model: save_model(model, self.options.out, source=self.base.directory)


def _bytes(model: str) -> int:
    return sum(path.stat().st_size for path in locate_adapted(model)[0].glob("*.safetensors"))


def _require_free(options: Options) -> None:
    out = options.out
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: give a directory for the result")
    taken = any((out / name).exists() for name in ("config.json", ADAPTER_CONFIG))
    if taken and not RunDirectory(out).root.exists():
        raise InputError(f"{out} holds a model already: give another directory")


def _loaded(options: Options, lora: int) -> DiffusionGemma:
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
    merge(model)
    model.requires_grad_(False)
    for parameter in model.backbone.parameters():
        parameter.data = parameter.data.clone()
    model.backbone.requires_grad_(True)


def _config(options: Options, preset: Preset, device: torch.device, lora: int) -> TrainConfig:
    """The preset's settings with what was asked for in their place."""
    rate = LORA_SMALL if lora and not preset.lora else preset.learning_rate
    ended = options.steps is not None or options.budget is not None
    return TrainConfig(
        steps=options.steps if ended else preset.steps,
        budget=options.budget if ended else preset.budget,
        learning_rate=rate if options.learning_rate is None else options.learning_rate,
        optimiser="adam" if lora or (preset.shard and parallel.world_size() > 1) else preset.optimiser,
        ema=preset.ema,
        accumulate=options.accumulate,
        precision=_precision(device) if options.precision == "auto" else options.precision,
        grad_checkpoint=preset.grad_checkpoint if options.grad_checkpoint is None else options.grad_checkpoint,
        shard=preset.shard,
        compile=options.compile,
        seed=options.seed,
        evaluate_every=preset.evaluate_every if options.evaluate_every is None else options.evaluate_every,
    )


def _rollouts(options: Options, preset: Preset, base: DiffusionGemma) -> Rollouts | None:
    """By the rules by which the model decodes."""
    reads = preset.rollouts if options.rollouts is None else options.rollouts
    after = preset.rollouts_after if options.rollouts_after is None else options.rollouts_after
    if reads:
        return Rollouts(base.generation, reads, after=after)
    if options.rollouts_after is not None:
        raise InputError(f"rollouts-after is {options.rollouts_after}, and there are no rollouts: give --rollouts too")
    return None


def _objective(options: Options, preset: Preset, encoder_every: int, rollouts: Rollouts | None) -> Objective:
    alone = rollouts is not None and not rollouts.after
    return Objective(
        encoder_weight=float(encoder_every),
        draws=(1 if alone else preset.draws) if options.draws is None else options.draws,
        noise_bias=preset.noise_bias if options.noise_bias is None else options.noise_bias,
    )


def _precision(device: torch.device) -> str:
    """bfloat16 on GPUs and on CPUs that multiply it in hardware."""
    hardware = [getattr(torch.cpu, f"_is_{name}_supported", bool)() for name in ("avx512_bf16", "amx_tile")]
    return "bfloat16" if device.type == "cuda" or (device.type == "cpu" and any(hardware)) else "float32"


def _base_name(model: str) -> str:
    """How an adapter names its base: embedded models and hub ids as they are, directories in full."""
    path = Path(model).expanduser()
    return str(path.resolve()) if model not in embedded() and path.is_dir() else model
