"""Packed weights against the packages that write them: orders of nibbles, directions of scales, offsets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from compressed_tensors.compressors.nvfp4.helpers import pack_fp4_to_uint8, unpack_fp4_from_uint8
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize, quantize
from torch import Tensor, nn

from diffusiongemma.weights import checkpoint
from diffusiongemma.weights.formats.repacking import repacked
from diffusiongemma.weights.packed import FP4, SCHEMES, Blocks, Groups, Packed, Rows, fp8, int4, int8, stacked
from diffusiongemma.weights.packed_kernels import can_multiply


def weight(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def some_blocks(kind: str, *shape: int, seed: int = 0) -> Tensor:
    """Random bytes that are valid blocks: their half-precision scales are small numbers."""
    weights, width = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    raw = np.random.default_rng(seed).integers(0, 256, (*shape[:-1], shape[-1] // weights, width), dtype=np.uint8)
    halves = {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "Q3_K": (108,), "Q5_0": (0,), "Q8_0": (0,), "Q4_0": (0,)}
    for at in halves[kind]:
        raw[..., at + 1] = raw[..., at + 1] & 0x83 | 0x20
    return torch.from_numpy(raw.reshape(*shape[:-1], -1))


def test_int4_words_are_what_compressed_tensors_packs() -> None:
    codes = torch.randint(-8, 8, (6, 64), generator=torch.Generator().manual_seed(1), dtype=torch.int8)
    scales = weight(6, 2).abs().to(torch.bfloat16)
    packed = Groups("int4", pack_to_int32(codes, 4).view(torch.uint8), scales, zero=8)
    assert torch.equal(packed.unpack(), codes.float() * scales.float().repeat_interleave(32, 1))
    assert packed.shape == (6, 64)


def test_fp4_bytes_are_what_compressed_tensors_packs() -> None:
    chosen = torch.randint(0, 16, (6, 64), generator=torch.Generator().manual_seed(1))
    values = torch.tensor(FP4)[chosen]
    codes = pack_fp4_to_uint8(values)
    packed = Groups("fp4", codes, torch.ones(6, 4))
    assert torch.equal(packed.unpack(), values)
    assert torch.equal(packed.unpack(), unpack_fp4_from_uint8(codes, 6, 64, torch.float32))


def test_scales_times_factor_then_offsets() -> None:
    codes = torch.tensor([[0x21, 0x43]], dtype=torch.uint8)  # 1, 2, 3, 4
    scales, offsets = torch.tensor([[2.0, 10.0]]).to(torch.float8_e4m3fn), torch.tensor([[0.5, -1.0]])
    packed = Groups("int4", codes, scales, offsets, zero=1, factor=0.5)
    assert packed.unpack().tolist() == [[0.5, 1.5, 9.0, 14.0]]


@pytest.mark.parametrize("kind", ["Q4_K", "Q5_K", "Q6_K", "Q3_K", "Q5_0", "Q8_0", "Q4_0"])
def test_blocks_are_what_gguf_reads(kind: str) -> None:
    raw = some_blocks(kind, 3, 5, 512)
    packed = Blocks(kind, raw)
    expected = torch.from_numpy(dequantize(raw.numpy(), GGMLQuantizationType[kind]))
    assert expected.isfinite().all() and expected.std() > 0
    assert packed.shape == (3, 5, 512) == tuple(expected.shape)
    assert torch.equal(packed.unpack(), expected)
    assert torch.equal(packed[1][2:4].unpack(), expected[1, 2:4])


def each_kind() -> list[Packed]:
    w = weight(4, 10, 128)
    q8 = Blocks("Q8_0", torch.from_numpy(quantize(w.numpy(), GGMLQuantizationType.Q8_0)))
    return [int4(w), int4(w, 64, symmetric=False), int8(w), int8(w, 32), fp8(w), q8, Rows((int4(w), q8))]


@pytest.mark.parametrize("packed", each_kind(), ids=lambda p: type(p).__name__)
def test_parts_and_products_are_those_of_the_unpacked_weight(packed: Packed) -> None:
    full = packed.unpack()
    assert packed.shape == tuple(full.shape)
    again = stacked([packed[i] for i in range(4)])
    assert again.shape == packed.shape and again.nbytes == packed.nbytes
    assert torch.equal(again.unpack(), full)
    assert torch.equal(packed[2][3:9].unpack(), full[2, 3:9])
    assert torch.equal(packed[1:3].unpack(), full[1:3])
    x = weight(3, 128, seed=2)
    torch.testing.assert_close(packed[1].product(x), x @ full[1].T)


def test_rows_of_several_weights_are_cut_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    w = weight(12, 64)
    packed = Rows((int8(w[:5]), int4(w[5:6]), int8(w[6:])))
    full = packed.unpack()
    for first in range(12):
        for last in range(first + 1, 13):
            assert torch.equal(packed[first:last].unpack(), full[first:last])
    monkeypatch.setattr("diffusiongemma.weights.packed.UNPACKED_BYTES", 4 * 64 * 4)  # four rows at a time
    x = weight(2, 64, seed=3)
    torch.testing.assert_close(packed.product(x), x @ full.T)


@pytest.mark.parametrize(("scheme", "error", "bits"), [("int4", 0.11, 4.5), ("int8", 0.01, 8.5), ("fp8", 0.03, 8.5)])
def test_what_packing_loses(scheme: str, error: float, bits: float) -> None:
    w = weight(32, 256)
    packed = SCHEMES[scheme](w)
    assert (packed.unpack() - w).norm() / w.norm() < error
    assert packed.bits <= bits


def test_packing_keeps_what_it_can_say_exactly() -> None:
    assert torch.equal(int4(torch.zeros(2, 32)).unpack(), torch.zeros(2, 32))
    levels = torch.arange(-7, 8).float().repeat(3)[:32].repeat(4, 1)
    assert torch.equal(int4(levels).unpack(), levels)
    steps = torch.arange(16).float().repeat(4, 2) / 4 - 3
    assert torch.equal(int4(steps, symmetric=False).unpack(), steps)
    assert torch.equal(int8(levels * 127 / 7 // 1).unpack().round(), levels * 127 / 7 // 1)
    with pytest.raises(ValueError, match="shapes differ"):
        stacked([int8(torch.ones(2, 32)), int8(torch.ones(3, 32))])


def test_blocks_that_no_kernel_knows_are_repacked_exactly() -> None:
    blocks = Blocks("Q5_K", some_blocks("Q5_K", 1500, 512))
    again = repacked(blocks)
    assert isinstance(again, Groups) and again.scales.shape == (1500, 16)
    assert torch.equal(again.unpack(), blocks.unpack()) and can_multiply(again)
    assert isinstance(repacked(Blocks("Q5_K", some_blocks("Q5_K", 2, 5, 512))), Blocks)  # experts stay
    known = Blocks("Q6_K", some_blocks("Q6_K", 3, 256))
    assert repacked(known) is known and can_multiply(known)


def test_blocks_are_repacked_where_no_kernel_multiplies_them(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, model = Blocks("Q5_K", some_blocks("Q5_K", 4, 256)), nn.Module()
    monkeypatch.setattr(checkpoint, "kernels", lambda: ("a library", "plain"))
    assert checkpoint._held(weight, "x", model, torch.device("cpu")) is weight and can_multiply(weight)
    assert isinstance(checkpoint._held(weight, "x", model, torch.device("cuda")), Groups)
    monkeypatch.setattr(checkpoint, "kernels", lambda: (None, "not built"))
    assert isinstance(checkpoint._held(weight, "x", model, torch.device("cpu")), Groups)
