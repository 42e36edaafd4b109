"""What happens to pictures [B, H, W] on their way: blur, light, noise and compression, a whole batch at once."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


class Dice:
    """Random numbers for batches, from one generator on one device."""

    def __init__(self, seed: int, device: torch.device | str):
        self.device = torch.device(device)
        self._generator = torch.Generator(self.device).manual_seed(seed)
        self._sizes = torch.Generator().manual_seed(seed)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=self._generator, device=self.device)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator, device=self.device)

    def chance(self, share: float, *shape: int) -> Tensor:
        """True in that share of all."""
        return self.uniform(*shape) < share

    def numbers(self, end: int, *shape: int) -> Tensor:
        return torch.randint(end, shape, generator=self._generator, device=self.device)

    def number(self, end: int) -> int:
        """One for a whole batch, which the device need not be asked for."""
        return int(torch.randint(end, (), generator=self._sizes))


def waves_of(n: int, channels: int, knots: int, size: int, dice: Dice) -> Tensor:
    """Smooth noise [n, channels, size, size] of about unit variance, of `knots` random values a side."""
    field = dice.normal(n, channels, knots + 2, knots + 2)
    return F.interpolate(field, (size, size), mode="bilinear")


def soiled(pictures: Tensor, wear: Tensor, dice: Dice) -> Tensor:
    """Out of focus, unevenly lit, noisy and compressed as `wear` [B, 1, 1] says: 0 not at all, 1 mildly."""
    n, size = len(pictures), pictures.shape[-1]
    pictures = blurred(pictures, wear * dice.uniform(n, 1, 1, high=0.0025 * size) * dice.chance(0.6, n, 1, 1))
    pictures = pictures * lit(n, size, wear, dice)
    fine, coarse = dice.normal(n, size, size), waves_of(n, 1, size // 3, size, dice)[:, 0]
    grain = torch.where(dice.chance(0.3, n, 1, 1), coarse, fine)
    pictures = pictures + 0.03 * wear * dice.uniform(n, 1, 1) * dice.chance(0.6, n, 1, 1) * grain
    pictures = pictures.clamp(0, 1)
    step = 0.18 * dice.uniform(n, 1, 1) ** 2 * (wear > 0)
    return torch.where(dice.chance(0.3, n, 1, 1), compressed(pictures, step), pictures)


def lit(n: int, size: int, wear: Tensor, dice: Dice) -> Tensor:
    """Brightness that falls off to one side, and in soft shadows."""
    at = torch.linspace(-1, 1, size, device=wear.device)
    angle = dice.uniform(n, 1, 1, high=2 * math.pi)
    slope = (1 + angle.cos() * at[:, None] + angle.sin() * at) / 2
    shadows = waves_of(n, 1, 4, size, dice)[:, 0].clamp(0, 2) / 2
    fall = 0.2 * slope * dice.chance(0.5, n, 1, 1) + 0.25 * shadows * dice.chance(0.2, n, 1, 1)
    return 1 - wear * fall


def blurred(pictures: Tensor, width: Tensor) -> Tensor:
    """Gaussian, of `width` [B, 1, 1] pixels each."""
    n, reach = len(pictures), 5
    offsets = torch.arange(-reach, reach + 1, device=pictures.device)
    kernels = torch.exp(-0.5 * (offsets / width.clamp_min(0.05)).square())
    kernels = (kernels / kernels.sum(-1, keepdim=True)).view(n, 1, 1, -1)
    padded = F.pad(pictures[None], (reach,) * 4, mode="replicate")
    across = F.conv2d(padded, kernels, groups=n)
    return F.conv2d(across, kernels.transpose(2, 3), groups=n)[0]


def compressed(pictures: Tensor, step: Tensor) -> Tensor:
    """As JPEG does: cosines over squares of 8 pixels, rounded to multiples of `step` [B, 1, 1] that grow with the
    frequency. H and W are multiples of 8."""
    n, height, width = pictures.shape
    number = torch.arange(8, device=pictures.device)
    basis = torch.cos((2 * number + 1) * number[:, None] * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    squares = pictures.view(n, height // 8, 8, width // 8, 8).transpose(2, 3)
    waves = basis @ squares @ basis.T
    steps = (step[..., None, None] * (0.6 + (number[:, None] + number) / 4)).clamp_min(1e-4)
    rounded = basis.T @ ((waves / steps).round() * steps) @ basis
    return rounded.transpose(2, 3).reshape(n, height, width)
