"""`python -m recipes.nano hold DIR OUT`: keep new experts from a model's canvases, so that it decodes as it did before.

New experts that talk (`recipes.nano.apart`) are for the encoder. A router tells what it reads on a canvas, and of
sudokus, from what it reads in other texts by one direction, by which the scores of all new experts are lowered: there
below those of the old ones, in texts hardly at all.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffusiongemma.model.model import Model
from diffusiongemma.weights.checkpoint import load_model
from diffusiongemma.weights.locate import load_tokenizer
from diffusiongemma.weights.saving import save_model
from recipes.nano.apart import FITTED, TOGETHER, Met, met_by, met_reading, near, routers, shares_chosen
from recipes.nano.everyday import TAUGHT, apart_recipe
from recipes.nano.mixtures import DataDirs
from recipes.nano.train import NANO, decoding_rules

TEXTS = 800  # that the encoder reads
HOLD = 100.0  # the weight of what is held beside that of texts


def hold(model: Model, held: Met, texts: Met, old: int) -> None:
    """Lower the scores of the experts from number `old` on where `held` was met, and not where `texts` were."""
    for layer, router in enumerate(routers(model)):
        weight = router.proj.weight.detach()
        weight[old:] += _direction(held, texts, layer, weight[old:])


def _direction(held: Met, texts: Met, layer: int, rows: Tensor) -> Tensor:
    """What to add to the `rows` [n, D] of new experts in a layer's router [D]."""
    met, bars, read = held.inputs[layer].float(), held.bars[layer], texts.inputs[layer].float()
    room = bars - (met @ rows.T).amax(1)
    direction = torch.zeros(met.shape[1], requires_grad=True)
    stepper = torch.optim.LBFGS([direction], max_iter=FITTED, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        stepper.zero_grad()
        total = HOLD * near((met @ direction)[:, None], room) + (read @ direction).square().mean()
        total.backward()
        return total

    with torch.enable_grad():
        stepper.step(loss)
    return direction.detach()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="DIR", help="a model with new experts")
    parser.add_argument("out", type=Path, metavar="OUT", help="directory for the result")
    parser.add_argument("--old", type=Path, default=NANO, metavar="DIR", help="what it was before; default nano")
    parser.add_argument("--met", type=Path, required=True, metavar="NPZ", help="what it met of sudokus (`met`)")
    parser.add_argument("--recipe", choices=TAUGHT, default="modest", help="what both read and decode")
    parser.add_argument("--canvases", type=int, default=192, help="of texts, that are decoded")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="where seed puzzles are kept")


def run(options: argparse.Namespace) -> None:
    model, before = load_model(options.model, torch.float32), load_model(options.old, torch.float32)
    tokenizer, rng = load_tokenizer(options.model), np.random.default_rng(options.seed)
    dirs, old = DataDirs(options.cache), before.config.num_experts
    decoding = decoding_rules(model.config, tokenizer)
    sources = [part.source for part in apart_recipe(tokenizer, model.config, dirs, options.recipe).parts]
    parts = [Met.load(options.met)]
    for number in range(-(-options.canvases // TOGETHER)):
        prompts = [example.prompt for example in sources[number % len(sources)](rng, TOGETHER, 0)]
        parts.append(met_by(model, prompts, decoding, rng, old, decoder=before))
        print(f"{(number + 1) * TOGETHER} of {options.canvases} canvases", flush=True)
    held = Met.joined(parts)
    read = [met_reading(model, source(rng, TEXTS // len(sources), 0), old=old) for source in sources]
    _told("before", model, held, read, old)
    hold(model, held, Met.joined(read), old)
    _told("after", model, held, read, old)
    save_model(model, options.out, source=options.model, dtype=torch.bfloat16)


def _told(when: str, model: Model, held: Met, read: Sequence[Met], old: int) -> None:
    for what, met in (("what is held", held), *(("texts", one) for one in read)):
        shares = " ".join(f"{share:.2%}" for share in shares_chosen(met, model, old))
        print(f"{when}: of {what} a new expert is chosen for {shares}, by layer", flush=True)
