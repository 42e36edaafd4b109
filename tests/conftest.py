"""Small checkpoints that several test files share."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

CANVAS = 16
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "preprocessor_config.json")


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of canvas 16 with vision and nano's tokenizer; steps 8, stop tokens <eos> and <turn|>."""
    from reference import build, ours

    from diffusiongemma.weights.locate import ASSETS

    directory = tmp_path_factory.mktemp("models") / "tiny"
    reference = build(seed=3, canvas_length=CANVAS, image_token_id=17, vocab_size=4096)
    # At full strength a random self-conditioner is chaotic: thread counts alone would change the text.
    reference.model.decoder.self_conditioning.down_proj.weight.data.mul_(0.1)
    ours(reference, directory)
    for name in TOKENIZER_FILES:
        shutil.copy(ASSETS / "nano" / name, directory)
    generation = {"max_new_tokens": 2 * CANVAS, "max_denoising_steps": 8, "eos_token_id": [1, 5]}
    (directory / "generation_config.json").write_text(json.dumps(generation))
    return directory


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
