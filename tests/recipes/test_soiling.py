"""What happens to pictures: nothing without wear, and what is asked for with it."""

from __future__ import annotations

import torch
from PIL import Image, ImageFilter

from recipes.nano.soiling import Dice, blurred, compressed, lit, soiled, waves_of


def board() -> torch.Tensor:
    lines = torch.ones(2, 96, 96)
    lines[:, ::16] = lines[:, :, ::16] = 0.1
    return lines


def test_without_wear_nothing_happens():
    torch.testing.assert_close(soiled(board(), torch.zeros(2, 1, 1), Dice(0, "cpu")), board(), atol=2e-3, rtol=0)


def test_wear_changes_pictures_and_keeps_them_pictures():
    worn = soiled(board().repeat(8, 1, 1), torch.ones(16, 1, 1), Dice(0, "cpu"))
    assert worn.min() > -0.3 and worn.max() < 1.3
    assert (worn - board()[0]).abs().mean() > 0.01


def test_blur_is_each_pictures_own_and_gaussian():
    picture = board()[:1]
    made = blurred(picture.repeat(2, 1, 1), torch.tensor([0.0, 1.5]).view(2, 1, 1))
    torch.testing.assert_close(made[0], picture[0], atol=1e-5, rtol=0)
    plain = torch.zeros(1, 31, 31)
    plain[0, 15, 15] = 1.0
    spot = blurred(plain, torch.full((1, 1, 1), 1.5))[0]
    at = torch.arange(31) - 15.0
    gauss = torch.exp(-(at[:, None].square() + at.square()) / (2 * 1.5**2))
    torch.testing.assert_close(spot[10:21, 10:21], (gauss / gauss.sum())[10:21, 10:21], atol=2e-4, rtol=0)
    grey = Image.fromarray((picture[0] * 255).byte().numpy()).filter(ImageFilter.GaussianBlur(1.5))
    kept = torch.frombuffer(bytearray(grey.tobytes()), dtype=torch.uint8).view(96, 96).float() / 255
    assert (made[1] - kept)[8:-8, 8:-8].abs().mean() < 0.02


def test_compression_rounds_cosines_of_squares():
    pictures = torch.rand(2, 32, 40, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(compressed(pictures, torch.zeros(2, 1, 1)), pictures, atol=1e-3, rtol=0)
    fine, coarse = ((compressed(pictures, torch.full((2, 1, 1), s)) - pictures).square().mean() for s in (0.05, 0.3))
    assert 1e-6 < fine < coarse
    # So coarse that only means are left, of an even picture nothing changes but by rounding.
    even = torch.full((1, 16, 16), 0.5)
    torch.testing.assert_close(compressed(even, torch.full((1, 1, 1), 0.1)), even, atol=0.01, rtol=0)


def test_light_falls_off_and_waves_are_smooth():
    light = lit(64, 32, torch.ones(64, 1, 1), Dice(1, "cpu"))
    assert light.max() < 1.05 and 0.4 < light.min() < 0.9 and (light.flatten(1).std(1) > 0.01).float().mean() > 0.3
    waves = waves_of(8, 2, 4, 64, Dice(2, "cpu"))
    assert waves.shape == (8, 2, 64, 64) and 0.4 < waves.std() < 1.2
    assert waves.diff(dim=-1).abs().max() < 0.5
