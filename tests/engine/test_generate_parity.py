"""Whole generations agree token for token with transformers', fed the same random numbers."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from reference import build, new_cache, ours, soft_capped
from transformers.models.diffusion_gemma.generation_diffusion_gemma import EntropyBoundSamplerConfig

from diffusiongemma.chat import Prompt
from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.diffusion.noise import INITIAL, RENOISE, SAMPLE, Noise
from diffusiongemma.diffusion.readout import inverse_cdf
from diffusiongemma.engine.engine import Engine
from diffusiongemma.engine.request import Request

CANVAS = 8
VARIED = dict(
    steps=16, max_new_tokens=40, eos_token_ids=(9, 50, 77), confidence_threshold=0.5, stability_threshold=0
)  # fmt: skip


@contextmanager
def shared_randomness(monkeypatch, seeds):
    """Have transformers draw from our counter-based numbers: initial canvas, then per step a sample and fresh noise."""
    state = {"canvas": -1, "step": 0, "sampled": False}

    def randint(low, high, size, **_):
        if state["sampled"]:
            state["sampled"] = False
            stream = RENOISE
        else:
            state["canvas"] += 1
            state["step"], stream = 0, INITIAL
        rows = [Noise(s, state["canvas"]).tokens(state["step"], stream, size[1], high) for s in seeds]
        return torch.stack(rows)

    def multinomial(probabilities, num_samples):
        state["step"] += 1
        state["sampled"] = True
        uniforms = torch.cat([Noise(s, state["canvas"]).uniforms(state["step"], SAMPLE, CANVAS) for s in seeds])
        return inverse_cdf(probabilities, uniforms)[:, None]

    with monkeypatch.context() as patch:
        patch.setattr(torch, "randint", randint)
        patch.setattr(torch, "multinomial", multinomial)
        yield


def confident(seed, **text):
    """A random model sure enough of itself that canvases converge at different steps.

    At full strength the self-conditioning of a random model is chaotic: a difference of 1e-5 in the logits doubles at
    every step (measured: 8e-6 to 6e-2 in 14 steps), and rounding alone would decide late tokens.
    """
    # An image token that no canvas can hold: transformers 5.17 reads a generated one as padding, 5.23 as itself.
    reference = build(seed, CANVAS, image_token_id=10_000, **text)
    with torch.no_grad():
        reference.model.decoder.embed_tokens.weight.mul_(4)
        reference.model.decoder.self_conditioning.down_proj.weight.mul_(0.2)
    return reference


def their_tokens(reference, ids, seeds, monkeypatch, config, **kwargs):
    with shared_randomness(monkeypatch, seeds):
        return reference.generate(
            ids,
            max_new_tokens=config.max_new_tokens,
            max_denoising_steps=config.steps,
            sampler_config=EntropyBoundSamplerConfig(entropy_bound=config.sampler.bound),
            t_min=config.temperature.t_min,
            t_max=config.temperature.t_max,
            stability_threshold=config.stop.stability,
            confidence_threshold=config.stop.confidence,
            eos_token_id=list(config.eos_token_ids),
            pad_token_id=0,
            **kwargs,
        )


@pytest.mark.parametrize(
    ("seed", "options"),
    [
        (0, dict(steps=6, max_new_tokens=24, eos_token_ids=(100,))),
        (1, dict(steps=12, max_new_tokens=32, eos_token_ids=(5, 17), confidence_threshold=0.3)),
        (2, dict(steps=20, max_new_tokens=16, eos_token_ids=(3, 40, 41, 42), entropy_bound=1.5, stability_threshold=2)),
        (3, dict(steps=9, max_new_tokens=24, eos_token_ids=tuple(range(60, 80)), t_min=0.1, t_max=0.3)),
        (4, VARIED),
    ],
)
def test_batches_agree_with_the_reference(seed, options, monkeypatch, tmp_path):
    reference = confident(seed, sliding_window=5 + 3 * seed)
    model = ours(reference, tmp_path)
    torch.manual_seed(seed)
    ids = torch.randint(1, 90, (3, 11))
    seeds = [seed, 1000 + seed, 2**40 + seed]
    configs = [Decoding.of(seed=s, **options) for s in seeds]
    output = their_tokens(reference, ids, seeds, monkeypatch, configs[0])

    requests = [
        Request(Prompt(row.tolist(), [], []), c, id=i) for i, (row, c) in enumerate(zip(ids, configs, strict=True))
    ]
    results = Engine(model).results(requests)
    for row, result in zip(output.sequences[:, 11:].tolist(), results, strict=True):
        expected = list(result.tokens) + [0] * (len(row) - len(result.tokens))
        assert row == expected
    # transformers counts neither the encodes of committed canvases nor pads.
    for theirs, result in zip(output.tokens_per_forward.tolist(), results, strict=True):
        valid = sum(token != 0 for token in result.tokens)
        assert theirs == pytest.approx(valid / sum(result.steps))
        assert result.forward_passes == sum(result.steps) + result.canvases - 1


def test_early_stop_and_end_tokens_are_exercised(tmp_path):
    """The cases above would prove little if every canvas ran to its last step and never met an end token."""
    model = ours(confident(1, sliding_window=8), tmp_path)
    config = Decoding.of(**VARIED)
    requests = [Request(Prompt([3, 4, 5], [], []), config.with_options(seed=s), id=s) for s in range(8)]
    results = Engine(model).results(requests)
    assert {r.finish_reason for r in results} == {"stop", "length"}
    assert any(step < 16 for r in results for step in r.steps)
    assert len({r.canvases for r in results}) > 1


def test_left_padded_rows_equal_rows_alone(monkeypatch, tmp_path):
    reference = confident(5, sliding_window=64)
    model = ours(reference, tmp_path)
    prompts = [list(range(1, 10)), [11, 12, 13], list(range(20, 36))]
    ids = torch.tensor([[0] * (16 - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (16 - len(p)) + [1] * len(p) for p in prompts])
    seeds = [1, 2, 3]
    config = Decoding.of(steps=10, max_new_tokens=24, eos_token_ids=(50,))
    output = their_tokens(reference, ids, seeds, monkeypatch, config, attention_mask=mask)
    requests = [
        Request(Prompt(p, [], []), config.with_options(seed=s), id=i)
        for i, (p, s) in enumerate(zip(prompts, seeds, strict=True))
    ]
    for row, result in zip(output.sequences[:, 16:].tolist(), Engine(model).results(requests), strict=True):
        assert row[: len(result.tokens)] == list(result.tokens)
        assert set(row[len(result.tokens) :]) <= {0}


@torch.no_grad()
def test_autoregressive_mode_is_greedy_decoding_of_the_encoder(tmp_path):
    for seed in range(3):
        reference = confident(seed, sliding_window=6)
        model = ours(reference, tmp_path / str(seed))
        prompt = [5, 9, 2, 44, 7]
        cache, expected, ids = new_cache(reference), [], torch.tensor([prompt])
        for _ in range(20):
            hidden = reference.model.encoder(input_ids=ids, past_key_values=cache).last_hidden_state[:, -1:]
            ids = soft_capped(reference, hidden).argmax(-1)
            expected.append(int(ids))
        config = Decoding.of(mode="ar", max_new_tokens=20, eos_token_ids=())
        (result,) = Engine(model).results([Request(Prompt(prompt, [], []), config)])
        assert list(result.tokens) == expected
        assert result.forward_passes == 20 and result.tokens_per_forward == 1
