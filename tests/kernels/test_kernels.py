"""What a row comes to does not depend on the rows beside it, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import diffusiongemma as dg
from diffusiongemma.engine.engine import Engine
from diffusiongemma.kernels import native
from diffusiongemma.kernels.experts import expert_mlp, grouped_expert_mlp, sorted_expert_mlp
from diffusiongemma.kernels.gelu import gelu
from diffusiongemma.kernels.rows import filled
from diffusiongemma.model import rope
from diffusiongemma.model.layers import RMSNorm
from diffusiongemma.model.rope import rotate


@pytest.fixture(params=[1, 2, 3, 16])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [16, 48, 64, 100, 256])
@pytest.mark.parametrize("half", [False, True])
def test_gelu_rounds_a_row_alike_in_any_batch(threads, width, dtype, half):
    generator = torch.Generator().manual_seed(width)
    x = torch.randn(700, 2 * width, generator=generator).to(dtype)
    x = x.chunk(2, -1)[1] if half else x[:, :width].contiguous()
    alone = torch.cat([gelu(row[None]) for row in x])
    assert all(torch.equal(gelu(x[first:last]), alone[first:last]) for first, last in [(0, 700), (3, 260), (1, 14)])
    torch.testing.assert_close(alone, F.gelu(x, approximate="tanh"), atol=1e-6, rtol=1e-6)


def test_products_round_a_row_alike_in_any_batch(threads):
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(301, 128, generator=generator), torch.randn(96, 128, generator=generator)
    whole = F.linear(filled(x), weight)
    for first, last in [(0, 1), (7, 9), (5, 10), (20, 39), (100, 151), (0, 300)]:
        alone = F.linear(filled(x[first:last]), weight)[: last - first]
        assert torch.equal(alone, whole[first:last])


def test_experts_round_a_row_alike_in_any_batch(threads):
    generator = torch.Generator().manual_seed(0)
    x, weights = torch.randn(200, 32, generator=generator), torch.rand(200, 4, generator=generator)
    experts = torch.stack([torch.randperm(24, generator=generator)[:4] for _ in x])
    up, down = torch.randn(24, 96, 32, generator=generator), torch.randn(24, 32, 48, generator=generator)
    whole = expert_mlp(x, weights, experts, up, down)
    for first, last in [(0, 1), (7, 9), (20, 39), (100, 200)]:
        rows = slice(first, last)
        assert torch.equal(expert_mlp(x[rows], weights[rows], experts[rows], up, down), whole[rows])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("tokens", [1, 5, 200])
def test_grouped_experts_equal_sorted_ones(tokens, dtype, tolerance):
    """Also where some experts are not hit, and in the gradients of what goes through them."""
    generator = torch.Generator().manual_seed(tokens)
    x = torch.randn(tokens, 32, generator=generator).to(dtype).requires_grad_()
    weights = torch.rand(tokens, 4, generator=generator).requires_grad_()
    experts = torch.stack([torch.randperm(20, generator=generator)[:4] for _ in x])
    up = torch.randn(24, 96, 32, generator=generator).to(dtype) / 6
    down = torch.randn(24, 32, 48, generator=generator).to(dtype) / 7
    results = []
    for form in (grouped_expert_mlp, sorted_expert_mlp):
        out = form(x, weights, experts, up, down)
        results.append((out, *torch.autograd.grad(out.float().square().sum(), (x, weights))))
    for mine, expected in zip(*results, strict=True):
        assert mine.dtype == expected.dtype
        assert (mine - expected).norm() < tolerance * expected.norm()


@pytest.mark.parametrize("mode", ["diffusion", "ar"])
def test_short_prompts_have_the_same_probabilities_in_company(tiny_directory, mode):
    """Prompts, canvases and tokens of so few rows that a product of them alone may round differently."""
    model = dg.load(tiny_directory)
    prompts = ["a", "is 42.", "word " * 80, "on", "I", "cat " * 300]
    requests = [
        replace(model.request(p, mode=mode, seed=i, max_new_tokens=3 + 5 * i, steps=6), id=i)
        for i, p in enumerate(prompts)
    ]
    together = Engine(model.network, model.tokenizer, 4).results(requests)
    for request, result in zip(requests, together, strict=True):
        (alone,) = Engine(model.network, model.tokenizer, 4).results([request])
        assert (alone.tokens, alone.logprobs) == (result.tokens, result.logprobs)


@pytest.fixture
def with_kernels():
    if native.kernels()[0] is None:
        pytest.skip("needs the compiled kernels")


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("shape", [(1, 704), (37, 2816), (300, 4, 48)])
def test_norms_of_bfloat16_are_those_of_float32(with_kernels, shape, scaled):
    generator = torch.Generator().manual_seed(1)
    norm = RMSNorm(shape[-1], 1e-6, scaled).bfloat16().requires_grad_(False)
    if scaled:
        norm.weight.copy_(torch.randn(shape[-1], generator=generator))
    x = (torch.randn(shape, generator=generator) * 3).bfloat16()
    weight = norm.weight.double() if scaled else torch.ones(shape[-1], dtype=torch.double)
    exact = x.double() * (x.double().square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight
    found = norm(x)
    assert native.takes(torch.bfloat16, x) and found.dtype == torch.bfloat16
    assert ((found.double() - exact).abs() <= exact.abs() * (2**-8 + 1e-6)).all()  # the nearest, or beside it
    assert (found == exact.bfloat16()).double().mean() > 0.999
    assert torch.equal(norm(x[:1]), found[:1])
    x[0, ..., 3] = torch.nan
    assert norm(x)[0].isnan().any() and torch.equal(norm(x)[1:], found[1:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_are_added_to_what_they_stand_behind(with_kernels, dtype):
    generator = torch.Generator().manual_seed(4)
    x, behind = (torch.randn(300, 704, generator=generator).to(dtype) for _ in range(2))
    norm = RMSNorm(704, 1e-6).to(dtype).requires_grad_(False)
    norm.weight.copy_(torch.randn(704, generator=generator))
    plain = norm(x, behind)
    norm.kernel_dtypes = {dtype}
    found = norm(x, behind)
    assert torch.equal(found, behind + norm(x)) and torch.equal(norm(x[:1], behind[:1]), found[:1])
    torch.testing.assert_close(found, plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 2, 16), (5, 3, 48), (300, 4, 256)])
def test_rotations_round_as_torch_does(with_kernels, shape, dtype, monkeypatch):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(shape, generator=generator).to(dtype)
    angles = torch.randn(shape[0], shape[2], generator=generator) * 9
    rotation = (angles.cos().to(dtype), angles.sin().to(dtype))
    found = rotate(x, rotation)
    monkeypatch.setattr(rope, "takes", lambda *_: False)
    assert torch.equal(found, rotate(x, rotation))


@pytest.mark.parametrize("width", [1, 7, 8, 1279])
def test_softmax_of_bfloat16_is_that_of_float32(with_kernels, width):
    generator = torch.Generator().manual_seed(3)
    scores = (torch.randn(5, 90, width, generator=generator) * 6).bfloat16()
    scores[1, :, 1:] = -torch.inf  # masked but for one
    scores[2] = 1e4  # alike and large
    exact = scores.double().softmax(-1)
    found = native.softmax_in_place(scores.clone())
    assert ((found.double() - exact).abs() <= exact * (2**-8 + 1e-5) + 1e-37).all()
    assert torch.equal(native.softmax_in_place(scores[3, 5:6].clone()), found[3, 5:6])


def test_training_does_without_the_kernels(with_kernels):
    x = torch.randn(4, 32).bfloat16().requires_grad_()
    RMSNorm(32, 1e-6).bfloat16()(x).sum().backward()
    assert x.grad is not None and x.grad.shape == x.shape
    assert not native.takes(torch.bfloat16, torch.randn(4, 32)) and not native.takes(torch.bfloat16, x[:, ::2])
