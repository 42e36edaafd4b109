"""The objective against brute-force sums, finite differences, the inference path and transformers."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from reference import build, ours, soft_capped
from torch import Tensor
from training import VOCABULARY, WIDTH, random_batch, tiny_model

from diffusiongemma.diffusion.noise import corrupt
from diffusiongemma.errors import InputError
from diffusiongemma.kernels.head_loss import head_loss, plain_head_loss
from diffusiongemma.train import objective as module
from diffusiongemma.train.attention import DenoiseBatch, explicit_attention, shared_start
from diffusiongemma.train.config import TrainConfig
from diffusiongemma.train.objective import Batch, Draw, Objective, Totals, denoise, encode, in_runs, loss
from diffusiongemma.train.run import Run
from diffusiongemma.train.trainer import Training

PLAIN = Objective(self_conditioning=0.0, encoder_weight=0.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw_of(level: Tensor, uniforms: Tensor, tokens: Tensor) -> Draw:
    return Draw(level, uniforms, tokens, conditioned=0, read=0)


def one_example(model, width: int, prompt: int = 4) -> Batch:
    ids = torch.randint(model.config.vocab_size, (1, prompt + width), generator=generator(1))
    return Batch(ids, torch.tensor([prompt]), ids[:, prompt:], torch.zeros_like(ids, dtype=torch.bool))


# --- the expectation ------------------------------------------------------------------------------------------------


@torch.no_grad()
def canvas_loss(model, batch: Batch, noisy: Tensor, soft: Tensor | None = None) -> Tensor:
    """Cross-entropy [N] of clean canvases given noisy ones [N, C], by the inference path."""
    prompt = batch.ids[:, : int(batch.start[0])]
    out = []
    for i, canvas in enumerate(noisy):
        logits = model.denoise(canvas[None], model.encode(prompt), None if soft is None else soft[i : i + 1])
        out.append(F.cross_entropy(logits[0], batch.canvas[0]))
    return torch.stack(out)


@pytest.mark.parametrize("level", [0.0, 0.3, 0.5, 1.0])
@torch.no_grad()
def test_the_loss_is_the_sum_over_every_corruption(level):
    """All masks and all random tokens of a canvas of two, weighted by their probabilities, against the sum over
    all noisy canvases x' of P(x' | x) · cross-entropy, which goes another way."""
    model = tiny_model(vocab_size=5)
    batch = one_example(model, 2)
    masks = torch.tensor(list(itertools.product([0, 1], repeat=2)))
    expected, found = 0.0, 0.0
    every = torch.tensor(list(itertools.product(range(5), repeat=2)))
    hit = (every == batch.canvas).double()
    probability = ((1 - level) * hit + level / 5).prod(-1)  # of each noisy canvas
    expected = float((probability * canvas_loss(model, batch, every)).sum())
    for mask in masks:
        # A uniform number below the level corrupts, one above keeps.
        uniforms = torch.where(mask.bool(), level - 1e-3, level + 1e-3)
        weight = math.prod(level if m else 1 - level for m in mask.tolist())
        for tokens in every:
            draw = draw_of(torch.tensor([level]), uniforms[None], tokens[None])
            if weight:
                found += weight / len(every) * float(loss(model, batch, draw, PLAIN).denoise)
    assert found == pytest.approx(expected, abs=1e-5)


@torch.no_grad()
def test_sampled_losses_have_the_expected_mean():
    """Over levels t ~ U(0, 1), P(x' | x) integrates to a polynomial; 20,000 draws come within 4 standard errors."""
    model = tiny_model(vocab_size=5)
    batch = one_example(model, 2)
    every = torch.tensor(list(itertools.product(range(5), repeat=2)))
    t = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000  # midpoint rule: exact to 1e-9 for a square
    hit = (every == batch.canvas).double()
    probability = ((1 - t[:, None, None]) * hit + t[:, None, None] / 5).prod(-1).mean(0)
    assert float(probability.sum()) == pytest.approx(1, abs=1e-9)
    losses = canvas_loss(model, batch, every).double()
    mean = float((probability * losses).sum())
    deviation = math.sqrt(float((probability * (losses - mean) ** 2).sum()))
    n = 20_000
    many = Batch(*(x.expand(n, *x.shape[1:]) for x in (batch.ids, batch.start, batch.canvas, batch.supervised)))
    found = loss(model, many, Draw.sample(n, 2, 5, PLAIN, generator()), PLAIN)
    assert abs(float(found.denoise) - mean) < 4 * deviation / math.sqrt(n)
    several = Objective(self_conditioning=0.0, encoder_weight=0.0, draws=n)
    found = loss(model, batch, Draw.sample(1, 2, 5, several, generator(1)), several)
    assert abs(float(found.denoise) - mean) < 4 * deviation / math.sqrt(n)


def test_corruption_is_uniform_at_its_level():
    n, width = 400, 250
    draw = Draw.sample(n, width, 7, PLAIN, generator())
    noisy = corrupt(torch.full((n, width), 3), draw.level, draw.uniforms, draw.random_tokens)
    # Levels are uniform: Kolmogorov-Smirnov distance below its 99.9 % bound.
    distance = (draw.level.sort().values - (torch.arange(n) + 0.5) / n).abs().max()
    assert distance < 1.95 / math.sqrt(n)
    changed = (noisy != 3).sum(-1).double()
    expected = draw.level.double() * 6 / 7
    z = (changed - width * expected) / (width * expected * (1 - expected) + 1e-9).sqrt()
    assert z.abs().max() < 5 and abs(float(z.mean())) < 4 / math.sqrt(n)
    counts = torch.bincount(noisy[noisy != 3], minlength=7)[[0, 1, 2, 4, 5, 6]].double()
    assert float(((counts - counts.mean()) ** 2 / counts.mean()).sum()) < 20.5  # chi², 5 degrees, 99.9 %


def test_noise_in_runs_keeps_each_position_as_noisy_and_neighbours_together():
    generator = torch.Generator().manual_seed(0)
    apart = torch.rand(4000, 64, generator=generator)
    shared = in_runs(apart, 16.0, generator)
    for level in (0.2, 0.7):
        noisy = shared < level
        # The mean of 64 positions of a canvas hangs together, but the canvases do not: 4,000 draws of each position.
        assert (noisy.float().mean(0) - level).abs().max() < 4 * (level * (1 - level) / 4000) ** 0.5
    together = (shared[:, 1:] == shared[:, :-1]).float().mean(1)  # 1 - 1/m, m log-uniform from 1 to 16
    assert abs(float(together.mean()) - (1 - (1 - 1 / 16) / torch.tensor(16.0).log())) < 0.01
    assert together.min() < 0.1 and together.max() > 0.85
    assert in_runs(apart, 1.0, generator) is apart


def test_a_step_corrupts_a_batch_in_its_runs():
    training = Training(tiny_model(), lambda step: [], Run(TrainConfig(steps=1)))
    batch = random_batch(generator())
    together = []
    for runs in (1.0, 1000.0):
        ((_, draw),) = training._parts([replace(batch, runs=runs)])
        together.append(int((draw.uniforms[:, 1:] == draw.uniforms[:, :-1]).sum()))
    assert together[0] == 0 < together[1]


# --- self-conditioning ----------------------------------------------------------------------------------------------


def conditioned_case(objective: Objective = Objective(self_conditioning=0.5, encoder_weight=0.0)):
    model = tiny_model()
    batch = random_batch(generator())
    return model, batch, Draw.sample(4, WIDTH, VOCABULARY, objective, generator(3)), objective


def test_conditioned_examples_see_their_first_prediction_and_the_others_zeros():
    model, batch, draw, objective = conditioned_case()
    assert draw.conditioned == 2
    with torch.no_grad():
        found = loss(model, batch, draw, objective).denoise
        noisy = corrupt(batch.canvas, draw.level, draw.uniforms, draw.random_tokens)
        expected = []
        for i in range(4):
            cache = model.encode(batch.ids[i : i + 1, : int(batch.start[i])])
            logits = model.denoise(noisy[i : i + 1], cache)
            if i < 2:
                logits = model.denoise(noisy[i : i + 1], cache, model.soft_embedding(logits))
            expected.append(F.cross_entropy(logits[0], batch.canvas[i]))
    assert float(found) == pytest.approx(float(torch.stack(expected).mean()), abs=1e-5)


def test_gradients_reach_the_self_conditioner_but_not_the_first_reading():
    model, batch, draw, objective = conditioned_case()
    loss(model, batch, draw, objective).total.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    assert all(float(found[n].norm()) > 0 for n in found if "self_conditioning" in n)

    # The same with the soft embedding as a constant: nothing flowed through the first reading.
    model.zero_grad()
    _, context = encode(model, batch.ids)
    noisy = corrupt(batch.canvas, draw.level, draw.uniforms, draw.random_tokens)
    soft = module._first_reading(model, noisy, batch.start, context, None, draw)
    assert not soft.requires_grad and not soft[2:].any()

    def total() -> Tensor:
        _, context = encode(model, batch.ids)
        out = denoise(model, noisy, batch.start, context, soft)
        return plain_head_loss(out, model.backbone.embed_tokens.weight, batch.canvas.flatten(), 30.0)

    total().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-6, rtol=1e-4)

    # And by finite differences, along a random direction of each of the self-conditioner's weights.
    for name, parameter in model.backbone.self_conditioning.named_parameters():
        direction = torch.randn(parameter.shape, generator=generator(5))
        step = 3e-3 / float(direction.norm())
        with torch.no_grad():
            parameter += step * direction
            above = float(total())
            parameter -= 2 * step * direction
            below = float(total())
            parameter += step * direction
        slope = float((found[f"backbone.self_conditioning.{name}"] * direction).sum())
        assert (above - below) / (2 * step) == pytest.approx(slope, rel=0.05, abs=2e-3)


def test_gradients_reach_the_self_conditioner_under_autocast():
    """Autocast keeps the cast weights of a region; those of the first, undifferentiated reading must not be used."""
    model, batch, draw, objective = conditioned_case()
    with torch.autocast("cpu", torch.bfloat16):
        result = loss(model, batch, draw, objective)
    result.total.backward()
    assert all(p.grad is not None and float(p.grad.norm()) > 0 for p in model.parameters())


def test_gradients_flow_from_the_canvas_to_what_it_sees_of_the_encoder():
    model = tiny_model()
    batch = random_batch(generator())
    _, context = encode(model, batch.ids)
    for keys, values in zip(context.keys.values(), context.values.values(), strict=True):
        keys.retain_grad()
        values.retain_grad()
    out = denoise(model, batch.canvas, batch.start, context, None)
    head_loss(out, model.backbone.embed_tokens.weight, batch.canvas.flatten(), 30.0).backward()
    for layer, sliding in enumerate((True, False)):
        for stored in (context.keys[layer], context.values[layer]):
            reached = stored.grad.abs().sum((1, 3)) > 0  # [B, S]
            index = torch.arange(reached.shape[1])
            seen = index < batch.start[:, None]
            if sliding:
                seen = seen & (index > batch.start[:, None] - model.config.sliding_window)
            # In the lower layer tokens outside the window are reached through the encoder's layers above.
            assert not (reached & (index >= batch.start[:, None])).any()
            assert (reached >= seen).all() and (layer == 0 or (reached == seen).all())


def test_single_examples_are_conditioned_as_often_as_asked():
    counts = [Draw.sample(1, 2, 5, Objective(), generator(seed)).conditioned for seed in range(400)]
    assert set(counts) == {0, 1} and abs(sum(counts) / 400 - 0.5) < 0.1
    assert {Draw.sample(8, 2, 5, Objective(), generator(seed)).conditioned for seed in range(50)} == {4}


# --- other ways to the same numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("starts", [(3, 7, 9, 12), (11,), (2,)])  # with and without padding, around the window of 5
@torch.no_grad()
def test_logits_equal_the_inference_path(starts):
    model = tiny_model()
    batch = random_batch(generator(), 4, starts)
    _, context = encode(model, batch.ids)
    soft = torch.randn(4, WIDTH, 16, generator=generator(2))
    for conditioned in (None, soft):
        hidden = denoise(model, batch.canvas, batch.start, context, conditioned)
        logits = model.backbone.logits(hidden).view(4, WIDTH, -1)
        for i in range(4):
            cache = model.encode(batch.ids[i : i + 1, : int(batch.start[i])])
            alone = model.denoise(batch.canvas[i : i + 1], cache, None if conditioned is None else soft[i : i + 1])
            torch.testing.assert_close(logits[i], alone[0], atol=2e-5, rtol=0)


@torch.no_grad()
def test_cutting_equals_masking_where_all_start_alike():
    model = tiny_model()
    batch = random_batch(generator(), 4, (9,))
    _, context = encode(model, batch.ids)
    assert shared_start(batch.start) == 9 and shared_start(torch.tensor([9, 9, 8, 9])) is None
    cut = DenoiseBatch(context, batch.start, WIDTH, shared=9)
    positions = (batch.start[:, None] + torch.arange(WIDTH)).flatten()
    masked = DenoiseBatch(context, batch.start, WIDTH)
    results = [model.backbone.denoise(batch.canvas.flatten(), None, positions, c) for c in (cut, masked)]
    torch.testing.assert_close(*results, atol=1e-5, rtol=0)


def test_several_draws_equal_repeated_examples():
    """Loss and gradients of three draws per example are those of a batch that holds each example three times."""
    model, batch = tiny_model(), random_batch(generator())
    objective = Objective(draws=3)
    draw = Draw.sample(4, WIDTH, VOCABULARY, objective, generator(4))
    assert draw.conditioned == 6
    tensors = (batch.ids, batch.start, batch.canvas, batch.supervised)
    repeated = Batch(*(x.repeat(3, *[1] * (x.ndim - 1)) for x in tensors))
    results = []
    for case, options in ((batch, objective), (repeated, Objective())):
        model.zero_grad()
        result = loss(model, case, draw, options)
        result.total.backward()
        results.append((result.total.detach(), [p.grad.clone() for p in model.parameters()]))
    torch.testing.assert_close(*results, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("objective", "parts"), [(Objective(), 2), (Objective(draws=3), 3)])
def test_parts_of_a_batch_add_up_to_it(objective, parts):
    model, batch = tiny_model(), random_batch(generator(), 7)
    draw = Draw.sample(7, WIDTH, VOCABULARY, objective, generator(4))
    totals = Totals.of([batch], objective)
    model.zero_grad()
    loss(model, batch, draw, objective).total.backward()
    whole = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    conditioned = 0
    for part in range(parts):
        rows = torch.arange(part, 7, parts)
        piece = draw.take(rows, 7)
        conditioned += piece.conditioned
        loss(model, batch.take(rows), piece, objective, totals).total.backward()
    assert conditioned == draw.conditioned
    torch.testing.assert_close(whole, [p.grad for p in model.parameters()], atol=1e-5, rtol=1e-4)


def test_transformers_gives_the_same_denoise_loss(tmp_path):
    reference = build(2, 8)
    model = ours(reference, tmp_path)
    ids = torch.randint(0, 97, (3, 13), generator=generator())
    canvas = torch.randint(0, 97, (3, 8), generator=generator(1))
    batch = Batch(torch.cat([ids, canvas], 1), torch.tensor([13] * 3), canvas, torch.zeros(3, 21, dtype=torch.bool))
    batch.supervised[:, 13:] = True
    objective = Objective(self_conditioning=1.0)
    draw = Draw.sample(3, 8, 101, objective, generator(2))
    with torch.no_grad():
        found = loss(model, batch, draw, objective)
        noisy = corrupt(canvas, draw.level, draw.uniforms, draw.random_tokens)
        first = reference(input_ids=ids, decoder_input_ids=noisy).logits
        second = reference(input_ids=ids, decoder_input_ids=noisy, self_conditioning_logits=first).logits
        hidden = reference.model.encoder(input_ids=batch.ids).last_hidden_state
        causal = soft_capped(reference, hidden)[:, 12:-1]
    expected = F.cross_entropy(second.float().flatten(0, 1), canvas.flatten())
    assert float(found.denoise) == pytest.approx(float(expected), abs=2e-5)
    expected = F.cross_entropy(causal.flatten(0, 1), canvas.flatten())
    assert float(found.encoder) == pytest.approx(float(expected), abs=2e-5)


@pytest.mark.parametrize("trained", [(True, True), (True, False), (False, True)])
def test_head_loss_equals_the_plain_one(monkeypatch, trained):
    monkeypatch.setattr("diffusiongemma.kernels.head_loss.CHUNK_ELEMENTS", 7 * 53)
    hidden, weight = (torch.randn(*s, generator=generator(i)) * 2 for i, s in enumerate(((40, 12), (53, 12))))
    targets = torch.randint(53, (40,), generator=generator(3))
    results = []
    for function in (head_loss, plain_head_loss):
        given = [x.clone().requires_grad_(t) for x, t in zip((hidden, weight), trained, strict=True)]
        value = function(*given, targets, 5.0)
        (value * 1.7).backward()
        results.append((value.detach(), [x.grad for x in given if x.requires_grad]))
        with torch.no_grad():
            torch.testing.assert_close(function(hidden, weight, targets, 5.0), value.detach())
    torch.testing.assert_close(*results, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("shape", [(8,), (2, 1, 1, 8), None])
def test_explicit_attention_equals_the_fused_kernel(shape):
    q, k, v = (torch.randn(2, h, n, 4, generator=generator(h + n)) for h, n in ((4, 5), (2, 8), (2, 8)))
    allowed = None if shape is None else torch.rand(shape, generator=generator(9)) > 0.4
    if allowed is not None:
        allowed[..., 0] = True
    mask = None if allowed is None else allowed.expand(2, 4, 5, 8)
    expected = F.scaled_dot_product_attention(q, k, v, mask, scale=1.0, enable_gqa=True)
    torch.testing.assert_close(explicit_attention(q, k, v, allowed), expected)


@pytest.mark.parametrize(
    "options", [{"self_conditioning": 1.5}, {"noise_bias": 0}, {"encoder_weight": -1}, {"draws": 0}]
)
def test_impossible_objectives_are_refused(options):
    with pytest.raises(InputError):
        Objective(**options)
