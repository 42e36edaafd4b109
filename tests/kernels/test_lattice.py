"""What the library sums over lattices is what numpy and torch do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diffusiongemma.control.compiling import compile_constraint
from diffusiongemma.control.inference import sweeps
from diffusiongemma.control.inference.chain import CanvasChain
from diffusiongemma.control.inference.evidence import Evidence
from diffusiongemma.control.inference.sweeps import SetMasses, _log_joint, _relative
from diffusiongemma.control.tokens.vocabulary import Vocabulary
from diffusiongemma.kernels import lattice

TOKENS = [b"<end>", *(bytes([c]) for c in range(32, 127)), b'":', b'","', b"true", b"ab", b"0.", b"12", b"{}", b'{"']
PATTERNS = ["a(b|c)*|(ab|bc|d)*ca*", r"\d{1,12}(\.\d+)?", '{"a": ?(true|"[a-c]*"|[0-9]+)}']

pytestmark = pytest.mark.skipif(not lattice.available(), reason="kernels are not built")


def chain_of(pattern: str, positions: int) -> CanvasChain:
    vocabulary = Vocabulary((None, *TOKENS[1:]))
    constraint = compile_constraint(regex=pattern, vocabulary=vocabulary, end_ids=(0,))
    return constraint.begin(positions).open_canvas(positions)


def scores_of(positions: int, scale: float, seed: int) -> torch.Tensor:
    return torch.randn(positions, len(TOKENS), generator=torch.Generator().manual_seed(seed)) * scale


@pytest.fixture
def without_library(monkeypatch):
    def switch() -> None:
        for module in (sweeps, lattice):
            monkeypatch.setattr(module, "available", lambda: False)

    return switch


@pytest.mark.parametrize("scale", [1.0, 30.0, 3000.0])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_same_posterior_and_path(without_library, pattern, scale):
    chain, scores = chain_of(pattern, 40), scores_of(40, scale, 3)
    posterior, path = chain.posterior(scores), chain.most_probable_path(scores)
    without_library()
    twin = chain.posterior(scores)
    np.testing.assert_allclose(posterior.class_probability, twin.class_probability, rtol=2e-5, atol=1e-9)
    torch.testing.assert_close(posterior.entropy, twin.entropy, rtol=1e-4, atol=1e-5)
    assert torch.equal(path, chain.most_probable_path(scores))


def test_same_block_sums(without_library):
    chain, scores = chain_of(PATTERNS[2], 24), scores_of(24, 40.0, 5)
    scores[3, 20:60] = -torch.inf
    found = Evidence.of(scores, chain.blocks)
    without_library()
    twin = Evidence.of(scores, chain.blocks)
    torch.testing.assert_close(found.weight, twin.weight, rtol=2e-6, atol=1e-34)
    np.testing.assert_array_equal(found.block_best, twin.block_best)
    for name in ("block_mass", "block_tilt", "mass"):
        np.testing.assert_allclose(getattr(found, name), getattr(twin, name), rtol=1e-5, atol=1e-30)


def test_sums_are_those_on_a_log_scale_or_none():
    given_up = 0
    for scale in (1.0, 300.0, 3000.0):
        for seed in range(12):
            chain = chain_of(PATTERNS[0], 40)
            masses = SetMasses.of(chain._evidence(scores_of(40, scale, seed)).log_mass, chain.bundles).log_in_set
            sums = chain.lattice.flat.joint_sums(_relative(chain.lattice, masses))
            given_up += sums is None
            if sums is not None:
                exact = np.bincount(chain.lattice.backward.cell, _log_joint(chain.lattice, masses), masses.size)
                assert np.allclose(sums / sums.sum(1, keepdims=True), exact.reshape(masses.shape), atol=1e-8)
    assert 0 < given_up < 30
