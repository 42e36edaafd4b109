"""Probabilities of labels on one canvas, against sums over every canvas there is."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusiongemma.control.inference.labels import Labels
from diffusiongemma.control.tokens.vocabulary import Vocabulary
from diffusiongemma.errors import InputError

# Two tokens that write the same, one inside a character, one that writes nothing.
WRITTEN = (None, b"a", b"b", b"ab", b"ba", b"a", "é".encode(), "é".encode()[:1], "é".encode()[1:], b"aab")
VOCABULARY, ENDS = Vocabulary(WRITTEN), (0,)
LABELS = ("a", "ab", "ba", "aab", "abab", "é", "éa", "aéb")


def oracle(labels, logits):
    """The mass of each label: every canvas is looked at."""
    mass = dict.fromkeys(labels, 0.0)
    weights = np.exp(logits)
    for canvas in product(range(len(WRITTEN)), repeat=len(logits)):
        length = next((t for t, token in enumerate(canvas) if token in ENDS), len(canvas))
        if any(token not in ENDS for token in canvas[length:]):
            continue
        written = b"".join(WRITTEN[token] for token in canvas[:length])
        for label in labels:
            if written == label.encode():
                mass[label] += float(np.prod(weights[np.arange(len(canvas)), canvas]))
    return np.array([mass[label] for label in labels]) / sum(mass.values())


@given(st.sets(st.sampled_from(LABELS), min_size=2, max_size=4), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_probabilities_are_sums_over_all_canvases(labels, seed):
    labels, rng = sorted(labels), np.random.default_rng(seed)
    logits = rng.normal(0, 2, (4, len(WRITTEN)))
    laid = Labels.of(labels, VOCABULARY, ENDS, len(logits))
    found = laid.log_probabilities(logits[: laid.positions, laid.tokens])
    np.testing.assert_allclose(np.exp(found), oracle(labels, logits), rtol=1e-9)


def test_what_labels_have_in_common_is_not_read():
    laid = Labels.of(["a", "ab"], VOCABULARY, ENDS, 256)
    assert laid.positions == 2 and set(laid.tokens.tolist()) == {0, 1, 2, 3, 5}
    scores = np.random.default_rng(0).normal(size=(2, len(laid.tokens)))
    shifted = scores + np.array([[500.0], [-900.0]])
    np.testing.assert_allclose(laid.log_probabilities(shifted), laid.log_probabilities(scores), atol=1e-9)


def test_several_end_tokens_count_together():
    both = Labels.of(["a", "b"], VOCABULARY, (0, 9), 3)
    scores = np.zeros((1, len(both.tokens)))
    assert np.exp(both.log_probabilities(scores)) == pytest.approx([2 / 3, 1 / 3])  # two tokens write "a"
    longer = Labels.of(["a", "ab"], VOCABULARY, (0, 9), 3)
    # "a" twice with two ends behind it; "ab" as one token with two ends, or as two tokens in two ways.
    found = np.exp(longer.log_probabilities(np.zeros((2, len(longer.tokens)))))
    assert found == pytest.approx([4 / 8, 4 / 8])


def test_a_label_that_no_canvas_holds_is_refused():
    with pytest.raises(InputError, match="'xa' cannot be written on a canvas of 3 tokens"):
        Labels.of(["a", "xa"], VOCABULARY, ENDS, 3)
    with pytest.raises(InputError, match="abababab"):
        Labels.of(["a", "abababab"], VOCABULARY, ENDS, 3)
    assert Labels.of(["a", "ababab"], VOCABULARY, ENDS, 3).positions == 3
