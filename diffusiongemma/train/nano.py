"""Train the embedded model: `python -m diffusiongemma.train.nano OUT_DIR --budget SECONDS`.

One skill so far: 9x9 sudoku, from random weights, on puzzles made by symmetries of seed puzzles. The directory gets
everything that `load` and transformers need; the tokenizer is copied from the package.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffusiongemma.config import FULL, SLIDING, GenerationConfig, ModelConfig
from diffusiongemma.model.model import Model
from diffusiongemma.train.data import collate, tokenise
from diffusiongemma.train.objective import Batch, Objective
from diffusiongemma.train.tasks import sudoku
from diffusiongemma.train.trainer import TrainConfig, initialise, save_state, train

NANO = Path(__file__).parents[1] / "assets" / "nano"
# The smallest vision tower that transformers builds; without one it would add 167M random parameters.
VISION = {
    "model_type": "gemma4_vision", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 16, "position_embedding_size": 256,
    "patch_size": 16, "pooling_kernel_size": 3,
}  # fmt: skip
# The encoder is trained on every fourth batch, with four times the weight: the same mean gradient, and the other
# batches need not encode the answer.
ENCODER_EVERY = 4


def nano_config(tokenizer: Any) -> ModelConfig:
    def token(name: str) -> int:
        return tokenizer.convert_tokens_to_ids(name)

    return ModelConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, num_global_key_value_heads=1, global_head_dim=64,
        layer_types=(SLIDING,) * 5 + (FULL,), sliding_window=256, num_experts=4, top_k_experts=2,
        moe_intermediate_size=64, max_position_embeddings=8192, canvas_length=96,
        pad_token_id=token("<pad>"), eos_token_id=token("<eos>"), bos_token_id=token("<bos>"),
        boi_token_id=token("<|image>"), image_token_id=token("<|image|>"), eoi_token_id=token("<image|>"),
        vision_config=VISION, dtype="bfloat16",
    )  # fmt: skip


def sudoku_batches(
    tokenizer: Any, config: ModelConfig, size: int, seed: int, cache: Path
) -> Iterator[tuple[Batch, Objective]]:
    """Endless batches; puzzles get harder over the first 840."""
    seeds = sudoku.SeedBank.load_or_build(cache).train
    rng = np.random.default_rng(seed)
    for number in range(2**62):
        puzzles, solutions = sudoku.sample_boards(seeds, size, rng, givens=_givens(number))
        texts = [(sudoku.format_puzzle(p), sudoku.format_solution(s)) for p, s in zip(puzzles, solutions, strict=True)]
        encoder = number % ENCODER_EVERY == 0
        batch = collate(tokenise(texts, tokenizer, config), config, rng, encoder)
        yield batch, Objective(encoder_weight=float(ENCODER_EVERY) if encoder else 0.0)


def _givens(batch: int) -> tuple[int, int]:
    return (max(24, 45 - batch // 40), 60)


def write_configs(config: ModelConfig, tokenizer: Any, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    ends = tuple(tokenizer.convert_tokens_to_ids(["<eos>", "<turn|>"]))
    generation = GenerationConfig(max_new_tokens=config.canvas_length, eos_token_ids=ends)
    hf = {"config": config.to_hf(), "generation_config": generation.to_hf(config.pad_token_id, config.bos_token_id)}
    for name, value in hf.items():
        (directory / f"{name}.json").write_text(json.dumps(value, indent=2) + "\n")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "preprocessor_config.json"):
        if directory.resolve() != NANO:
            shutil.copy(NANO / name, directory)


def main() -> None:
    from transformers import AutoTokenizer

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT_DIR")
    parser.add_argument("--budget", type=float, default=3600, help="seconds of training (default 3600)")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="where seed puzzles are kept")
    options = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(NANO)
    config = nano_config(tokenizer)
    write_configs(config, tokenizer, options.out)
    model = Model(config)
    initialise(model, options.seed)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    batches = sudoku_batches(tokenizer, config, options.batch, options.seed, options.cache)
    run = TrainConfig(steps=10**9, budget=options.budget, learning_rate=options.learning_rate, seed=options.seed)
    torch.manual_seed(options.seed)
    train(
        model,
        batches,
        run,
        report=lambda m: print(" ".join(f"{k} {v:.4g}" for k, v in m.items()), flush=True),
        checkpoint=lambda state, step: save_state(config, state, options.out / "model.safetensors"),
    )


if __name__ == "__main__":
    main()
