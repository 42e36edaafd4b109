"""The same answers on a GPU: against transformers, against the CPU, and twice in a row. Skipped where there is none.

Every check takes its device, so that it can be called with "cpu" too.
"""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import gguf
import pytest
import torch
from reference import build, new_cache, ours
from torch import Tensor
from training import VOCABULARY, WIDTH, random_batch, tiny_model

import diffusiongemma as dg
from diffusiongemma.kernels import experts as experts_module
from diffusiongemma.kernels.experts import expert_mlp, grouped_expert_mlp, sorted_expert_mlp
from diffusiongemma.model.cache import KVCache
from diffusiongemma.train.objective import Draw, Objective, loss
from diffusiongemma.weights.checkpoint import load_model
from diffusiongemma.weights.packed import Blocks, fp8, int4, int8

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
MANY_EXPERTS = dict(num_experts=16, top_k_experts=3)  # the other forms of the expert product


@pytest.fixture(autouse=True)
def full_precision():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")  # no TF32
    yield
    torch.set_float32_matmul_precision(before)


def relative(a: Tensor, b: Tensor) -> float:
    return float((a.cpu().float() - b.cpu().float()).norm() / b.cpu().float().norm())


# --- against transformers -------------------------------------------------------------------------------------------


def placed(reference, device, dtype):
    """The reference in `dtype`, but for its inverse frequencies, which `.to(dtype)` would round too."""
    reference = copy.deepcopy(reference).to(device)
    scalars = [buffer for name, buffer in reference.named_buffers() if name.endswith("layer_scalar")]
    for tensor in [*reference.parameters(), *scalars]:
        tensor.data = tensor.data.to(dtype)
    return reference


@torch.no_grad()
def of_reference(reference, ids, canvas, logits) -> list[Tensor]:
    """Encoder states, logits of a first and of a self-conditioned step, soft embedding."""
    cache = new_cache(reference)
    encoded = reference.model.encoder(input_ids=ids, past_key_values=cache).last_hidden_state[0]
    steps = [
        reference(decoder_input_ids=canvas, past_key_values=cache, self_conditioning_logits=previous).logits
        for previous in (None, logits)
    ]
    embeddings = reference.model.decoder.embed_tokens.weight
    soft = logits.softmax(-1).to(embeddings.dtype) @ embeddings * embeddings.shape[1] ** 0.5
    return [encoded, *steps, soft]


@torch.no_grad()
def of_model(model, ids, canvas, logits) -> list[Tensor]:
    row = model.new_sequence()
    encoded = model.encode_rows([row], [model.backbone.embed(ids[0])])
    soft = model.soft_embedding(logits)
    steps = [model.denoise(canvas, KVCache([row]), previous) for previous in (None, soft)]
    return [encoded, *steps, soft]


def both_sides(device, dtype, directory: Path, seed: int, **text) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """What our model and transformers' say on `device` in `dtype`, and transformers' on the CPU in float32."""
    reference = build(seed, 8, **text)
    ours(reference, directory)
    given = torch.randint(0, 97, (1, 40)), torch.randint(0, 97, (1, 8)), torch.randn(1, 8, 101)
    there = [x.to(device) for x in given]
    mine = of_model(load_model(directory, dtype, device), *there)
    return mine, of_reference(placed(reference, device, dtype), *there), of_reference(reference, *given)


def check_float32(device, directory, seed, **text):
    mine, theirs, exact = both_sides(device, torch.float32, directory, seed, **text)
    for a, b, c in zip(mine, theirs, exact, strict=True):
        assert a.device.type == torch.device(device).type
        torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-4)
        torch.testing.assert_close(a.cpu(), c, atol=2e-4, rtol=1e-4)


def check_bfloat16(device, directory, **text):
    """No further from the exact answer than transformers in bfloat16, which sends some tokens to other experts too."""
    errors = []
    for seed in range(8):
        mine, theirs, exact = both_sides(device, torch.bfloat16, directory / str(seed), seed, **text)
        errors.append([(relative(a, c), relative(b, c)) for a, b, c in zip(mine, theirs, exact, strict=True)])
    for ours_error, their_error in torch.tensor(errors).mean(0).tolist():
        assert ours_error < 1.5 * their_error + 0.02, (ours_error, their_error)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("text", [{}, MANY_EXPERTS], ids=["few experts", "many experts"])
def test_float32_equals_transformers(text, seed, tmp_path):
    check_float32("cuda", tmp_path, seed, **text)


@pytest.mark.parametrize("text", [{}, MANY_EXPERTS], ids=["few experts", "many experts"])
def test_bfloat16_is_as_near_as_transformers(text, tmp_path):
    check_bfloat16("cuda", tmp_path, **text)


# --- the expert product ---------------------------------------------------------------------------------------------


def experts_case(device, tokens: int, count: int, k: int, dim: int, width: int) -> tuple[Tensor, ...]:
    """x [N, D], weights and experts [N, k], gate_up [E, 2W, D], down [E, D, W], in bfloat16; a third of the experts
    is not used."""
    generator = torch.Generator(device).manual_seed(0)
    used = torch.rand(tokens, count - count // 3, generator=generator, device=device).topk(k)
    x = torch.randn(tokens, dim, generator=generator, device=device).bfloat16()
    up = torch.randn(count, 2 * width, dim, generator=generator, device=device, dtype=torch.bfloat16) * dim**-0.5
    down = torch.randn(count, dim, width, generator=generator, device=device, dtype=torch.bfloat16) * width**-0.5
    return x, used.values.softmax(-1), used.indices, up, down


def check_grouped_experts(device, *size: int):
    """Nearer to float32 than the sorted form or about as near; gradients likewise."""
    x, weights, chosen, up, down = experts_case(device, *size)

    def results(form, dtype) -> list[Tensor]:
        inputs = x.to(dtype).requires_grad_(), weights.clone().requires_grad_()
        out = form(*inputs, chosen, up.to(dtype), down.to(dtype))
        return [out, *torch.autograd.grad(out.float().square().sum(), inputs)]

    exact = results(sorted_expert_mlp, torch.float32)
    mine, plain = (results(form, torch.bfloat16) for form in (grouped_expert_mlp, sorted_expert_mlp))
    for a, b, c in zip(mine, plain, exact, strict=True):
        assert relative(a, c) < 1.2 * relative(b, c) + 1e-3


SIZES = [(1, 24, 4, 64, 48), (200, 24, 4, 64, 48), (1, 128, 8, 2816, 704), (256, 128, 8, 2816, 704)]
hopper = pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_capability() < (9, 0), reason="needs compute capability 9.0"
)


@hopper
@pytest.mark.parametrize("size", SIZES)
def test_grouped_experts_equal_sorted_ones(size):
    check_grouped_experts("cuda", *size)


@hopper
@torch.no_grad()
def test_grouped_experts_are_chosen_and_wait_for_nothing(monkeypatch):
    case = experts_case("cuda", 256, 128, 8, 256, 64)
    monkeypatch.setattr(experts_module, "sorted_expert_mlp", None)
    expert_mlp(*case)  # whatever is set up once
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        expert_mlp(*case)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@hopper
@torch.no_grad()
def test_grouped_experts_give_the_same_twice():
    case = experts_case("cuda", 256, 128, 8, 2816, 704)
    assert torch.equal(grouped_expert_mlp(*case), grouped_expert_mlp(*case))


@hopper
@pytest.mark.xfail(reason="the kernel may choose its tiles by the number of rows", strict=False)
@torch.no_grad()
def test_grouped_experts_round_a_row_alike_in_any_batch():
    x, weights, chosen, *held = experts_case("cuda", 256, 128, 8, 2816, 704)
    whole = grouped_expert_mlp(x, weights, chosen, *held)
    for rows in (slice(0, 1), slice(7, 9), slice(20, 150)):
        assert torch.equal(grouped_expert_mlp(x[rows], weights[rows], chosen[rows], *held), whole[rows])


# --- whole ----------------------------------------------------------------------------------------------------------


def check_generation(device, directory: Path, dtype, mode: str):
    model = dg.load(directory, device=device, dtype=dtype)
    first, second = (model.generate("Once upon a time", seed=7, mode=mode, max_new_tokens=40) for _ in range(2))
    assert first.tokens and first.tokens == second.tokens and first.text == second.text
    assert model.generate("Once upon a time", seed=8, mode="diffusion").tokens != first.tokens


@pytest.mark.parametrize("mode", ["diffusion", "ar"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_seed_gives_the_same_text_twice(dtype, mode, tiny_directory):
    check_generation("cuda", tiny_directory, dtype, mode)


def check_training_step(device, **changes):
    """Loss and gradients on `device` equal those on the CPU, of self-conditioned canvases."""
    generator = torch.Generator().manual_seed(0)
    objective = Objective(self_conditioning=0.5, draws=2)
    batch = random_batch(generator)
    draw = Draw.sample(len(batch.canvas), WIDTH, VOCABULARY, objective, generator)
    there, here = tiny_model(**changes).to(device), tiny_model(**changes)
    found = loss(there, batch.to(there.device), draw.to(there.device), objective)
    expected = loss(here, batch, draw, objective)
    torch.testing.assert_close(found.total.cpu(), expected.total, atol=1e-4, rtol=1e-4)
    found.total.backward()
    expected.total.backward()
    for (name, a), b in zip(there.named_parameters(), here.parameters(), strict=True):
        if b.grad is not None and b.grad.norm() > 1e-5:
            assert relative(a.grad, b.grad) < 1e-2, name


@pytest.mark.parametrize("changes", [{}, dict(num_experts=8, top_k_experts=2)], ids=["few experts", "many experts"])
def test_a_training_step_equals_that_of_the_cpu(changes):
    check_training_step("cuda", **changes)


# --- packed weights -------------------------------------------------------------------------------------------------


def moved(packed, device):
    return dataclasses.replace(
        packed,
        **{name: x.to(device) for name, x in vars(packed).items() if isinstance(x, Tensor)},
    )


def test_packed_weights_unpack_alike(device="cuda"):
    weight = torch.randn(6, 64, generator=torch.Generator().manual_seed(0))
    quantised = torch.from_numpy(gguf.quantize(weight.numpy(), gguf.GGMLQuantizationType.Q8_0))
    for packed in (int4(weight), int8(weight), fp8(weight), Blocks("Q8_0", quantised)):
        there = moved(packed, device).unpack()
        assert there.device.type == device and torch.equal(there.cpu(), packed.unpack())
