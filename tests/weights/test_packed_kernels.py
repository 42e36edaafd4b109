"""The kernels for packed weights: each layout against its `unpack`, each set of instructions against the plain one."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from packed_layouts import LAYOUTS, random_blocks
from torch import nn

from diffusiongemma.kernels import build, native
from diffusiongemma.kernels.experts import sorted_expert_mlp
from diffusiongemma.kernels.native import kernels, read_in_place, rows_alone
from diffusiongemma.weights.packed import Blocks, Packed, Plain, Rows, Stack, fp8, int4, int8
from diffusiongemma.weights.packed_kernels import (
    Experts,
    Product,
    bytes_in_known_layout,
    can_multiply,
    in_known_layout,
)
from diffusiongemma.weights.packed_modules import PackedExperts, multiply_in_8_bits

pytestmark = pytest.mark.skipif(build.compiler() is None, reason="needs a C++ compiler")
ROUNDING = 0.012  # of a product whose activations have 8 bits, relative


@pytest.fixture(scope="module", autouse=True)
def built():
    if kernels()[0] is None:
        build.build()
        kernels.cache_clear()
    assert kernels()[0] is not None, kernels()[1]


HERE = [name for name in build.INSTRUCTION_SETS if native.NEEDS[name] <= native._processor()]
IN_WHOLE_NUMBERS = [name for name in HERE if name != "amx"]  # which multiplies bfloat16


def force(monkeypatch, name: str) -> None:
    """Have products use these instructions."""
    monkeypatch.setenv(native.VARIABLE, name)
    kernels.cache_clear()
    assert kernels()[1] == name, kernels()[1]


@pytest.fixture(params=HERE)
def instructions(request, monkeypatch):
    force(monkeypatch, request.param)
    yield
    monkeypatch.undo()
    kernels.cache_clear()


needs_amx = pytest.mark.skipif("amx" not in HERE, reason="no AMX on this processor")


def as_multiplied(weight: Packed) -> torch.Tensor:
    """In full, and for AMX rounded once."""
    full = weight.unpack()
    return full.bfloat16().float() if kernels()[1] == "amx" else full


@pytest.mark.parametrize("width", [256, 1280])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_product_is_that_of_the_unpacked_weight(layout, width, instructions):
    torch.manual_seed(0)
    weight: Packed = LAYOUTS[layout](torch.randn(43, width))
    x = torch.randn(300, width)
    assert can_multiply(weight)
    expected, found = x @ weight.unpack().T, Product(weight)(x)
    assert (found - expected).norm() < ROUNDING * expected.norm()
    # Whole numbers that 8 bits hold are multiplied without rounding but float32's.
    whole = torch.randint(-127, 128, (5, width)).float()
    whole[:, ::16] = 127
    expected = whole @ as_multiplied(weight).T
    assert (Product(weight)(whole) - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_rounding_leaves_can_be_multiplied_too(layout, instructions):
    torch.manual_seed(2)
    weight: Packed = LAYOUTS[layout](torch.randn(43, 512))
    x = torch.randn(30, 512) + 20 * torch.randn(512)  # much in common
    weight_in_full = as_multiplied(weight)
    expected, product = x @ weight_in_full.T, Product(weight, fine=True)
    assert (product(x) - expected).norm() < 1e-4 * (x.norm(dim=1) * weight_in_full.norm(dim=1).mean()).norm()
    assert torch.equal(product(x[3:4]), product(x)[3:4])


# Blocks of these two have 256 inputs.
ALIKE = [(x, n) for x in LAYOUTS for n in (512, 704, 768, 8448) if n % 256 == 0 or x[-1] != "K"]


@pytest.mark.parametrize("layout, width", ALIKE)
def test_a_row_is_alike_in_any_company(layout, width):
    torch.manual_seed(1)
    product = Product(LAYOUTS[layout](torch.randn(43, width)))
    x = torch.randn(270, width)
    whole = product(x)
    for first, last in ((0, 1), (1, 3), (4, 11), (250, 270)):
        assert torch.equal(product(x[first:last]), whole[first:last])


@pytest.mark.parametrize("layout, width", ALIKE)
def test_all_instructions_round_alike(layout, width, monkeypatch):
    torch.manual_seed(7)
    weight, x = LAYOUTS[layout](torch.randn(43, width)), torch.randn(285, width)
    found = {}
    for name in IN_WHOLE_NUMBERS:
        force(monkeypatch, name)
        found[name] = [Product(weight)(x[:rows]) for rows in (1, 3, 12, 17, 24, 285)]
        found[name] += [Product(weight, fine=True)(x[:rows]) for rows in (1, 3)]
    kernels.cache_clear()
    for name, products in found.items():
        assert all(map(torch.equal, products, found["plain"])), name


def test_experts_round_alike_with_all_instructions(monkeypatch):
    torch.manual_seed(8)
    gate_up, down = int4(torch.randn(6, 128, 96)), int8(torch.randn(6, 96, 64))
    x, weights = torch.randn(90, 96), torch.rand(90, 2)
    experts = torch.stack([torch.randperm(6)[:2] for _ in x])
    found = []
    for name in IN_WHOLE_NUMBERS:
        force(monkeypatch, name)
        found.append(Experts(gate_up, down)(x, weights, experts))
    kernels.cache_clear()
    assert all(torch.equal(one, found[0]) for one in found)


def test_norms_rotations_and_softmax_round_alike_with_all_instructions(monkeypatch):
    torch.manual_seed(9)
    x, weight, scores = torch.randn(70, 3, 48).bfloat16(), torch.randn(48).bfloat16(), torch.randn(33, 77).bfloat16()
    found = []
    for name in HERE:
        force(monkeypatch, name)
        turned = native.rotated(x, *torch.ones(2, 70, 48).bfloat16())
        normed = [native.rms_norm(a, b, 1e-6, a) for a, b in ((x, weight), (x.float(), weight.float()))]
        found.append((*normed, turned, native.softmax_in_place(scores.clone())))
    kernels.cache_clear()
    assert all(torch.equal(*pair) for one in found for pair in zip(one, found[0], strict=True))


@pytest.mark.parametrize("separate", [False, True])
def test_experts_are_the_sum_of_their_mlps(separate, instructions):
    torch.manual_seed(2)
    count, dim, width, chosen = 8, 96, 64, 3
    gate_up, down = int4(torch.randn(count, 2 * width, dim) / 10), int8(torch.randn(count, dim, width) / 8, 32)
    x, weights = torch.randn(37, dim), torch.rand(37, chosen)
    experts = torch.stack([torch.randperm(count - 1)[:chosen] for _ in range(37)])  # the last one is never hit
    packed: Packed = gate_up
    if separate:  # as files hold experts one by one, and gates apart
        packed = Rows((Stack(tuple(e[:width] for e in gate_up)), Stack(tuple(e[width:] for e in gate_up))))
    found = Experts(packed, down)(x, weights, experts)
    expected = sorted_expert_mlp(x, weights, experts, gate_up.unpack(), down.unpack())
    assert (found - expected).norm() < 2 * ROUNDING * expected.norm()
    part = slice(3, 9)
    assert torch.equal(Experts(packed, down)(x[part], weights[part], experts[part]), found[part])


@pytest.mark.parametrize(
    "layout", ["int4, groups of 32", "int8, a scale a row", "MLX, 8 bits", "Q4_K", "Q5_K", "Q6_K", "NVFP4"]
)
def test_a_mean_leaves_out_a_millionth(layout):
    torch.manual_seed(3)
    weight = LAYOUTS[layout](torch.randn(3000, 512))
    shares = (torch.randn(9, 3000) * torch.tensor([0.1, 1, 2, 4, 8, 8, 16, 16, 30])[:, None]).softmax(-1)
    shares[-1] = torch.eye(3000)[77]
    full, found = weight.unpack(), Product(weight).mean(shares)
    assert (found - shares @ full).abs().max() < 2e-6 * full.abs().max() + 1e-6 * full.std()
    torch.testing.assert_close(found[-1], full[77])
    assert torch.equal(Product(weight).mean(shares[2:4]), found[2:4])


def test_what_the_kernels_do_not_know_is_told():
    weight = torch.randn(20, 64)
    assert not any(map(can_multiply, (fp8(weight), Plain(weight), int4(torch.randn(20, 24), 8))))
    assert not can_multiply(Stack((int4(weight), Plain(weight))))
    assert not can_multiply(Blocks("Q3_K", torch.zeros(4, 110, dtype=torch.uint8)))


@pytest.mark.parametrize("kind", ["fp8", "Q3_K"])
def test_what_the_kernels_do_not_know_is_multiplied_from_a_copy(kind):
    torch.manual_seed(4)
    weight = fp8(torch.randn(43, 256)) if kind == "fp8" else random_blocks(kind, 43, 256)
    copy, full, x = in_known_layout(weight), weight.unpack(), torch.randn(30, 256)
    assert not can_multiply(weight) and can_multiply(copy)
    assert (copy.unpack() - full).norm() < 0.008 * full.norm()
    assert copy.nbytes == bytes_in_known_layout(weight)
    expected = x @ full.T
    assert (Product(copy)(x) - expected).norm() < 0.015 * expected.norm()
    experts = in_known_layout(Stack((weight, weight)))
    assert can_multiply(experts) and torch.equal(experts[1].unpack(), copy.unpack())
    assert in_known_layout(fp8(torch.randn(4, 40))) is None and in_known_layout(Plain(full)) is None


def test_without_a_library_there_are_no_kernels(monkeypatch, tmp_path):
    monkeypatch.setattr(native, "library", lambda name: tmp_path / name)
    found, reason = kernels.__wrapped__()
    assert found is None and "python -m diffusiongemma.kernels.build" in reason
    (tmp_path / "plain").write_bytes(b"no library")
    assert "plain" in kernels.__wrapped__()[1]
    monkeypatch.setenv(native.VARIABLE, "none")
    assert kernels.__wrapped__()[0] is None


def test_a_library_that_multiplies_wrongly_is_not_used(monkeypatch):
    monkeypatch.setattr(native, "_multiplies", lambda found: False)
    assert "wrongly" in str(native._load("plain"))


@needs_amx
@pytest.mark.parametrize("layout, width", [*ALIKE, ("int4, groups of 16", 176), ("NVFP4", 48)])
def test_amx_multiplies_what_is_rounded_to_bfloat16(layout, width, monkeypatch):
    force(monkeypatch, "amx")
    torch.manual_seed(11)
    weight, x = LAYOUTS[layout](torch.randn(43, width)), torch.randn(285, width)
    expected = x.bfloat16().double() @ weight.unpack().bfloat16().double().T
    assert (Product(weight)(x) - expected).norm() < 1e-6 * expected.norm()
    kernels.cache_clear()


@needs_amx
def test_scales_beyond_all_that_are_looked_up(monkeypatch):
    """Products of codes are looked up under one exponent: of tiny scales nothing is left, of negative ones the sign."""
    force(monkeypatch, "amx")
    torch.manual_seed(12)
    weight = int4(torch.randn(32, 256))
    by = torch.tensor([1.0, -1.0, 2.0**60, 2.0**-60, 2.0**-110, 0.0]).repeat(43)[:256].view(32, 8)
    weight = replace(weight, scales=(weight.scales.float() * by).bfloat16())
    x = torch.randn(20, 256)
    for group in range(8):
        alone = torch.zeros_like(x)
        alone[:, 32 * group : 32 * group + 32] = x[:, 32 * group : 32 * group + 32]
        expected = alone.bfloat16().double() @ weight.unpack().bfloat16().double().T
        near = (Product(weight)(alone) - expected).abs() < 1e-6 * expected.abs().amax(0) + 2.0**-90
        assert near.all()
    kernels.cache_clear()


@needs_amx
def test_rows_alone_are_left_to_whole_numbers(monkeypatch):
    torch.manual_seed(13)
    weight, x = int4(torch.randn(43, 256)), torch.randn(9, 256)
    gate_up, down = int4(torch.randn(6, 128, 256)), int8(torch.randn(6, 256, 64))
    shares, chosen = torch.rand(9, 2), torch.stack([torch.randperm(6)[:2] for _ in x])
    results = lambda: (Product(weight)(x), Experts(gate_up, down)(x, shares, chosen))  # noqa: E731
    force(monkeypatch, "avx512")
    whole = results()
    force(monkeypatch, "amx")
    with rows_alone():
        alone = results()
    assert all(map(torch.equal, alone, whole)) and not torch.equal(results()[0], whole[0])
    kernels.cache_clear()


@needs_amx
def test_where_the_system_refuses_tiles_other_instructions_are_taken(monkeypatch):
    class Refused(ctypes.CDLL):
        def packed_allowed(self):
            return "amx" not in self._name

    monkeypatch.delenv(native.VARIABLE, raising=False)
    monkeypatch.setattr(ctypes, "CDLL", Refused)
    assert native._load("amx") == "not allowed by the system"
    assert kernels.__wrapped__()[1] == "avx512"


def test_a_compiler_that_fails_leaves_no_library(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "LIBRARIES", tmp_path / "lib")
    monkeypatch.setattr(build, "SOURCE", Path(tmp_path / "absent.cpp"))
    assert set(build.build()) >= {"plain"} and not list((tmp_path / "lib").iterdir())
    monkeypatch.setattr(build, "compiler", lambda: None)
    assert "compiler" in build.build()["plain"]


@pytest.mark.parametrize("width", [16, 48, 176, 1072])
@pytest.mark.parametrize("layout", ["int4, groups of 16", "int8, a scale a row", "NVFP4"])
def test_rows_may_end_within_a_word_of_instructions(layout, width, instructions):
    torch.manual_seed(4)
    weight = LAYOUTS[layout](torch.randn(21, width))
    x = torch.randn(9, width)
    expected, found = x @ weight.unpack().T, Product(weight)(x)
    assert (found - expected).norm() < 2 * ROUNDING * expected.norm()


@pytest.mark.parametrize("tokens", [5, 101, 4096, 9001])
def test_logits_are_read_as_torch_reads_them(tokens):
    torch.manual_seed(5)
    logits, temperature, uniforms = torch.randn(24, tokens) * 6, torch.rand(24) + 0.3, torch.rand(24)
    uniforms[:3] = torch.tensor([0.0, 0.5, 1 - 2**-24])
    greedy = torch.arange(24) % 3 == 2
    logits[5, 1:] = -30.0  # sure
    logits[6] = logits[6, 0]  # as unsure as can be: the first of equals is the best
    expected = (logits / temperature[:, None]).log_softmax(-1)
    probabilities = logits.clone()
    argmax, drawn, entropy, logprob, drawn_logprob = read_in_place(probabilities, temperature, uniforms, greedy)
    torch.testing.assert_close(probabilities, expected.exp(), atol=1e-6, rtol=1e-5)
    assert torch.equal(argmax, logits.argmax(-1))
    exact = expected.double().exp()
    torch.testing.assert_close(entropy.double(), -(exact * expected.double()).sum(-1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logprob, expected.max(-1).values, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(drawn_logprob, expected.gather(1, drawn[:, None])[:, 0], atol=1e-5, rtol=1e-5)
    before, upto = exact.cumsum(-1).roll(1, -1), exact.cumsum(-1)
    before[:, 0] = 0
    within = (before.gather(1, drawn[:, None])[:, 0] <= uniforms + 1e-6) & (
        upto.gather(1, drawn[:, None])[:, 0] >= uniforms - 1e-6
    )
    assert torch.equal(within | greedy, torch.ones(24, dtype=torch.bool)) and torch.equal(drawn[greedy], argmax[greedy])
    alone = logits[7:8].clone()
    found = read_in_place(alone, temperature[7:8], uniforms[7:8], greedy[7:8])
    assert torch.equal(alone[0], probabilities[7]) and found[2] == entropy[7]


@pytest.mark.parametrize("count", [1, 8, 1001])
def test_logits_are_capped_as_torch_caps_them(count):
    torch.manual_seed(10)
    logits = torch.randn(count) * torch.tensor([1e-3, 1, 40, 1e4, torch.inf]).repeat(count)[:count]
    logits[: count // 9] = 0
    found = native.cap_in_place(logits.clone(), 30.0)
    assert (found.double() - (logits.double() / 30).tanh() * 30).abs().max() < 30 * 2e-7
    assert torch.equal(native.cap_in_place(logits[:1].clone(), 30.0), found[:1])
    assert native.cap_in_place(torch.tensor([torch.nan]), 30.0).isnan()


@pytest.mark.parametrize("odd", ["up", "expert"])
def test_experts_of_several_layouts_are_not_rounded_as_one(odd):
    """Activations are rounded once for all experts: in the order and groups of one layout."""
    torch.manual_seed(6)
    count, dim, width = 4, 64, 32
    weight = torch.randn(count, 2 * width, dim) / 8
    gates, ups = ([int4(one) for one in part] for part in weight.chunk(2, dim=1))
    if odd == "up":
        ups = [int8(up.unpack()) for up in ups]
    else:
        gates[2], ups[2] = int8(gates[2].unpack()), int8(ups[2].unpack())
    model = nn.Module()
    model.experts = PackedExperts(Rows((Stack(tuple(gates)), Stack(tuple(ups)))), int4(torch.randn(count, dim, width)))
    x, weights = torch.randn(9, dim), torch.rand(9, 2)
    experts = torch.stack([torch.randperm(count)[:2] for _ in range(9)])
    expected = model.experts(x, weights, experts)
    multiply_in_8_bits(model)
    found = model.experts(x, weights, experts)
    assert (found - expected).norm() < 2 * ROUNDING * expected.norm()


def test_instructions_that_are_not_here_are_not_tried(monkeypatch):
    monkeypatch.setattr(native, "_processor", set)
    monkeypatch.setenv(native.VARIABLE, "avx2")
    assert kernels.__wrapped__() == (None, "avx2: not on this processor")
    monkeypatch.setenv(native.VARIABLE, "mmx")
    assert "'mmx'" in kernels.__wrapped__()[1] and "plain" in kernels.__wrapped__()[1]


def test_what_is_no_number_is_read_without_harm():
    logits = torch.full((2, 3000), torch.nan)
    argmax, drawn, *_ = read_in_place(logits, torch.ones(2), torch.full((2,), 0.5), torch.zeros(2, dtype=torch.bool))
    assert (argmax >= 0).all() and (drawn >= 0).all() and (drawn < 3000).all()
