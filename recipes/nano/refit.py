"""`python -m recipes.nano refit MODEL TOWER OUT`: MODEL's text weights with the vision tower of TOWER, in a second.

The tower's projection is computed anew for MODEL's embeddings of the digits; nothing is trained.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from diffusiongemma.errors import InputError
from diffusiongemma.model.vision import Vision
from diffusiongemma.weights.checkpoint import load_model
from recipes.nano.seeing import TOWER, refit, symbol_embeddings, with_tower, write


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="the model that is to see; its other files are kept")
    parser.add_argument("tower", type=Path, metavar="TOWER", help="a model that `tower` made")
    parser.add_argument("out", type=Path, metavar="OUT", help="directory for the two together")


@torch.no_grad()
def run(options: argparse.Namespace) -> None:
    """Raises `InputError` where TOWER's tower is of another shape."""
    from transformers import AutoTokenizer

    model, seeing = (load_model(path, torch.float32) for path in (options.model, options.tower))
    if seeing.config.vision_config != TOWER:
        raise InputError(f"{options.tower} has a tower of another shape: give a model that `tower` made")
    vision = seeing.vision
    assert isinstance(vision, Vision)
    new, old = (
        symbol_embeddings(one, AutoTokenizer.from_pretrained(path))
        for one, path in ((model, options.model), (seeing, options.tower))
    )
    refit(vision, old, new)
    write(with_tower(model, vision), options.model, options.out)
