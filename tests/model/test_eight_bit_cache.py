"""Keys and values in 8 bits."""

from __future__ import annotations

import torch

from diffusiongemma.model.cache import SCALE_BYTES, LayerCache, entry_bytes, in_eight_bits, in_full


def test_what_is_kept_is_within_half_a_step_of_what_was_given():
    x = torch.randn(3, 50, 16) * torch.logspace(-3, 3, 50)[:, None]
    x[1, 7] = 0
    stored = in_eight_bits(x)
    assert stored.dtype == torch.int8 and stored.shape == (3, 50, 16 + SCALE_BYTES)
    step = x.abs().amax(-1, keepdim=True) / 127
    assert ((in_full(stored, torch.float32) - x).abs() <= step * 0.5001).all()
    assert torch.equal(in_full(stored[:, 3:9], torch.bfloat16), in_full(stored, torch.bfloat16)[:, 3:9])


def test_tokens_see_the_same_however_they_came():
    keys, values = torch.randn(2, 2, 40, 8)
    whole = LayerCache(2, 8, None, torch.float32, torch.device("cpu"), eight_bits=True)
    pieces = LayerCache(2, 8, None, torch.float32, torch.device("cpu"), eight_bits=True)
    seen = whole.append(keys, values)
    for start, end in ((0, 7), (7, 8), (8, 40)):
        found = pieces.append(keys[:, start:end], values[:, start:end])
    assert all(torch.equal(a, b) for a, b in zip(seen, found, strict=True))
    canvas = torch.randn(2, 2, 5, 8)
    both = [cache.with_canvas(*canvas) for cache in (whole, pieces.copy())]
    assert both[0][0].shape == (2, 45, 8) and all(torch.equal(a, b) for a, b in zip(*both, strict=True))
    assert whole.end == 40


def test_it_takes_what_it_says():
    cache = LayerCache(2, 256, None, torch.float32, torch.device("cpu"), eight_bits=True)
    cache.append(*torch.randn(2, 2, 256, 256))
    assert cache.keys.nbytes == 2 * 256 * entry_bytes(256, torch.float32, True)
    assert entry_bytes(256, torch.float32, True) < 0.26 * entry_bytes(256, torch.float32, False)
