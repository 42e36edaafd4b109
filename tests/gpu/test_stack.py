"""The kernels for GPUs against the plain modules: on a GPU where there is one, else in Triton's interpreter."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from reference import build, ours
from torch import Tensor

pytest.importorskip("triton", reason="needs triton: pip install -e '.[dev]' on Linux")

import diffusiongemma as dg
from diffusiongemma.diffusion.readout import ReadOptions, read
from diffusiongemma.gpu import SWITCH
from diffusiongemma.gpu.forms import FP8, HALVES, PLAIN, Ready, gated, prepare
from diffusiongemma.gpu.passes import Passes
from diffusiongemma.gpu.products import Product
from diffusiongemma.gpu.routing import by_expert, choose
from diffusiongemma.kernels.experts import sorted_expert_mlp
from diffusiongemma.weights.packed import FP4, Groups, Packed, Plain, fp8, int4, int8
from diffusiongemma.weights.packed_modules import can_be_packed, on_device, put
from diffusiongemma.weights.schemes import Scheme

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = [pytest.mark.filterwarnings("ignore::RuntimeWarning")]
# Widths that do not fill blocks: codes of 4 bits are masked in twos.
TEXT = dict(
    hidden_size=96, intermediate_size=64, num_experts=6, top_k_experts=2, moe_intermediate_size=32,
    num_hidden_layers=2, layer_types=["sliding_attention", "full_attention"],
)  # fmt: skip


@pytest.fixture(autouse=True)
def full_precision():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def nvfp4(weight: Tensor) -> Groups:
    """Codes of E2M1 with scales of E4M3 for 16 inputs and a factor for all."""
    groups = weight.unflatten(-1, (-1, 16))
    factor = float(weight.abs().max()) / 6 / 448
    scales = (groups.abs().amax(-1) / 6 / factor).to(torch.float8_e4m3fn)
    values = groups / (scales.float() * factor)[..., None]
    codes = (values[..., None] - torch.tensor(FP4)).abs().argmin(-1).to(torch.uint8).flatten(-2)
    return Groups("fp4", codes[..., ::2] | codes[..., 1::2] << 4, scales, factor=factor)


def uint8(weight: Tensor) -> Groups:
    """With offsets, as MLX has them."""
    groups = weight.unflatten(-1, (-1, 32))
    low, high = groups.amin(-1), groups.amax(-1)
    scales = (high - low) / 255
    codes = ((groups - low[..., None]) / scales[..., None]).round().to(torch.uint8).flatten(-2)
    return Groups("uint8", codes, scales, low)


LAYOUTS = {
    "plain": Plain,
    "int4": int4,
    "int4 with offsets": lambda w: int4(w, symmetric=False),
    "int4 in groups of 16": lambda w: int4(w, 16),
    "int8": int8,
    "int8 in groups": lambda w: int8(w, 32),
    "uint8": uint8,
    "fp4": nvfp4,
}


def there(weight: Packed) -> Packed:
    return on_device(weight, torch.device(DEVICE))


def relative(a: Tensor, b: Tensor) -> float:
    return float((a.cpu().float() - b.cpu().float()).norm() / b.cpu().float().norm())


# --- products -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 20, 70])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_product_is_that_of_the_unpacked_weight(layout, rows):
    packed, x = LAYOUTS[layout](drawn(72, 96)), drawn(rows, 96, seed=1)
    product = Product(there(packed))
    out = product(prepare(x.to(DEVICE), product.form))
    assert relative(out, x @ packed.unpack().T) < 1e-5


def test_a_product_of_e4m3_rounds_its_rows_to_it():
    packed, x = fp8(drawn(80, 96)), drawn(20, 96, seed=1)
    product = Product(there(packed))
    assert product.form == FP8
    exact = x @ packed.unpack().T
    assert 1e-4 < relative(product(prepare(x.to(DEVICE), FP8)), exact) < 0.06
    wide = Product(there(packed), eight_bits=False)
    assert relative(wide(prepare(x.to(DEVICE), wide.form)), exact) < 1e-5


@pytest.mark.parametrize("layout", [*LAYOUTS, "fp8"])
def test_experts_are_those_of_the_unpacked_weights(layout):
    make = (LAYOUTS | {"fp8": fp8})[layout]
    up, down, x = make(drawn(5, 64, 96)), make(drawn(5, 96, 32, seed=1)), drawn(40, 96, seed=2)
    shares, chosen = choose(drawn(40, 5, seed=3).to(DEVICE), torch.ones(5, device=DEVICE), 2)
    chosen[chosen == 3] = 4 if int(chosen[0, 0]) != 4 else 3  # perhaps one that nobody uses
    first, second = Product(there(up)), Product(there(down))
    order, starts = by_expert(chosen, 5)
    hidden = first.of_experts(prepare(x.to(DEVICE), first.form), order, starts, gather=2)
    parts = second.of_experts(gated(hidden, second.form), order, starts, scatter=True).view(40, 2, 96)
    out = (parts.float() * shares[..., None]).sum(1)
    exact = sorted_expert_mlp(x, shares.cpu(), chosen.cpu().long(), up.unpack(), down.unpack())
    assert relative(out, exact) < (0.1 if layout == "fp8" else 1e-5)


@pytest.mark.parametrize("layout", ["plain", "int8", "fp8"])
def test_the_mean_row_is_that_of_the_unpacked_weight(layout):
    packed, shares = (LAYOUTS | {"fp8": fp8})[layout](drawn(300, 96)), drawn(20, 300, seed=1).softmax(-1)
    product = Product(there(packed))
    assert product.can_mix and relative(product.mean(shares.to(DEVICE)), shares @ packed.unpack()) < 1e-5
    assert not Product(there(int4(drawn(300, 96)))).can_mix


def test_layouts_without_a_kernel_are_refused():
    for packed in (int4(drawn(4, 96), 12), dataclasses.replace(uint8(drawn(4, 96)), factor=2.0)):
        with pytest.raises(ValueError):
            Product(packed)


# --- rows -----------------------------------------------------------------------------------------------------------


def test_forms_of_rows():
    x = drawn(5, 96).to(DEVICE)
    assert prepare(x, PLAIN).rows is x
    halves = prepare(x, HALVES).rows
    assert torch.equal(halves, torch.cat([x[:, ::2], x[:, 1::2]], dim=1))
    eight: Ready = prepare(x, FP8)
    assert eight.scales is not None and relative(eight.rows.float() * eight.scales[:, None], x) < 0.07


def test_the_slots_of_each_expert_keep_their_order():
    shares, chosen = choose(drawn(50, 7).to(DEVICE), drawn(7, seed=1).to(DEVICE), 3)
    best = drawn(50, 7).softmax(-1).topk(3)
    assert torch.equal(chosen.cpu().long(), best.indices)
    expected = best.values / best.values.sum(-1, keepdim=True) * drawn(7, seed=1)[best.indices]
    torch.testing.assert_close(shares.cpu(), expected)
    order, starts = by_expert(chosen, 7)
    assert torch.equal(order.cpu().long(), chosen.cpu().flatten().argsort(stable=True))
    counts = torch.bincount(chosen.cpu().flatten(), minlength=7)
    assert starts.tolist() == [0, *counts.cumsum(0).tolist()]


# --- whole passes ---------------------------------------------------------------------------------------------------


def model_of(directory, **text):
    return ours(build(0, 8, **(TEXT | text)), directory).to(DEVICE)


def packed_model(directory, scheme: str, dtype: torch.dtype | None = None, **text):
    model = model_of(directory, **text).to(dtype)
    put(model, {
        name: there(packed) for name, weight in model.named_parameters()
        if can_be_packed(model, name) and isinstance(packed := Scheme(scheme).packed(name, weight.data.cpu()), Packed)
    })  # fmt: skip
    return model


def tokens(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 97, shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def passes(model) -> list[Tensor]:
    """Hidden states of prompts, of canvases of several widths, with and without soft embeddings, and of tokens one at a
    time, past the window's end."""
    caches = [model.new_sequence() for _ in range(3)]
    found = [model.encode_rows(caches, [model.backbone.embed(tokens(n, seed=n)) for n in (6, 20, 1)])]
    canvases, softs = [tokens(4), tokens(4, seed=1), tokens(3, seed=2)], [None, 0.1 * drawn(4, 96).to(DEVICE), None]
    found.append(model.denoise_rows(caches, canvases, softs))
    for step in range(3):
        found.append(model.encode_rows(caches, list(model.backbone.embed(tokens(3, seed=step)).split(1))))
    found.append(model.denoise_rows(caches[:1], canvases[:1], softs[:1]))
    assert [row.length for row in caches] == [9, 23, 4]
    return found


def twice(model) -> tuple[list[Tensor], list[Tensor]]:
    plain = passes(model)
    model.backbone.fast = Passes(model, capture=DEVICE == "cuda")
    return plain, passes(model)


@pytest.mark.parametrize("scheme", [None, "int4"])
def test_passes_are_those_of_the_modules(scheme, tmp_path):
    model = model_of(tmp_path) if scheme is None else packed_model(tmp_path, scheme)
    for a, b in zip(*twice(model), strict=True):
        torch.testing.assert_close(b, a, atol=5e-4, rtol=1e-3)


def test_passes_of_weights_in_e4m3_are_near_those_of_the_modules(tmp_path):
    """The rows are rounded to E4M3 too; every expert is used, so that none sends a token elsewhere."""
    plain, fast = twice(packed_model(tmp_path, "fp8", torch.bfloat16 if DEVICE == "cuda" else None, num_experts=2))
    errors = [relative(b, a) for a, b in zip(plain, fast, strict=True)]
    assert 1e-4 < max(errors) < 0.3


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
@pytest.mark.parametrize("scheme", [None, "int4"])
def test_passes_in_bfloat16_are_as_near_as_those_of_the_modules(scheme, tmp_path):
    """To those in float32, of which no token goes to other experts."""

    def found(dtype):
        text = dict(num_experts=2)
        model = (
            model_of(tmp_path, **text).to(dtype) if scheme is None else packed_model(tmp_path, scheme, dtype, **text)
        )
        return twice(model)

    exact, _ = found(torch.float32)
    for a, plain, fast in zip(exact, *found(torch.bfloat16), strict=True):
        assert relative(fast, a) < 1.5 * relative(plain, a) + 0.01


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
def test_a_model_on_a_gpu_is_run_by_captured_passes(tiny_directory, monkeypatch):
    monkeypatch.setenv(SWITCH, "1")
    model = dg.load(tiny_directory, device="cuda", dtype=torch.bfloat16)
    fast = model.network.backbone.fast
    assert isinstance(fast, Passes)
    texts = [
        model.generate("Once upon a time", seed=7, mode=mode, max_new_tokens=20).text for mode in ("diffusion", "ar")
    ]
    assert {key[0] for key in fast.graphs} == {"denoise", "encode", "read"}
    model.network.backbone.fast = None
    assert all(texts) and model.generate("Once upon a time", seed=7, max_new_tokens=20).tokens


@pytest.mark.parametrize("scheme", [None, "int8"])
def test_reading_is_that_of_the_plain_head(scheme, tmp_path):
    model = model_of(tmp_path) if scheme is None else packed_model(tmp_path, scheme)
    hidden, temperature = drawn(20, 96).to(DEVICE), torch.linspace(0.3, 1, 20).to(DEVICE)
    uniforms, greedy = torch.rand(20, generator=torch.Generator().manual_seed(1)).to(DEVICE), torch.arange(20) % 5 == 0
    given = (hidden, temperature, uniforms, greedy.to(DEVICE))
    plain = [read(model.backbone, *given, ReadOptions(want_soft=want)) for want in (True, False)]
    model.backbone.fast = Passes(model, capture=DEVICE == "cuda")
    for want, one in zip((True, False), plain, strict=True):
        other = read(model.backbone, *given, ReadOptions(want_soft=want))
        for field in dataclasses.fields(one):
            a, b = getattr(one, field.name), getattr(other, field.name)
            assert a.dtype == b.dtype, field.name
            torch.testing.assert_close(b, a, atol=2e-5, rtol=1e-4, msg=field.name)


def test_uniforms_at_both_ends_draw_tokens_that_can_be(tmp_path):
    model = model_of(tmp_path)
    uniforms = torch.tensor([0.0, 1 - 2**-24] * 5, device=DEVICE)
    given = 30 * drawn(10, 96).to(DEVICE), torch.full((10,), 0.2, device=DEVICE), uniforms, uniforms > 2
    plain = read(model.backbone, *given)
    model.backbone.fast = Passes(model, capture=DEVICE == "cuda")
    found = read(model.backbone, *given)
    assert torch.equal(found.sampled[::2], plain.sampled[::2])
    assert (found.sampled < 101).all() and (found.sampled_logprob > -100).all()
