"""Noise, temperature, readout, samplers and stop rules, each against its definition."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from diffusiongemma.diffusion import readout
from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.diffusion.noise import Noise, NoiseOfSeveral, corrupt
from diffusiongemma.diffusion.readout import Prediction, ReadOptions, inverse_cdf, read
from diffusiongemma.diffusion.samplers import Ancestral, Confidence, EntropyBound, FixedK, StepContext
from diffusiongemma.diffusion.stop import StableAndConfident
from diffusiongemma.diffusion.temperature import Temperature
from diffusiongemma.errors import InputError


class Head:
    """Logits that are the hidden states themselves."""

    eight_bits = read_by_kernel = False

    def __init__(self, size):
        self.config = SimpleNamespace(vocab_size=size)
        self.embedding = torch.randn(size, 5)

    def logits(self, hidden):
        return hidden.clone()

    def soft_embedding(self, probabilities):
        return probabilities @ self.embedding


def prediction_of(logits, uniforms=None) -> Prediction:
    n = len(logits)
    uniforms = torch.rand(n, dtype=torch.float64) if uniforms is None else uniforms
    return read(Head(logits.shape[1]), logits, torch.ones(n), uniforms, torch.zeros(n, dtype=torch.bool))


def context(step=1, steps=4, vocab_size=7, seed=0) -> StepContext:
    return StepContext(Noise(seed, 0), step, steps, vocab_size)


def test_noise_depends_only_on_its_coordinates():
    a = Noise(5, 2).uniforms(3, 1, 50)
    assert a.equal(Noise(5, 2).uniforms(3, 1, 50))
    assert a[:20].equal(Noise(5, 2).uniforms(3, 1, 20)), "a narrower canvas gets a prefix of the same numbers"
    others = [Noise(6, 2).uniforms(3, 1, 50), Noise(5, 3).uniforms(3, 1, 50), Noise(5, 2).uniforms(4, 1, 50)]
    others.append(Noise(5, 2).uniforms(3, 2, 50))
    assert all(not a.equal(b) for b in others)
    assert Noise(2**64 - 1, 0).tokens(0, 0, 9, 262_144).max() < 262_144


def test_noise_tokens_are_uniform():
    tokens = Noise(1, 0).tokens(0, 0, 200_000, 10)
    counts = tokens.bincount(minlength=10).double()
    chi_square = ((counts - 20_000) ** 2 / 20_000).sum()
    assert chi_square < 27.9  # the 0.999 quantile with 9 degrees of freedom


def test_corruption_replaces_the_share_it_names():
    generator = torch.Generator().manual_seed(0)
    clean = torch.zeros(4, 50_000, dtype=torch.long)
    level = torch.tensor([0.0, 0.25, 0.8, 1.0])
    uniforms = torch.rand(clean.shape, generator=generator)
    noisy = corrupt(clean, level, uniforms, torch.randint(1, 9, clean.shape, generator=generator))
    share = (noisy != clean).float().mean(1)
    assert torch.allclose(share, level, atol=0.01)


def test_temperature_schedule_is_the_released_one():
    shape = Temperature()
    assert (shape(1.0), shape(0.5)) == (0.8, pytest.approx(0.6))
    assert Temperature(scale=2)(1.0) == 1.6


@settings(deadline=None)
@given(st.integers(0, 999), st.integers(2, 40), st.floats(0.1, 5))
def test_readout_agrees_with_torch_distributions(seed, size, temperature):
    torch.manual_seed(seed)
    logits = torch.randn(6, size) * 3
    uniforms = torch.rand(6, dtype=torch.float64)
    head = Head(size)
    got = read(head, logits, torch.full((6,), temperature), uniforms, torch.zeros(6, dtype=torch.bool))
    shaped = torch.distributions.Categorical(logits=logits / temperature)
    torch.testing.assert_close(got.entropy, shaped.entropy(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(got.logprob, shaped.log_prob(got.argmax), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(got.sampled_logprob, shaped.log_prob(got.sampled), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(got.soft, shaped.probs @ head.embedding, atol=1e-5, rtol=1e-4)
    assert got.argmax.equal(logits.argmax(-1))


def test_readout_in_chunks_is_the_same(monkeypatch):
    torch.manual_seed(0)
    logits, uniforms = torch.randn(23, 11), torch.rand(23, dtype=torch.float64)
    whole = prediction_of(logits, uniforms)
    monkeypatch.setattr(readout, "CHUNK_ELEMENTS", 11 * 5)
    torch.manual_seed(0)
    torch.randn(23, 11), torch.rand(23, dtype=torch.float64)
    chunked = prediction_of(logits, uniforms)
    assert chunked.sampled.equal(whole.sampled) and chunked.entropy.equal(whole.entropy)


@settings(deadline=None)
@given(st.integers(0, 999), st.integers(1, 40), st.floats(0, 1), st.sampled_from([1, 5, 256]))
def test_a_nucleus_is_the_fewest_tokens_that_hold_its_share(seed, size, top_p, first_look):
    torch.manual_seed(seed)
    scores = torch.randn(4, size, dtype=torch.float64) * 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readout, "FIRST_LOOK", first_look)
        kept = readout.keep_nucleus(scores.clone(), top_p) > readout.NEVER
    for row, members in zip(scores.softmax(-1).tolist(), kept.tolist(), strict=True):
        inside = sorted((p for p, member in zip(row, members, strict=True) if member), reverse=True)
        outside = [p for p, member in zip(row, members, strict=True) if not member]
        assert inside and sum(inside) >= top_p - 1e-9
        assert max(outside, default=0) < inside[-1]
        assert len(inside) == 1 or sum(inside[:-1]) < top_p + 1e-9, "one fewer would do"


def test_what_is_drawn_predicted_and_told_lies_in_the_nucleus():
    torch.manual_seed(0)
    logits = torch.randn(300, 12) * 2
    uniforms, never = torch.rand(300, dtype=torch.float64), torch.zeros(300, dtype=torch.bool)
    head = Head(12)
    got = read(head, logits, torch.full((300,), 1.5), uniforms, never, ReadOptions(top_p=0.7, top=12))
    cut = torch.distributions.Categorical(logits=readout.keep_nucleus(logits / 1.5, 0.7))
    assert (cut.probs.gather(1, got.sampled[:, None]) > 0).all() and len(set(got.sampled.tolist())) > 5
    torch.testing.assert_close(got.entropy, cut.entropy(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(got.soft, cut.probs @ head.embedding, atol=1e-5, rtol=1e-4)
    assert got.top[:, 0].equal(got.argmax) and got.top_logprob[:, 0].allclose(got.logprob)
    assert got.top_logprob.exp().sum(-1).allclose(torch.ones(300)), "all that is left of the distribution"
    plain = read(head, logits, torch.full((300,), 1.5), uniforms, never)
    assert plain.top.shape == (300, 0) and (plain.entropy >= got.entropy - 1e-5).all()


def test_greedy_positions_take_the_argmax():
    logits = torch.randn(50, 9)
    greedy = torch.arange(50) % 2 == 0
    got = read(Head(9), logits, torch.full((50,), 5.0), torch.rand(50, dtype=torch.float64), greedy)
    assert got.sampled[greedy].equal(got.argmax[greedy]) and not got.sampled.equal(got.argmax)


def test_samples_follow_the_distribution():
    probabilities = torch.tensor([0.5, 0.0, 0.3, 0.2]).repeat(100_000, 1)
    tokens = inverse_cdf(probabilities, Noise(0, 0).uniforms(1, 1, 100_000))
    share = tokens.bincount(minlength=4) / 100_000
    assert torch.allclose(share, probabilities[0], atol=0.006) and share[1] == 0
    edges = inverse_cdf(torch.tensor([[0.25, 0.75], [1.0, 0.0]]), torch.tensor([0.25, 1 - 1e-16], dtype=torch.float64))
    assert edges.tolist() == [1, 0]


@settings(deadline=None)
@given(st.lists(st.floats(0, 3), min_size=1, max_size=20), st.floats(0.01, 3))
def test_entropy_bound_accepts_by_its_definition(entropies, bound):
    n = len(entropies)
    prediction = prediction_of(torch.randn(n, 7))
    prediction.entropy = torch.tensor(entropies, dtype=torch.float64)
    canvas = torch.zeros(n, dtype=torch.long)
    tokens, accepted = EntropyBound(bound)(canvas, prediction, context())
    order = np.argsort(np.array(entropies), kind="stable")
    total, expected = 0.0, np.zeros(n, bool)
    for i in order:
        assume(abs(total - bound) > 1e-9)  # at the bound itself rounding decides
        expected[i] = total <= bound
        total += entropies[i]
    # Equal entropies may be taken in either order: compare the entropies accepted.
    assert np.allclose(np.sort(prediction.entropy[accepted]), np.sort(np.array(entropies)[expected]))
    assert tokens[accepted].equal(prediction.sampled[accepted])


def test_rejected_positions_get_fresh_noise():
    prediction = prediction_of(torch.zeros(1000, 7))  # entropy log 7 each: only the first is accepted
    tokens, accepted = EntropyBound(0.1)(torch.zeros(1000, dtype=torch.long), prediction, context())
    assert accepted.sum() == 1
    counts = tokens[~accepted].bincount(minlength=7).float()
    assert (counts / counts.sum() - 1 / 7).abs().max() < 0.05


def test_confidence_always_accepts_the_surest():
    logits = torch.tensor([[0.0, 0.1], [0.0, 3.0], [0.0, 1.0]])
    prediction = prediction_of(logits)
    assert Confidence(0.9)(torch.zeros(3, dtype=torch.long), prediction, context())[1].tolist() == [False, True, False]
    assert Confidence(0.999)(torch.zeros(3, dtype=torch.long), prediction, context())[1].tolist() == [
        False,
        True,
        False,
    ]
    assert Confidence(0.7)(torch.zeros(3, dtype=torch.long), prediction, context())[1].tolist() == [False, True, True]


def test_fixed_k_keeps_more_of_the_surest_each_step():
    torch.manual_seed(0)
    prediction = prediction_of(torch.randn(10, 7))
    canvas = torch.zeros(10, dtype=torch.long)
    counts = [int(FixedK()(canvas, prediction, context(step, 4))[1].sum()) for step in range(1, 5)]
    assert counts == [3, 5, 8, 10]
    assert int(FixedK(2)(canvas, prediction, context(3, 4))[1].sum()) == 6
    _, accepted = FixedK(1)(canvas, prediction, context(1, 4))
    assert accepted.nonzero().item() == prediction.logprob.argmax().item()


def exact_reverse(clean: torch.Tensor, old: int, level: float, next_level: float) -> torch.Tensor:
    """p(z' | z) by Bayes from the forward process, marginalised over p(x | z) = `clean` [V]."""
    size = len(clean)
    uniform = torch.full((size, size), 1 / size, dtype=torch.float64)
    forward = lambda keep: keep * torch.eye(size, dtype=torch.float64) + (1 - keep) * uniform  # noqa: E731
    to_next = forward(1 - next_level)  # [x, z']
    onward = forward((1 - level) / (1 - next_level))  # [z', z]
    joint = to_next * onward[:, old][None]  # [x, z']
    return clean @ (joint / joint.sum(1, keepdim=True))


@pytest.mark.parametrize(("step", "steps"), [(1, 4), (2, 4), (3, 4), (4, 4), (3, 10)])
@pytest.mark.parametrize("old", [0, 3])
def test_ancestral_steps_follow_the_exact_posterior(step, steps, old):
    size, n = 5, 200_000
    logits = torch.tensor([2.0, 0.5, 0.0, 1.0, -1.0])
    where = StepContext(Noise(3, 1), step, steps, size)
    prediction = prediction_of(logits.repeat(n, 1), Noise(9, 9).uniforms(1, 1, n))
    tokens, _ = Ancestral()(torch.full((n,), old), prediction, where)
    expected = exact_reverse(logits.double().softmax(0), old, where.level, where.next_level)
    share = tokens.bincount(minlength=size).double() / n
    assert (share - expected).abs().max() < 4 * math.sqrt(0.25 / n)


@pytest.mark.parametrize("sampler", [EntropyBound(2.0), Confidence(0.3), FixedK(), FixedK(2), Ancestral()])
def test_several_canvases_go_their_own_ways(sampler):
    """Each at its own step, with its own random numbers, as if it were alone."""
    torch.manual_seed(4)
    canvases, steps = torch.randint(7, (3, 20)), torch.tensor([1, 3, 4])
    flat = prediction_of(torch.randn(60, 7) * 3)
    together = Prediction(**{name: x.unflatten(0, (3, 20)) for name, x in vars(flat).items()})
    noise = NoiseOfSeveral((0, 1, 2), 1)
    found = sampler(canvases, together, StepContext(noise, steps[:, None].double(), 4, 7))
    for row in range(3):
        alone = Prediction(**{name: x[row] for name, x in vars(together).items()})
        expected = sampler(canvases[row], alone, StepContext(Noise(row, 1), int(steps[row]), 4, 7))
        assert all(x[row].equal(y) for x, y in zip(found, expected, strict=True))


def test_stop_needs_stability_and_confidence():
    rule = StableAndConfident(2, 0.01)
    a, b = torch.tensor([1, 2]), torch.tensor([1, 3])
    sure, unsure = torch.tensor([0.001, 0.002]), torch.tensor([0.0, 0.1])
    assert rule([a, a, a], sure)
    assert not rule([a, a], sure) and not rule([b, a, a], sure) and not rule([a, a, a], unsure)
    assert StableAndConfident(0, 0.01)([a], sure)


@pytest.mark.parametrize(
    "option",
    [
        dict(max_new_tokens=0),
        dict(max_new_tokens=-1),
        dict(steps=0),
        dict(steps=2.5),
        dict(seed=-1),
        dict(seed=2**64),
        dict(mode="fast"),
        dict(temperature=-0.1),
        dict(temperature=float("nan")),
        dict(t_min=0),
        dict(entropy_bound=0),
        dict(colour="red"),
    ],
)
def test_options_out_of_range_are_refused(option):
    with pytest.raises(InputError) as caught:
        Decoding().with_options(**option)
    assert "\n" not in str(caught.value)
