"""The chain recursions against an oracle that enumerates every token sequence of a toy vocabulary."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from diffusiongemma.control.inference.bundles import Bundles
from diffusiongemma.control.inference.chain import CanvasChain
from diffusiongemma.control.inference.evidence import Evidence, draw_in_rows, token_blocks
from diffusiongemma.control.inference.lattice import build_lattice
from diffusiongemma.control.languages.utf8 import ByteDfa
from diffusiongemma.control.tokens.automaton import TokenAutomaton, compile_tokens
from diffusiongemma.control.tokens.vocabulary import Vocabulary
from diffusiongemma.errors import InputError

TOY = Vocabulary((None, b"a", b"b", b"ab", None, b"ba", b"c", b"b"))
END = 4
V = len(TOY)


@dataclass(frozen=True)
class Case:
    dfa: ByteDfa
    scores: torch.Tensor  # [canvases, C, V]


@st.composite
def cases(draw_from, canvases: int = 1) -> Case:
    states = draw_from(st.integers(1, 4))
    table = np.full((states, 256), -1, np.int32)
    moves = st.lists(st.integers(-1, states - 1), min_size=states * 3, max_size=states * 3)
    table[:, [ord(c) for c in "abc"]] = np.array(draw_from(moves)).reshape(states, 3)
    accepting = np.array(draw_from(st.lists(st.booleans(), min_size=states, max_size=states)))
    positions = draw_from(st.integers(1, 4 if canvases == 1 else 2))
    scale = draw_from(st.sampled_from([0.3, 3.0, 60.0]))
    generator = torch.Generator().manual_seed(draw_from(st.integers(0, 2**31)))
    return Case(ByteDfa(table, accepting), torch.randn(canvases, positions, V, generator=generator) * scale)


def compiled(case: Case) -> TokenAutomaton:
    try:
        return compile_tokens(case.dfa, TOY, [END])
    except InputError:
        assume(False)
        raise


def chain_over(automaton: TokenAutomaton, start: int, positions: int, **rules) -> CanvasChain:
    bundles = Bundles.of(automaton)
    lattice = build_lattice(automaton, bundles, start, positions, **rules)
    return CanvasChain(automaton, bundles, token_blocks(automaton), lattice)


def is_accepted(dfa: ByteDfa, tokens: tuple[int, ...], more: int = 0) -> bool:
    """From the definition: text tokens the DFA accepts (after at most `more` further ones), then end tokens."""
    text = tuple(itertools.takewhile(lambda token: token != END, tokens))
    if any(token != END for token in tokens[len(text) :]) or any(TOY.token_bytes[token] is None for token in text):
        return False
    if dfa.matches(b"".join(TOY.token_bytes[token] for token in text)):
        return True
    return more > 0 and len(text) == len(tokens) and any(is_accepted(dfa, (*tokens, t), more - 1) for t in range(V))


def enumerated(case: Case, scores: torch.Tensor, more: int = 0, prefix: tuple[int, ...] = ()) -> dict[tuple, float]:
    """The exact distribution over accepted sequences."""
    paths = [p for p in itertools.product(range(V), repeat=len(scores)) if is_accepted(case.dfa, prefix + p, more)]
    log_p = np.array([sum(scores[t, v].double().item() for t, v in enumerate(p)) for p in paths])
    p = np.exp(log_p - log_p.max(initial=-np.inf))
    return dict(zip(paths, p / p.sum(), strict=True)) if paths else {}


def marginals(distribution: dict[tuple, float], positions: int) -> np.ndarray:
    table = np.zeros((positions, V))
    for path, probability in distribution.items():
        table[np.arange(positions), path] += probability
    return table


def all_marginals(posterior, positions: int) -> np.ndarray:
    columns = [posterior.log_probability(torch.full((positions,), v)).double().exp() for v in range(V)]
    return torch.stack(columns, 1).numpy()


def entropy_of(p: np.ndarray) -> np.ndarray:
    return -(p * np.log(np.where(p > 0, p, 1))).sum(1)


@settings(max_examples=150, deadline=None)
@given(cases(), st.integers(0, 2))
def test_marginals_entropy_and_best_path_are_exact(case: Case, more: int):
    scores, positions = case.scores[0], case.scores.shape[1]
    automaton = compiled(case)
    expected = enumerated(case, scores, more)
    rules = {"must_finish": more == 0, "remaining": more}
    if not expected:
        with pytest.raises(InputError):
            chain_over(automaton, 0, positions, **rules)
        return
    chain = chain_over(automaton, 0, positions, **rules)
    posterior, exact = chain.posterior(scores), marginals(expected, positions)
    np.testing.assert_allclose(all_marginals(posterior, positions), exact, atol=1e-6)
    np.testing.assert_allclose(posterior.entropy.numpy(), entropy_of(exact), atol=1e-5)
    best = tuple(chain.most_probable_path(scores).tolist())
    assert expected[best] >= max(expected.values()) * (1 - 1e-6)
    mode = posterior.most_probable()[0].numpy()
    np.testing.assert_allclose(exact[np.arange(positions), mode], exact.max(1), atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(cases(canvases=2))
def test_the_state_carries_from_canvas_to_canvas(case: Case):
    """The second canvas, from the state the first one left, knows exactly what may follow."""
    positions = case.scores.shape[1]
    automaton = compiled(case)
    if not enumerated(case, case.scores[0], more=positions):
        return
    first = chain_over(automaton, 0, positions, must_finish=False, remaining=positions)
    tokens = tuple(first.most_probable_path(case.scores[0]).tolist())
    state = automaton.run(tokens)
    assert state >= 0 and is_accepted(case.dfa, tokens, more=positions)
    second = chain_over(automaton, state, positions, must_finish=True)
    expected = enumerated(case, case.scores[1], prefix=tokens)
    exact = marginals(expected, positions)
    np.testing.assert_allclose(all_marginals(second.posterior(case.scores[1]), positions), exact, atol=1e-6)
    best = tuple(second.most_probable_path(case.scores[1]).tolist())
    assert expected[best] >= max(expected.values()) * (1 - 1e-6)
    assert is_accepted(case.dfa, tokens + best)


@settings(max_examples=100, deadline=None)
@given(cases(), st.integers(0, 2**31))
def test_samples_are_possible(case: Case, seed: int):
    scores, positions = case.scores[0], case.scores.shape[1]
    automaton = compiled(case)
    expected = enumerated(case, scores)
    assume(expected)
    chain = chain_over(automaton, 0, positions)
    generator = torch.Generator().manual_seed(seed)
    marginal, log_p = chain.posterior(scores).sample(torch.rand(positions, generator=generator))
    exact = marginals(expected, positions)[np.arange(positions), marginal.numpy()]
    assert (exact > 0).all()
    np.testing.assert_allclose(log_p.exp().numpy(), exact, atol=1e-6)


def test_samples_follow_the_exact_distribution():
    """20,000 draws on a fixed toy: frequencies of marginals within 5 standard errors."""
    table = np.full((2, 256), -1, np.int32)
    table[0, ord("a")], table[0, ord("b")], table[1, ord("b")], table[1, ord("c")] = 1, 0, 0, 1
    case = Case(
        ByteDfa(table, np.array([False, True])), torch.randn(1, 3, V, generator=torch.Generator().manual_seed(3))
    )
    scores, count = case.scores[0], 20_000
    expected = enumerated(case, scores)
    chain = chain_over(compiled(case), 0, 3)
    posterior = chain.posterior(scores)
    uniforms = torch.rand(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    marginal_counts = np.zeros((3, V))
    for u in uniforms:
        marginal_counts[np.arange(3), posterior.sample(u)[0].numpy()] += 1
    p = marginals(expected, 3)
    assert (np.abs(marginal_counts / count - p) <= 5 * np.sqrt(p * (1 - p) / count) + 1e-9).all()


def test_structure_wins_over_impossible_scores():
    """Scores of -inf everywhere, or that forbid what the structure needs, still give an accepted path."""
    table = np.full((3, 256), -1, np.int32)
    table[0, ord("a")], table[1, ord("b")] = 1, 2
    automaton = compile_tokens(ByteDfa(table, np.array([False, False, True])), TOY, [END])
    chain = chain_over(automaton, 0, 3)
    for scores in (
        torch.full((3, V), -torch.inf),
        torch.full((3, V), -torch.inf).index_fill_(1, torch.tensor([6]), 0.0),
    ):
        path = tuple(chain.most_probable_path(scores).tolist())
        assert TOY.decode(path) == "ab" and automaton.run(path) == automaton.done
        assert chain.posterior(scores).entropy.isfinite().all()


def test_long_forced_structure_does_not_underflow():
    """300 forced tokens that the model finds absurd (e^-100 each), with one free choice in the middle."""
    text = b"ab" * 100 + b"c" * 100
    table = np.full((len(text) + 1, 256), -1, np.int32)
    table[np.arange(len(text)), list(text)] = np.arange(1, len(text) + 1)
    automaton = compile_tokens(ByteDfa(table, np.arange(len(text) + 1) == len(text)), TOY, [END])
    scores = torch.full((299, V), -100.0)
    scores[:, 0] = 0.0
    chain = chain_over(automaton, 0, 299)
    posterior = chain.posterior(scores)
    assert posterior.entropy.isfinite().all() and posterior.entropy.max() > 0.1
    assert TOY.decode(chain.most_probable_path(scores).tolist()).encode() == text


def test_no_end_before_the_minimum_length():
    table = np.full((1, 256), -1, np.int32)
    table[0, ord("a")] = 0
    automaton = compile_tokens(ByteDfa(table, np.array([True])), TOY, [END])
    scores = torch.zeros(5, V).index_fill_(1, torch.tensor([END]), 9.0)
    assert chain_over(automaton, 0, 5).most_probable_path(scores).tolist() == [END] * 5
    path = chain_over(automaton, 0, 5, end_not_before=3).most_probable_path(scores).tolist()
    assert path == [1, 1, 1, END, END]


def test_evidence_does_not_depend_on_a_constant_per_row_or_on_the_float_type():
    table = np.full((1, 256), -1, np.int32)
    table[0, [ord(c) for c in "abc"]] = 0
    chain = chain_over(compile_tokens(ByteDfa(table, np.array([True])), TOY, [END]), 0, 4)
    scores = torch.randn(4, V, generator=torch.Generator().manual_seed(0)).bfloat16()
    shifted = scores.double() + torch.tensor([[0.0], [50.0], [-50.0], [7.0]])
    entropy, shifted_entropy = chain.posterior(scores).entropy, chain.posterior(shifted).entropy
    torch.testing.assert_close(shifted_entropy, entropy, atol=1e-5, rtol=1e-5)


def test_scores_need_not_exist_all_at_once():
    """Evidence gathered from a few rows at a time gives the same tokens and numbers."""
    table = np.full((2, 256), -1, np.int32)
    table[0, [ord(c) for c in "abc"]] = table[1, ord("c")] = 1
    chain = chain_over(compile_tokens(ByteDfa(table, np.array([False, True])), TOY, [END]), 0, 5)
    scores, uniforms = torch.randn(5, V, generator=torch.Generator().manual_seed(5)), torch.linspace(0.1, 0.9, 5)
    evidence = Evidence.gathered(iter(scores.split(2)), 5, chain.blocks)
    whole, gathered = chain.posterior(scores), chain.posterior(evidence)
    assert torch.equal(whole.entropy, gathered.entropy)
    assert torch.equal(whole.sample(uniforms)[0], gathered.sample(uniforms)[0])
    assert torch.equal(chain.most_probable_path(scores), chain.most_probable_path(evidence))


def test_draw_leaves_a_uniform_remainder():
    uniforms = np.linspace(0, 1, 10_000, endpoint=False)
    items, left = draw_in_rows(np.tile([1.0, 3.0, 0.0], (10_000, 1)), uniforms)
    assert (items == 0).mean() == pytest.approx(0.25, abs=0.01) and (items < 2).all()
    assert left[items == 1].mean() == pytest.approx(0.5, abs=0.02)
