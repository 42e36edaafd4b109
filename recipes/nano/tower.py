"""`python -m recipes.nano tower OUT --init MODEL --budget 1h`: teach a model's vision tower to read sudokus.

The text model takes no part: each soft token is to be the embedding of the digit in its square of the picture, or of a
dot (`sources/pictured.py`). Clean pictures in a few fonts come first. OUT becomes MODEL with its new tower, and as
`--init` it goes on from there. `refit` moves a tower to other text weights.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from diffusiongemma.model.vision import Vision
from diffusiongemma.train.muon import Muon
from diffusiongemma.train.optimisation import Average
from diffusiongemma.train.progress import seconds_of
from diffusiongemma.weights.checkpoint import load_model
from recipes.nano import fonts
from recipes.nano.boards_shown import BoardsShown
from recipes.nano.first_sight import hold
from recipes.nano.seeing import TOWER, Reader, losses, new_vision, project, symbol_embeddings, with_tower, write

SAVE_EVERY = 180  # seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT", help="directory for the model")
    parser.add_argument("--init", type=Path, required=True, metavar="DIR", help="the model that is to see")
    parser.add_argument("--budget", type=seconds_of, default=3600.0, metavar="3600|50m|1h", help="default 1h")
    parser.add_argument("--easy", type=float, default=0.2, metavar="SHARE", help="of the budget, until all is drawn")
    parser.add_argument("--batch", type=int, default=4, help="pictures a step")
    parser.add_argument("--learning-rate", type=float, default=3e-2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fonts", type=Path, default=Path("runs/fonts"), help="where fonts are fetched to")


def run(options: argparse.Namespace) -> None:
    from transformers import AutoTokenizer

    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    model = load_model(options.init, torch.float32)
    embeddings = symbol_embeddings(model, AutoTokenizer.from_pretrained(options.init))
    if model.config.vision_config != TOWER:
        model = with_tower(model, new_vision(model, options.seed))
    vision = model.vision
    assert isinstance(vision, Vision)
    reader = Reader(vision, embeddings)
    reader.requires_grad_(False)
    for parameter in reader.trained().values():
        parameter.requires_grad_(True)
    found = fonts.of_split(fonts.fetch(options.fonts), "train")
    print(f"{sum(p.numel() for p in reader.parameters()):,} parameters, {len(found)} fonts", flush=True)
    average = Average(reader, 0.995)

    def save() -> None:
        with average.applied(reader):
            project(vision, reader.readout, embeddings)
            write(model, options.init, options.out)

    boards = BoardsShown(found, np.random.default_rng(options.seed), reader.waves)
    train(reader, average, boards, options, save)


def train(
    reader: Reader, average: Average, boards: BoardsShown, options: argparse.Namespace, save: Callable[[], None]
) -> None:
    """The rate falls to zero over the last two thirds of the budget."""
    optimisers = _optimisers(reader, options.learning_rate)
    start = saved = time.monotonic()
    figures: list[tuple[float, float, float]] = []
    step = 0
    while (spent := time.monotonic() - start) < options.budget:
        done = spent / options.budget
        boards.ease = float(np.clip(1.3 * (1 - done / options.easy), 0, 1)) if options.easy else 0.0
        figures.append(_learn(reader, *boards.batch(options.batch)))
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["full"] * min(1.0, (step + 1) / 50, 1.5 * (1 - done))
            optimiser.step()
            optimiser.zero_grad()
        hold(reader.tower)
        average.update(reader, step)
        step += 1
        if step % 50 == 0:
            entropy, error, right = np.mean(figures, 0)
            shown = f"entropy {entropy:.4f} error {error:.4f} digits {right:.4f}"
            print(f"step {step} {spent:.0f} s {shown}", flush=True)
            figures.clear()
        if time.monotonic() - saved > SAVE_EVERY:
            save()
            saved = time.monotonic()
    save()


def _learn(reader: Reader, waves: torch.Tensor, symbols: torch.Tensor) -> tuple[float, float, float]:
    """Gradients of one batch; its cross-entropy, squared error and share of digits read right."""
    with torch.enable_grad():
        seen = reader(waves)
        # Dots would be most of what there is.
        entropy, error = losses(seen, symbols, torch.where(symbols > 0, 1.0, 0.4))
        (entropy + 0.5 * error).backward()
    torch.nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
    right = (seen.argmax(-1) == symbols)[symbols > 0].float().mean()
    return float(entropy.detach()), float(error.detach()), float(right)


def _optimisers(reader: Reader, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, Adam for the rest, each group with its `full` rate."""
    trained = reader.trained()
    matrices = [p for name, p in trained.items() if p.ndim == 2 and ".layers." in name]
    others = [p for p in trained.values() if p.ndim != 2]
    # The readout is learnt slowly, since its logits are sharpened.
    groups = [{"params": others, "lr": 0.2 * rate}, {"params": [reader.readout], "lr": 0.02 * rate}]
    muon = Muon(matrices, lr=rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    made: list[torch.optim.Optimizer] = [muon, torch.optim.Adam(groups, betas=(0.9, 0.99))]
    for optimiser in made:
        for group in optimiser.param_groups:
            group["full"] = group["lr"]
    return made
