"""`python -m recipes.nano tower OUT --init MODEL --budget 1h`: teach a model's vision tower to read sudokus.

The text model takes no part: each soft token is to be the embedding of the digit in its square of the page, of a dot or
of a newline (`sources/pictured.py`). Pages are drawn in batches where it trains (`boards_drawn`), clean ones in a few
fonts first. OUT becomes MODEL with its new tower, and as `--init` it goes on from there. `refit` moves a tower to other
text weights.
"""

from __future__ import annotations

import argparse
import copy
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
from recipes.nano.boards_drawn import BoardsDrawn
from recipes.nano.first_sight import hold
from recipes.nano.glyphs import Glyphs
from recipes.nano.seeing import TOWER, Reader, losses, new_vision, symbol_embeddings, with_tower, write
from recipes.nano.sources.pictured import SYMBOLS

SAVE_EVERY = 60  # seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT", help="directory for the model")
    parser.add_argument("--init", type=Path, required=True, metavar="DIR", help="the model that is to see")
    parser.add_argument("--budget", type=seconds_of, default=3600.0, metavar="3600|50m|1h", help="default 1h")
    parser.add_argument("--easy", type=float, default=0.2, metavar="SHARE", help="of the budget, until all is drawn")
    parser.add_argument("--batch", type=int, default=4, help="pictures a step")
    parser.add_argument("--sizes", type=int, default=1, help="at which the pictures of a step are drawn")
    parser.add_argument("--learning-rate", type=float, default=3e-2)
    parser.add_argument("--ema", type=float, default=0.995, help="decay of the average of the weights, per step")
    parser.add_argument("--device", default="cpu", help="where to draw and to train, cuda for instance")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--digits", type=Path, default=Path("runs/digits.npz"), help="what `digits` made")


def run(options: argparse.Namespace) -> None:
    from transformers import AutoTokenizer

    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    model = load_model(options.init, torch.float32)
    embeddings = symbol_embeddings(model, AutoTokenizer.from_pretrained(options.init))
    if model.config.vision_config != TOWER:
        model = with_tower(model, new_vision(model, options.seed))
    assert isinstance(model.vision, Vision)
    reader = Reader(copy.deepcopy(model.vision), embeddings).to(options.device)
    reader.requires_grad_(False)
    for parameter in reader.trained().values():
        parameter.requires_grad_(True)
    glyphs = Glyphs.load(options.digits)
    print(f"{sum(p.numel() for p in model.vision.parameters()):,} parameters, {len(glyphs.shapes)} fonts", flush=True)
    average = Average(reader, options.ema)

    def save() -> None:
        with average.applied(reader):
            write(with_tower(model, reader.exported(embeddings)), options.init, options.out)

    train(reader, average, BoardsDrawn(glyphs, options.seed, options.device), options, save)


def train(
    reader: Reader, average: Average, boards: BoardsDrawn, options: argparse.Namespace, save: Callable[[], None]
) -> None:
    """The rate falls to zero over the last two thirds of the budget."""
    optimisers = _optimisers(reader, options.learning_rate)
    start = saved = time.monotonic()
    figures: list[torch.Tensor] = []
    step = 0
    while (spent := time.monotonic() - start) < options.budget:
        done = spent / options.budget
        boards.ease = float(np.clip(1.3 * (1 - done / options.easy), 0, 1)) if options.easy else 0.0
        figures.append(_learn(reader, *boards.batch(options.batch, options.sizes)))
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["full"] * min(1.0, (step + 1) / 50, 1.5 * (1 - done))
            optimiser.step()
            optimiser.zero_grad()
        hold(reader.vision.tower, reader.brightness)
        average.update(reader, step)
        step += 1
        if step % 50 == 0:
            entropy, error, right = torch.stack(figures).mean(0).tolist()
            shown = f"entropy {entropy:.4f} error {error:.4f} digits {right:.4f}"
            print(f"step {step} {spent:.0f} s {shown}", flush=True)
            figures.clear()
        if time.monotonic() - saved > SAVE_EVERY:
            save()
            saved = time.monotonic()
    save()


def _learn(reader: Reader, patches: torch.Tensor, symbols: torch.Tensor) -> torch.Tensor:
    """Gradients of one batch; its cross-entropy, squared error and share of digits read right, [3]."""
    with torch.enable_grad():
        with torch.autocast(patches.device.type, torch.bfloat16, enabled=patches.is_cuda):
            seen = reader(patches)
        # Dots would be most of what there is, and what is beside the board is always the same.
        weights = _WEIGHTS.to(symbols.device)[symbols]
        entropy, error = losses(seen, symbols, weights)
        (entropy + 0.5 * error).backward()
    torch.nn.utils.clip_grad_norm_(reader.trained().values(), 1.0)
    right = ((seen.argmax(-1) == symbols) & (weights == 1)).sum() / (weights == 1).sum()
    return torch.stack([entropy.detach(), error.detach(), right])


_WEIGHTS = torch.tensor([{".": 0.4, "\n": 0.1}.get(symbol, 1.0) for symbol in SYMBOLS])


def _optimisers(reader: Reader, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, Adam for the rest, each group with its `full` rate."""
    trained = reader.trained()
    matrices = [p for name, p in trained.items() if p.ndim == 2 and ".layers." in name]
    others = [p for p in trained.values() if p.ndim != 2]
    # The readout is learnt slowly, since its logits are sharpened; so is what is seen of a patch, which begins well.
    slow = {"params": [reader.readout, reader.brightness], "lr": 0.02 * rate}
    muon = Muon(matrices, lr=rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.Adam([{"params": others, "lr": 0.2 * rate}, slow], betas=(0.9, 0.99))
    made: list[torch.optim.Optimizer] = [muon, adam]
    for optimiser in made:
        for group in optimiser.param_groups:
            group["full"] = group["lr"]
    return made
