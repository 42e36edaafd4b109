"""`python -m recipes.nano mean A B OUT`: a model whose weights are the mean of those of two runs.

A model soup (Wortsman et al. 2022): two runs from the same start, averaged, are often better than either.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from diffusiongemma.errors import InputError
from diffusiongemma.weights.checkpoint import load_model
from diffusiongemma.weights.saving import save_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", type=Path, metavar="A", help="a model, which the other files are copied from too")
    parser.add_argument("second", type=Path, metavar="B", help="another of the same shape")
    parser.add_argument("out", type=Path, metavar="OUT", help="directory for the mean")
    parser.add_argument("--share", type=float, default=0.5, help="of the second in the mean; default 0.5")


@torch.no_grad()
def run(options: argparse.Namespace) -> None:
    """Raises `InputError` where the two differ in shape, and for a share that is none."""
    share = options.share
    if not 0 <= share <= 1:
        raise InputError("give a number from 0 to 1", option="--share", got=share)
    first, second = (load_model(path, torch.float32) for path in (options.first, options.second))
    if first.config != second.config:
        raise InputError(f"{options.first} and {options.second} differ in shape: give two runs of one model")
    for mine, other in zip(first.parameters(), second.parameters(), strict=True):
        mine.data = mine.double().lerp(other.double(), share).float()
    save_model(first, options.out, source=options.first, dtype=torch.bfloat16)
