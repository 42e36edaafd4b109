"""Glyphs as distances: true ones of ink, of strokes, and kept in a file."""

from __future__ import annotations

import numpy as np
import torch

from recipes.nano.glyphs import GRID, STEP, Glyphs, _away, _distances, hands


def read(shape: np.ndarray) -> np.ndarray:
    return (shape.astype(float) - 128) / STEP


def distances_to(centre: tuple[float, float]) -> np.ndarray:
    rows, columns = np.mgrid[:GRID, :GRID] + 0.5 - GRID / 2
    return np.hypot(columns - centre[0], rows - centre[1])


def test_distances_of_a_disc():
    rows, columns = np.mgrid[:512, :512]
    scale = 5.0
    mask = np.hypot(columns - 260, rows - 250) < 40
    found = read(_distances(mask, (255.0, 245.0), scale))
    expected = 40 / scale - distances_to((1.0, 1.0))
    near = np.abs(expected) < 6
    assert near.sum() > 200 and np.abs(found - expected)[near].max() < 0.3
    assert (found[expected > 7.9] > 6).all() and (found[expected < -8.5] == -8).all()


def test_distances_to_a_stroke():
    away = _away([np.array([[-10.0, 0.0], [10.0, 0.0]])])
    at = torch.arange(GRID) + 0.5 - GRID / 2
    beyond = (at.abs() - 10).clamp_min(0)
    torch.testing.assert_close(away, torch.hypot(beyond[None], at[:, None]).expand(GRID, GRID))


def test_hands_write_digits_that_differ():
    made = hands(8, np.random.default_rng(0))
    assert made.shape == (8, 9, GRID, GRID) and made.dtype == np.uint8
    ink = (made > 128).reshape(8, 9, -1).astype(float)
    assert (ink.mean(-1) > 0.01).all() and (ink.mean(-1) < 0.4).all()
    assert (made[:, :, [0, -1]] < 128).all() and (made[:, :, :, [0, -1]] < 128).all()
    # A digit is most like its own kind: nearest to the mean of the others' same digit in most cases.
    right = 0
    for hand in range(8):
        means = np.delete(ink, hand, 0).mean(0)
        right += sum(np.square(means - shape).sum(1).argmin() == digit for digit, shape in enumerate(ink[hand]))
    assert right > 0.6 * 72  # of chance: 8


def test_kept_in_a_file_and_joined(tmp_path):
    made = Glyphs(hands(2, np.random.default_rng(0)), np.array([0, 1]))
    both = made.joined(made.shapes, made.families)
    both.save(tmp_path / "deep" / "digits.npz")
    kept = Glyphs.load(tmp_path / "deep" / "digits.npz")
    assert kept.families.tolist() == [0, 1, 2, 3] and (kept.shapes[2:] == made.shapes).all()
