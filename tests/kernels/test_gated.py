"""The gate of an MLP and rotations, with gradients by the kernels' library, beside torch's own."""

from __future__ import annotations

import pytest
import torch

from diffusiongemma.kernels import gated as module
from diffusiongemma.kernels.experts import dense_expert_mlp
from diffusiongemma.kernels.gated import gated
from diffusiongemma.kernels.gelu import gelu
from diffusiongemma.kernels.native import kernels
from diffusiongemma.model import rope

pytestmark = pytest.mark.skipif(kernels()[0] is None, reason="needs a C++ compiler")


def gradients(function, *tensors):
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    out = function(*leaves)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    return [out.detach(), *torch.autograd.grad((out * weight).sum(), leaves)]


def assert_near(found, expected):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=2e-6, rtol=2e-5)


@pytest.mark.parametrize("shape", [(5, 8), (3, 4, 64), (300, 256)])
@pytest.mark.parametrize("shared", [True, False])
def test_the_gate_and_its_gradients(shape, shared):
    generator = torch.Generator().manual_seed(0)
    both = 4 * torch.randn(*shape[:-1], 2 * shape[-1], generator=generator)
    both[..., 0] = 60.0
    both[..., 1] = -60.0
    share = torch.rand(shape[:-1], generator=generator)

    def fused(both, share):
        gate, up = both.chunk(2, dim=-1)
        assert module._trained_here(gate, up, share if shared else None)
        return gated(gate, up, share) if shared else gated(gate, up) + 0 * share[..., None]

    def plain(both, share):
        gate, up = both.chunk(2, dim=-1)
        return gelu(gate) * up * share[..., None] if shared else gelu(gate) * up + 0 * share[..., None]

    found, expected = gradients(fused, both, share), gradients(plain, both.double(), share.double())
    if shared:  # a sum of many products
        torch.testing.assert_close(found.pop(), expected.pop().float(), atol=1e-3, rtol=1e-4)
    else:
        found, expected = found[:-1], expected[:-1]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b.float(), atol=1e-5, rtol=1e-4)


def test_other_numbers_and_layouts_go_by_torch():
    x = torch.randn(4, 16, requires_grad=True)
    assert module._trained_here(x, x, None)
    assert not module._trained_here(x.double(), x.double(), None)
    assert not module._trained_here(x[:, :12], x[:, :12], None)
    assert not module._trained_here(x.T[:8].T.mT, x.T[:8].T.mT, None)
    assert not module._trained_here(x.detach(), x.detach(), None)
    narrow = gradients(lambda a: gated(a[:, :12], a[:, :12]), x)
    assert_near(narrow, gradients(lambda a: gelu(a[:, :12]) * a[:, :12], x))


def test_dense_experts_train_alike(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    x, gate_up, down = (torch.randn(s, generator=generator) * 0.3 for s in ((7, 32), (4, 32, 32), (4, 32, 16)))
    weights = torch.rand(7, 2, generator=generator)
    experts = torch.stack([torch.randperm(4, generator=generator)[:2] for _ in range(7)])
    both = []
    for own in (True, False):
        if not own:
            monkeypatch.setattr(module, "_trained_here", lambda *_: False)
        both.append(gradients(lambda x, w, g, d: dense_expert_mlp(x, w, experts, g, d), x, weights, gate_up, down))
    assert_near(*both)


def test_rotations_turn_their_gradients_back(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    x, angles = torch.randn(6, 3, 32, generator=generator), torch.randn(6, 16, generator=generator)
    turn = torch.cat([angles, angles], -1)
    rotation = (turn.cos(), turn.sin())
    found = gradients(lambda x: rope.rotate(x, rotation), x)
    monkeypatch.setattr(rope, "takes", lambda *_: False)
    assert_near(found, gradients(lambda x: rope.rotate(x, rotation), x))
