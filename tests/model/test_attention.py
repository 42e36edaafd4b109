"""Ways to attend on a CPU: all of them are plain softmax attention."""

from __future__ import annotations

import pytest
import torch

from diffusiongemma.model import attention


def reference(q, k, v, mask=None):
    """In float64, each head's keys written out."""
    groups = q.shape[-3] // k.shape[-3]
    k, v = (x.double().repeat_interleave(groups, dim=-3) for x in (k, v))
    scores = q.double() @ k.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1) @ v


def inputs(width, visible, dtype):
    torch.manual_seed(0)
    # As the projections lie: tokens first.
    return [torch.randn(1, n, h, 64).to(dtype).transpose(1, 2) / 4 for n, h in ((width, 8), (visible, 2), (visible, 2))]


@pytest.mark.parametrize("scores", [2**24, 5 * 8 * 70])  # all rows at a time, five of them
@pytest.mark.parametrize("kind", ["plain", "causal", "masked"])
def test_attention_by_products(kind, scores, monkeypatch):
    monkeypatch.setattr(attention, "SCORES", scores)
    monkeypatch.setattr(attention, "multiplies_bfloat16", lambda: True)
    q, k, v = inputs(70 if kind == "causal" else 33, 70, torch.bfloat16)
    allowed = torch.ones(q.shape[-2], 70, dtype=torch.bool)
    mask = {"plain": None, "causal": allowed.tril(), "masked": allowed.tril(20)}[kind]
    found = attention.attend(q, k, v, mask if kind == "masked" else None, causal=kind == "causal")
    expected = reference(q, k, v, mask)
    assert found.dtype == torch.bfloat16 and found.shape == q.shape
    assert (found - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize("width", [1, 3])
def test_queries_of_a_group_read_their_keys_once(width):
    q, k, v = inputs(width, 70, torch.float32)
    assert torch.allclose(attention.attend(q, k, v), reference(q, k, v).float(), atol=1e-6)
