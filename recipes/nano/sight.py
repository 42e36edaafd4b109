"""`python -m recipes.nano pictures MODEL --limit 100`: how well a model reads and solves pictures of sudokus.

Boards of test seeds in fonts of families that training never saw, mildly worn, 200 to 1200 pixels a side. Cells: each
soft token is read as the symbol whose embedding is nearest. Solved: by `generate` from the picture, from the same board
typed, and from a perfect reading, with the symbols' own embeddings in the picture's place.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from diffusiongemma.tasks import sudoku
from recipes.nano import fonts
from recipes.nano.pictures import Wear, photograph_sudoku
from recipes.nano.seeing import symbol_embeddings
from recipes.nano.sources.pictured import read_out, squares

REQUEST = "Solve this sudoku:"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("--limit", type=int, default=100, help="pictures")
    parser.add_argument("--givens", type=int, nargs=2, default=(30, 55), metavar=("LOW", "HIGH"))
    parser.add_argument("--wear", type=float, default=1.0, help="0 none, 1 mild, 2 strong")
    parser.add_argument("--margin", type=float, default=0.05, help="around the board, at most, in boards")
    parser.add_argument("--read-only", action="store_true", help="do not solve")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fonts", type=Path, default=Path("runs/fonts"), help="where fonts are fetched to")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="where seed puzzles are kept")


def run(options: argparse.Namespace) -> None:
    import diffusiongemma as dg

    model = dg.load(options.model)
    rng = np.random.default_rng(options.seed)
    puzzles, _ = sudoku.sample_boards(
        sudoku.SeedBank.load_or_build(options.cache).test, options.limit, rng, tuple(options.givens)
    )
    found = fonts.of_split(fonts.fetch(options.fonts), "test")
    pictures = [taken(puzzle, found, rng, options) for puzzle in puzzles]
    reading = np.stack([read(model, picture) for picture in pictures])  # [N, 90]
    shown = np.stack([squares(puzzle) for puzzle in puzzles])
    right = reading.reshape(shown.shape) == shown
    exact = right.all((1, 2))
    print(f"{len(found)} fonts of {sorted({fonts.family(path) for path in found})}")
    cells, given = right[:, -9:, -9:], puzzles.reshape(-1, 9, 9) > 0
    print(f"cells right {cells.mean():.2%}, digits {cells[given].mean():.2%}", flush=True)
    print(f"boards read exactly {exact.mean():.1%}", flush=True)
    if not options.read_only:
        report_solved(model, puzzles, pictures, exact)


def taken(puzzle: np.ndarray, found: list[Path], rng: np.random.Generator, options: argparse.Namespace) -> Image.Image:
    side = int(np.exp(rng.uniform(np.log(200), np.log(1200))))
    return photograph_sudoku(puzzle, found, rng, Wear(options.wear), side, options.margin)


def asked(picture: Image.Image) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": REQUEST}]}]


def read(model: Any, picture: Image.Image) -> np.ndarray:
    """The number of the symbol [90] that each square of a square picture's page is read as."""
    image = model.prompt(asked(picture)).images[0]
    tokens = model.network.image_features(image.pixels, image.positions)
    return torch.cdist(tokens, symbol_embeddings(model.network, model.tokenizer)).argmin(1).numpy()


def report_solved(model: Any, puzzles: np.ndarray, pictures: list[Image.Image], exact: np.ndarray) -> None:
    """From pictures, from a perfect reading of them, and typed."""
    seen = [asked(picture) for picture in pictures]
    prompts = [model.prompt(one) for one in seen]
    told = [_told(model, prompt, puzzle) for prompt, puzzle in zip(prompts, puzzles, strict=True)]
    typed = [sudoku.format_puzzle(puzzle) for puzzle in puzzles]
    for name, questions in (("pictures", seen), ("perfect readings", told), ("typed", typed)):
        results = model.generate(questions, seed=list(range(len(questions))), max_batch=16)
        solved = np.array([sudoku.score_board(p, r.text)["solved"] for p, r in zip(puzzles, results, strict=True)])
        print(f"{name}: solved {solved.mean():.1%}, of those read exactly {solved[exact].mean():.1%}", flush=True)


def _told(model: Any, prompt: Any, puzzle: np.ndarray) -> list[int]:
    """The prompt's ids with the symbols themselves in the place of the image's tokens."""
    (start, end), ids = prompt.image_spans[0], list(prompt.ids)
    ids[start:end] = model.tokenizer.encode(read_out(squares(puzzle)), add_special_tokens=False)
    return ids
