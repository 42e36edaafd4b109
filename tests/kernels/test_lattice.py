"""What the library sums over lattices is what numpy and torch do."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusiongemma.control.compiling import compile_constraint
from diffusiongemma.control.inference import sweeps
from diffusiongemma.control.inference.chain import CanvasChain
from diffusiongemma.control.inference.evidence import Evidence
from diffusiongemma.control.inference.lattice import find_paths
from diffusiongemma.control.inference.sweeps import SetMasses, _log_shares, _scaled_shares
from diffusiongemma.control.tokens.vocabulary import Vocabulary
from diffusiongemma.kernels import lattice
from diffusiongemma.kernels.lattice import LatticeArrays

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


def test_sums_beyond_what_doubles_hold_are_those_on_a_log_scale():
    given_up = 0
    for scale in (1.0, 300.0, 3000.0, 1e5):
        for seed in range(12):
            chain = chain_of(PATTERNS[0], 40)
            masses = SetMasses.of(chain._evidence(scores_of(40, scale, seed)).log_mass, chain.bundles).log_in_set
            relative = np.minimum(masses - masses.max(1, keepdims=True), 0)
            exact, arrays = _log_shares(chain.lattice, relative), chain.lattice.arrays
            scaled, of_twin = arrays.scaled_shares(relative), _scaled_shares(chain.lattice, relative)
            assert (scaled is None) == (of_twin is None)
            given_up += scaled is None
            for shares in (arrays.wide_shares(relative), *([] if scaled is None else [scaled, of_twin])):
                np.testing.assert_allclose(shares.sum(1), 1)
                np.testing.assert_allclose(shares, exact, atol=1e-8)
    assert 0 < given_up < 40


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(0, 12), st.booleans())
def test_same_paths(seed, positions, not_before, pinned):
    """Of random automata, with places that permit a part only."""
    rng = np.random.default_rng(seed)
    states, sets = int(rng.integers(1, 7)), 5
    start, done = rng.integers(states, size=2).tolist()
    leads = rng.random((states, states)) < 0.35
    leads[done] = np.arange(states) == done
    pairs = np.argwhere(leads)
    first = np.searchsorted(pairs[:, 0], np.arange(states + 1))
    source, target = pairs.astype(np.int32).T.copy()
    class_set = rng.integers(0, sets, len(pairs)).astype(np.int32)
    ends = rng.random(states) < 0.4
    permitted = {int(t): rng.random(len(pairs)) < 0.6 for t in rng.integers(0, positions, 2 * pinned)}

    def arrays() -> LatticeArrays:
        live = np.zeros((positions + 1, states), bool)
        return LatticeArrays(sets, first, target, class_set, live, permitted)

    found, twin = arrays(), arrays()
    bundles = SimpleNamespace(source=source, target=target, class_set=class_set)
    read, moves = found.find_paths(start, ends, done, not_before)
    read_of_twin, moves_of_twin = find_paths(bundles, twin, start, ends, done, not_before)
    assert (moves, found.live.tolist(), read.tolist()) == (moves_of_twin, twin.live.tolist(), read_of_twin.tolist())
