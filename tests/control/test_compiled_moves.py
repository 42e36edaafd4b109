"""Moves of tokens by the kernels' library are those of numpy, number for number."""

from __future__ import annotations

import json

import numpy as np
import pytest

from diffusiongemma.control.compiling import CompileJob
from diffusiongemma.control.inference.bundles import Bundles
from diffusiongemma.control.languages.dfa import CharDfa, TooLarge, alphabet_of
from diffusiongemma.control.structure import Structure
from diffusiongemma.control.tokens import moves
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


def _random_walk(rng):
    """Through an automaton over bytes with few live moves, of short random tokens."""
    states = int(rng.integers(1, 7))
    tokens = {bytes(rng.integers(97, 101, int(rng.integers(1, 6))).astype(np.uint8)) for _ in range(60)}
    table = rng.integers(-1, states, (states, 5)).astype(np.int32)
    columns = np.where(np.arange(256) < 101, np.arange(256) % 5, 4)
    alphabet = alphabet_of([((98, 99),)])
    to = np.repeat(np.arange(states)[:, None], alphabet.num_atoms, 1)  # as if nothing changed within a state
    dfa = CharDfa(alphabet, to.astype(np.int32), np.ones(states, bool)) if rng.random() < 0.7 else None
    return moves.Walk(Vocabulary(tuple(sorted(tokens))).trie, table, np.arange(256), columns, dfa)


def test_random_walks_are_numbered_alike():
    rng = np.random.default_rng(2)
    most = 0
    for _ in range(200):
        walk = _random_walk(rng)
        origins = np.union1d(np.flatnonzero(rng.random(len(walk.table)) < 0.8), [0])
        ours, theirs = moves.moves_of_tokens(walk, origins), moves._by_twin(walk, origins)
        for found, twin in zip(ours, theirs, strict=True):
            for name, values in vars(twin).items():
                assert np.array_equal(getattr(found, name), values), name
        most = max(most, ours[0].count)
    assert most > 20


def test_a_walk_with_too_many_moves_is_refused(monkeypatch):
    walk = _random_walk(np.random.default_rng(4))
    monkeypatch.setattr(moves, "MOST_LEADING", 20)
    for find in (moves.moves_of_tokens, moves._by_twin):
        with pytest.raises(TooLarge, match="tells too many tokens apart"):
            find(walk, np.arange(len(walk.table)))


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
