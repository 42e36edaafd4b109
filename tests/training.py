"""A tiny model to train in tests, and `training.py OUT STEPS PAUSE [EVALUATE_EVERY [CHANGES]]`, a run to kill."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from diffusiongemma.config import FULL, SLIDING, ModelConfig
from diffusiongemma.model.model import Model
from diffusiongemma.train import parallel, trainer
from diffusiongemma.train.checkpointing import RunDirectory
from diffusiongemma.train.config import TrainConfig
from diffusiongemma.train.objective import Batch, Objective
from diffusiongemma.train.optimisation import initialise
from diffusiongemma.train.run import Run
from diffusiongemma.train.sft import held_out_loss
from diffusiongemma.train.trainer import Evaluate, Hooks, train
from diffusiongemma.weights.saving import save_model

VOCABULARY, WIDTH = 41, 6
TINY = ModelConfig(
    vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_attention_heads=2, num_key_value_heads=1,
    head_dim=8, num_global_key_value_heads=1, global_head_dim=8, layer_types=(SLIDING, FULL), sliding_window=5,
    num_experts=3, top_k_experts=2, moe_intermediate_size=8, max_position_embeddings=256, canvas_length=WIDTH,
    dtype="float32",
)  # fmt: skip


def tiny_model(seed: int = 0, **changes: Any) -> Model:
    model = Model(ModelConfig(**(vars(TINY) | changes)))
    initialise(model, seed)
    return model


def random_batch(generator: torch.Generator, rows: int = 4, starts: Sequence[int] = (3, 7, 9, 12)) -> Batch:
    """Rows whose canvases start at different places, behind more than the window."""
    start = torch.tensor([starts[i % len(starts)] for i in range(rows)])
    # Tokens that can be predicted: each row counts upwards from somewhere.
    first = torch.randint(VOCABULARY, (rows, 1), generator=generator)
    ids = (first + torch.arange(int(start.max()) + WIDTH)) % VOCABULARY
    index = torch.arange(ids.shape[1])
    supervised = (index >= start[:, None]) & (index < start[:, None] + WIDTH)
    canvas = torch.stack([row[s : s + WIDTH] for row, s in zip(ids, start, strict=True)])
    return Batch(ids, start, canvas, supervised)


def batches(step: int) -> list[Batch]:
    """One batch a step, now and then two, now and then none for the encoder to learn from."""
    generator = torch.Generator().manual_seed(step % 2**32)
    batch = random_batch(generator)
    if step % 4 == 2:
        batch.supervised.zero_()
    return [batch] + [random_batch(generator, 2, (8,))] * (step % 4 == 1)


trainer.SAVING_SHARE = 1e9  # save after every step
CONFIG = dict(steps=8, learning_rate=3e-3, warmup=3, ema=0.9, save_seconds=0.0)


def plan(**changes: Any) -> Run:
    return Run(TrainConfig(**(CONFIG | changes)))


def run(
    out: Path, *, resume: bool = False, pause: float = 0.0, evaluate: Evaluate | None = None, **changes: Any
) -> tuple[Model, list[dict[str, Any]]]:
    """Train the tiny model in `out` -> it and the records of the run."""
    model = tiny_model()
    records: list[dict[str, Any]] = []

    def report(record: dict[str, Any]) -> None:
        records.append(record)
        time.sleep(pause)

    hooks = Hooks(report, evaluate, export=lambda trained: save_model(trained, out))
    train(model, batches, plan(**changes), directory=RunDirectory(out), resume=resume, hooks=hooks)
    return model, records


if __name__ == "__main__":
    torch.set_num_threads(1)
    with parallel.process_group():
        every = int(sys.argv[4]) if len(sys.argv) > 4 else 0
        evaluate = held_out_loss(batches(-1), Objective(), "float32", 0) if every else None
        out, steps, pause = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
        changes = json.loads(sys.argv[5]) if len(sys.argv) > 5 else {}
        run(out, steps=steps, pause=pause, evaluate=evaluate, evaluate_every=every, **changes)
