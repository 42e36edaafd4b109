"""Shares of packed weights are those of the weights unpacked, in every layout."""

from __future__ import annotations

import gguf
import pytest
import torch

from diffusiongemma.errors import InputError
from diffusiongemma.weights.cutting import cut
from diffusiongemma.weights.packed import Blocks, Groups, Packed, Plain, Rows, Stack, fp8, int4, int8

ROWS, COLUMNS = slice(2, 5), slice(32, 96)


def weight(seed: int = 0, *shape: int) -> torch.Tensor:
    return torch.randn(*(shape or (6, 128)), generator=torch.Generator().manual_seed(seed))


def fp4() -> Groups:
    generator = torch.Generator().manual_seed(3)
    codes = torch.randint(256, (6, 64), generator=generator).to(torch.uint8)
    return Groups("fp4", codes, (torch.rand(6, 8, generator=generator) + 1).to(torch.float8_e4m3fn), factor=0.5)


def blocks(kind: str) -> Blocks:
    return Blocks(kind, torch.from_numpy(gguf.quantize(weight(1).numpy(), gguf.GGMLQuantizationType[kind])))


LAYOUTS: dict[str, Packed] = {
    "int4": int4(weight()),
    "int4 with offsets": int4(weight(), symmetric=False),
    "int8 a row": int8(weight()),
    "int8 in groups": int8(weight(), 32),
    "fp8": fp8(weight()),
    "fp4": fp4(),
    "Q8_0": blocks("Q8_0"),
    "plain": Plain(weight()),
    "rows": Rows((int4(weight(1, 3, 128)), int8(weight(2, 3, 128)))),
    "stack": Stack((int4(weight(1)), int4(weight(2)))),
    "experts": int4(weight(4, 3, 6, 128)),
    "experts in rows": Rows((int4(weight(4, 3, 2, 128)), int4(weight(5, 3, 4, 128)))),
    "stack of rows": Stack(tuple(Rows((int8(weight(s, 3, 128)), int8(weight(s + 9, 3, 128)))) for s in range(2))),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_share_is_that_of_the_weight_unpacked(name):
    packed = LAYOUTS[name]
    share = cut(packed, ROWS, COLUMNS)
    assert share.shape == (*packed.shape[:-2], 3, 64)
    assert torch.equal(share.unpack(), packed.unpack()[..., ROWS, COLUMNS])
    assert torch.equal(cut(packed).unpack(), packed.unpack())
    assert share.nbytes <= packed.nbytes * 0.3


def test_nothing_holds_the_whole():
    packed = int4(weight())
    share = cut(packed, ROWS, COLUMNS)
    assert share.codes.untyped_storage().nbytes() == share.codes.nbytes and share.codes.is_contiguous()
    assert share.scales.untyped_storage().nbytes() == share.scales.nbytes


@pytest.mark.parametrize("packed", [int4(weight()), blocks("Q8_0")], ids=["int4", "Q8_0"])
def test_groups_stay_whole(packed):
    with pytest.raises(InputError, match="columns 16 to 64 of 128 cut through a group of 32"):
        cut(packed, columns=slice(16, 64))
