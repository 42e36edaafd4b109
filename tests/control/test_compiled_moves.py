"""Moves of tokens by the kernels' library are those of numpy, number for number."""

from __future__ import annotations

import json

import numpy as np
import pytest

from diffusiongemma.control.compiling import CompileJob
from diffusiongemma.control.inference.bundles import Bundles
from diffusiongemma.control.languages.dfa import CharDfa, alphabet_of
from diffusiongemma.control.structure import Structure
from diffusiongemma.control.tokens.coarse import _included
from diffusiongemma.control.tokens.vocabulary import Vocabulary
from diffusiongemma.kernels import automata
from tests.control.test_compiled_automata import SCHEMAS, library  # noqa: F401 (a fixture)

WORDS = ['{"', '":', '","', '"}', "[", "]", "a", "ab", "bcd", "é", "12", "3.", "null", '"']


@pytest.mark.parametrize("number", range(len(SCHEMAS) - 1))
def test_of_schemas(number, monkeypatch):
    texts = [word.encode() for word in WORDS]
    vocabulary = Vocabulary((None, *(bytes([b]) for b in range(256)), *texts, "éa".encode()[1:]))
    job = CompileJob.of(Structure(json_schema=json.dumps(SCHEMAS[number])), vocabulary, [0])
    constraint = job.run()
    found = constraint.automaton
    monkeypatch.setattr(automata, "available", lambda: False)
    twin = job.run().automaton
    for name in ("accepting", "class_of_token", "source", "label", "target"):
        assert np.array_equal(getattr(found, name), getattr(twin, name))
    for name, values in vars(Bundles.of(found)).items():
        assert np.array_equal(values, getattr(constraint.bundles, name))


def test_which_states_accept_all_that_others_do(monkeypatch):
    rng = np.random.default_rng(1)
    holds = 0
    for _ in range(60):
        states = int(rng.integers(1, 9))
        table = rng.integers(-1, states, (states, 2)).astype(np.int32)
        dfa = CharDfa(alphabet_of([((97, 97),), ((98, 98),)]), table, rng.random(states) < 0.5)
        pairs = {(a, b) for a, b in rng.integers(0, states, (6, 2)).tolist() if a != b}
        found = _included(dfa, pairs)
        with monkeypatch.context() as patch:
            patch.setattr(automata, "available", lambda: False)
            assert found == _included(dfa, pairs)
        holds += len(found)
    assert holds
