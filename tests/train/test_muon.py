"""Muon's steps are torch's, without the rounding to bfloat16 and for all matrices of a shape at once."""

from __future__ import annotations

import pytest
import torch

from diffusiongemma.train.muon import Muon, orthogonalised

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
SETTINGS = dict(lr=0.1, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")


def weights_after(optimiser, steps: int = 5):
    generator = torch.Generator().manual_seed(0)
    shapes = [(8, 20), (20, 8), (8, 20), (16, 16)]
    weights = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    unused = torch.nn.Parameter(torch.ones(8, 20))
    made = optimiser([*weights, unused], **SETTINGS)
    for _ in range(steps):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=generator)
        made.step()
    assert torch.equal(unused, torch.ones(8, 20))
    return weights, made


def test_steps_are_torchs_up_to_its_rounding():
    ours, theirs = weights_after(Muon), weights_after(torch.optim.Muon)
    for a, b in zip(ours[0], theirs[0], strict=True):
        torch.testing.assert_close(a, b, atol=5 * 0.02, rtol=0)  # five steps of at most 0.1 · 0.2 · √20, in 8 bits
    torch.testing.assert_close(ours[1].state_dict()["state"], theirs[1].state_dict()["state"])


@pytest.mark.parametrize("shape", [(3, 8, 20), (3, 20, 8), (1, 16, 16)])
def test_singular_values_come_near_to_one(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    made = orthogonalised(matrices, COEFFICIENTS, 5)
    values = torch.linalg.svdvals(made)
    assert made.shape == matrices.shape and values.min() > 0.5 and values.max() < 1.5
    alone = orthogonalised(matrices[:1], COEFFICIENTS, 5)
    torch.testing.assert_close(alone, made[:1])
    directions = torch.linalg.svd(matrices, full_matrices=False)
    torch.testing.assert_close(
        (directions.U.mT @ made @ directions.Vh.mT).diagonal(dim1=-2, dim2=-1), values, atol=1, rtol=0
    )


def test_no_gradient_is_no_step():
    zero = orthogonalised(torch.zeros(1, 4, 6), COEFFICIENTS, 5)
    assert torch.equal(zero, torch.zeros(1, 4, 6))
