"""The embedded model: it solves, it repeats, it loads in transformers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import DiffusionGemmaForBlockDiffusion

import diffusiongemma as dg
from diffusiongemma.diffusion.samplers import Ancestral, Confidence, FixedK
from diffusiongemma.tasks import sudoku
from diffusiongemma.weights.locate import ASSETS

NANO = ASSETS / "nano"
SOLVED = 0.7  # share of the puzzles below; the model card has the measured figures


@pytest.fixture(scope="module")
def model() -> dg.DiffusionGemma:
    return dg.load("nano")


@pytest.fixture(scope="module")
def puzzles(tmp_path_factory) -> tuple[np.ndarray, np.ndarray]:
    """50 puzzles of 40 to 55 givens from seeds the model has not seen."""
    seeds = sudoku.SeedBank.build(train=1, test=30).test
    return sudoku.sample_boards(seeds, 50, np.random.default_rng(3), givens=(40, 55))


def prompts(puzzles) -> list[str]:
    return [sudoku.format_puzzle(puzzle) for puzzle in puzzles[0]]


@pytest.fixture(scope="module")
def results(model, puzzles) -> list[dg.Result]:
    return model.generate(prompts(puzzles), seed=list(range(50)), max_batch=8)


def solved(puzzles, results) -> float:
    scores = [sudoku.score_board(p, r.text, s) for p, s, r in zip(*puzzles, results, strict=True)]
    return float(np.mean([score["solved"] for score in scores]))


def test_it_solves_puzzles_in_few_steps(puzzles, results):
    assert solved(puzzles, results) >= SOLVED
    assert np.mean([r.steps[0] for r in results]) < 12
    assert sum(r.finish_reason == "stop" for r in results) >= 48  # the encoder that writes a board anew may not end it


def test_text_alone_is_text_in_a_batch_of_eight(model, puzzles, results):
    for i, (prompt, together) in enumerate(zip(prompts(puzzles), results, strict=True)):
        alone = model.generate(prompt, seed=i)
        assert alone.text == together.text and alone.steps == together.steps


@pytest.mark.parametrize("sampler", [Confidence(0.9), FixedK(), Ancestral()])
def test_every_sampler_solves(model, puzzles, sampler):
    few = (puzzles[0][:16], puzzles[1][:16])
    results = model.generate(prompts(few), sampler=sampler, steps=24, max_batch=16)
    assert solved(few, results) >= SOLVED - 0.3


@torch.no_grad()
def test_transformers_loads_it(model):
    reference, info = DiffusionGemmaForBlockDiffusion.from_pretrained(
        NANO, dtype=torch.float32, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    total = sum(p.numel() for p in reference.parameters())
    assert total < 10e6 and sum(path.stat().st_size for path in NANO.iterdir()) < 20e6
    ids = torch.tensor([model.prompt("Solve this sudoku:\n" + "." * 9).ids])
    canvas = torch.randint(0, 4096, (1, model.config.canvas_length))
    expected = reference(input_ids=ids, decoder_input_ids=canvas).logits
    # Trained weights give logits of ten and more, where float32 rounding is this large.
    torch.testing.assert_close(model.denoise(canvas, model.encode(ids)), expected, atol=2e-4, rtol=0)


def test_it_is_the_architecture(model):
    kinds = set(model.config.layer_types)
    assert (
        kinds == {"sliding_attention", "full_attention"} and model.config.num_experts > model.config.top_k_experts > 1
    )
    for token in ("<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|think|>"):
        assert model.tokenizer.convert_tokens_to_ids(token) != model.tokenizer.unk_token_id


def test_images_reach_the_canvas():
    from PIL import Image

    model = dg.load("nano-base")  # says nothing of what it was taught, so it is shown what it is given

    def entropies(colour: str) -> np.ndarray:
        image = Image.new("RGB", (96, 64), colour)
        message = {"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": "What?"}]}
        return model.generate([message], steps=1, trace=True).trace[0].entropy

    assert not np.allclose(entropies("red"), entropies("blue"))
