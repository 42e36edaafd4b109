"""Kept beginnings of prompts, the memory they and requests take, and branches from a seed's path."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import diffusiongemma as dg
from diffusiongemma.chat import Prompt
from diffusiongemma.diffusion.samplers import Confidence, FixedK
from diffusiongemma.engine.branch import Branch
from diffusiongemma.engine.engine import Engine
from diffusiongemma.engine.memory import cache_bytes
from diffusiongemma.engine.prefixes import Prefixes
from diffusiongemma.errors import InputError
from diffusiongemma.events import Finished

BIG = 2**30


@pytest.fixture(scope="module", params=[False, True], ids=["full cache", "8-bit cache"])
def model(request, tiny_directory):
    loaded = dg.load(tiny_directory)
    loaded.network.eight_bit_cache = request.param
    return loaded


def ids(length, seed=0):
    return torch.randint(10, 4000, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def run(engine, model, prompts, **options):
    options = {"max_new_tokens": 20, "seed": 4} | options
    requests = [model.request(Prompt(p, [], []), id=i, **options) for i, p in enumerate(prompts)]
    return engine.results(requests)


def engine_of(model, budget=BIG, block=32):
    prefixes = Prefixes(model.network, budget, block)
    return Engine(model.network, model.tokenizer, 4, budget=BIG, prefixes=prefixes), prefixes


@settings(deadline=None)
@given(st.integers(1, 700), st.integers(1, 64))
def test_chunks_cover_the_prompt(length, block):
    prefixes = Prefixes.__new__(Prefixes)
    prefixes.block = block
    bounds = prefixes.bounds(0, length)
    assert [i for a, b in bounds for i in range(a, b)] == list(range(length))
    assert all(b - a == block for a, b in bounds[:-1])
    assert bounds[-1][1] > bounds[-1][0]
    for start, _ in bounds:
        assert prefixes.bounds(start, length) == [pair for pair in bounds if pair[0] >= start]


@pytest.mark.parametrize("block", [16, 32, 128])
@pytest.mark.parametrize("mode", ["diffusion", "ar"])
def test_reuse_changes_no_bit(model, block, mode):
    """Prompts that share 0, 100 and 299 tokens: caches and answers are those of a server that kept nothing."""
    base = ids(300)
    prompts = [base, base[:100] + ids(150, 1), base[:299] + ids(40, 2), base]
    warm, prefixes = engine_of(model, block=block)
    cached = []
    for prompt in prompts:
        (with_reuse,) = run(warm, model, [prompt], mode=mode)
        (without,) = run(engine_of(model, block=block)[0], model, [prompt], mode=mode)
        assert (with_reuse.tokens, with_reuse.logprobs) == (without.tokens, without.logprobs)
        cached.append(with_reuse.cached_tokens)
    # What can be kept of the first prompt, and what each one shares with it.
    expected = [min(shared, 299) // block * block for shared in (0, 100, 299, 300)]
    assert cached == expected
    assert prefixes.nbytes == sum(b.nbytes for b in prefixes._blocks.values())


def test_restored_caches_are_bitwise_those_of_encoding(model):
    prompt = ids(200)
    engine, prefixes = engine_of(model)
    run(engine, model, [prompt])
    restored = prefixes.restore(prompt)
    assert restored.length == 192
    fresh = model.network.new_sequence()
    for start, end in prefixes.bounds(0, 200)[:-1]:
        model.network.encode_rows([fresh], [model.network.backbone.embed(torch.tensor(prompt[start:end]))])
    for ours, theirs in zip(restored.layers, fresh.layers, strict=True):
        held = slice(ours.start, ours.end), slice(theirs.start, theirs.end)
        assert torch.equal(ours.keys[:, held[0]], theirs.keys[:, held[1]])
        assert torch.equal(ours.values[:, held[0]], theirs.values[:, held[1]])


def test_the_blocks_used_longest_ago_make_room(model):
    engine, prefixes = engine_of(model)
    run(engine, model, [ids(300)])
    one = prefixes.nbytes // len(prefixes)
    engine, prefixes = engine_of(model, budget=5 * one)
    a, b = ids(120, 1), ids(120, 2)  # three blocks each
    run(engine, model, [a])
    run(engine, model, [b])
    assert prefixes.nbytes <= 5 * one and len(prefixes) == 5
    assert run(engine, model, [b])[0].cached_tokens == 96
    assert run(engine, model, [a])[0].cached_tokens == 64  # its last block went first
    prefixes.shrink(0)
    assert (prefixes.nbytes, len(prefixes)) == (0, 0)


def test_prompts_with_images_are_left_alone(model):
    engine, _ = engine_of(model)
    request = model.request(Prompt(ids(100), [None], [(0, 4)]), max_new_tokens=4)
    assert engine._with_prefix(request) is request


@pytest.mark.parametrize("tokens", [1, 40, 300, 1500, 4000])
def test_the_estimate_is_above_what_caches_take_and_not_far(model, tokens):
    caches = model.network.new_sequence()
    x = model.network.backbone.embed(torch.zeros(tokens, dtype=torch.long))
    most = 0
    for chunk in x.split(1024):
        model.network.encode_rows([caches], [chunk])
        most = max(most, caches.nbytes())
    model.network.denoise_rows([caches], [torch.zeros(16, dtype=torch.long)], [None])
    most = max(most, caches.nbytes())
    estimate = cache_bytes(model.network, tokens + 16)
    assert most <= estimate <= 4 * most


def test_requests_wait_for_memory_and_none_is_started_beyond_it(model):
    need = cache_bytes(model.network, 100 + 32)
    engine = Engine(model.network, model.tokenizer, 8, budget=2 * need + 1)
    for i in range(5):
        engine.submit(model.request(Prompt(ids(100, i), [], []), max_new_tokens=20, id=i))
    most, done = 0, []
    while engine.busy:
        done += [e.request for e in engine.step() if isinstance(e, Finished)]
        most = max(most, len(engine.running))
    assert most == 2 and sorted(done) == [0, 1, 2, 3, 4]
    with pytest.raises(InputError, match="GiB"):
        engine.submit(model.request(Prompt(ids(4000), [], []), max_new_tokens=20))


# --- one request breaks ---------------------------------------------------------------------------------------------


class Broken:
    def __call__(self, *_):
        raise RuntimeError("broken on purpose")


@pytest.mark.parametrize("place", ["sampler", "constraint"])
def test_what_breaks_in_one_request_ends_that_one_only(model, place):
    engine = Engine(model.network, model.tokenizer, 4, isolate=True)
    requests = [model.request("hello", seed=i, max_new_tokens=20, id=i, regex="[a-z ]{1,19}") for i in range(3)]
    expected = [engine.results([r])[0].tokens for r in requests]
    if place == "sampler":
        requests[1] = model.request("hello", seed=1, max_new_tokens=20, id=1, sampler=Broken())
    else:
        requests[1] = replace(requests[1], constraint=Broken())
    results = {e.request: e.result for e in engine.run(requests) if isinstance(e, Finished)}
    assert set(results) == {0, 2} and set(engine.failed) == {1} and not engine.running
    assert [results[i].tokens for i in (0, 2)] == [expected[0], expected[2]]
    with pytest.raises(RuntimeError, match="on purpose"):
        Engine(model.network, model.tokenizer).results([model.request("hello", sampler=Broken(), max_new_tokens=20)])


class BrokenAt:
    """A sampler that breaks at one step."""

    def __init__(self, step):
        self.sampler, self.step = Confidence(), step

    def __call__(self, tokens, prediction, context):
        if context.step == self.step:
            raise RuntimeError("broken on purpose")
        return self.sampler(tokens, prediction, context)


@pytest.mark.parametrize("step", [1, 2, 8])
def test_what_breaks_at_any_step_takes_none_from_the_others(model, step):
    options = {"max_new_tokens": 40, "steps": 8, "trace": True}
    requests = [model.request("hello", seed=i, id=i, **options) for i in range(3)]
    expected = [Engine(model.network, model.tokenizer).results([r])[0] for r in requests]
    requests[1] = model.request("hello", seed=1, id=1, sampler=BrokenAt(step), **options)
    engine = Engine(model.network, model.tokenizer, 4, isolate=True)
    results = {e.request: e.result for e in engine.run(requests) if isinstance(e, Finished)}
    assert set(results) == {0, 2} and set(engine.failed) == {1}
    for i in (0, 2):
        assert results[i].tokens == expected[i].tokens
        assert [s.step for s in results[i].trace] == [s.step for s in expected[i].trace]


# --- branches -------------------------------------------------------------------------------------------------------


def trace(model, branch=None, seed=7):
    request = model.request("hello", seed=seed, max_new_tokens=40, trace=True, branch=branch)
    return Engine(model.network, model.tokenizer).results([request])[0]


@pytest.mark.parametrize(("canvas", "step"), [(0, 0), (0, 3), (1, 2), (9, 1)])
def test_a_branch_follows_the_seed_up_to_its_step(model, canvas, step):
    base, other = trace(model), trace(model, Branch(canvas, step, seed=8))
    same = [e for e in base.trace if (e.canvas, e.step) <= (canvas, step)]
    assert len(base.steps) > 2
    for a, b in zip(same, other.trace, strict=False):
        assert (a.canvas, a.step) == (b.canvas, b.step) and (a.tokens == b.tokens).all()
    assert (other.tokens == base.tokens) == (canvas == 9)
    assert trace(model, Branch(canvas, step, seed=7)).tokens == base.tokens
    assert trace(model, Branch(canvas, step, seed=8)).tokens == other.tokens


def test_a_branch_can_change_the_sampler(model):
    base, other = trace(model), trace(model, Branch(0, 3, sampler=FixedK(1)))
    for a, b in zip(base.trace[:3], other.trace[:3], strict=True):
        assert (a.accepted == b.accepted).all()
    assert other.trace[3].accepted.sum() == 4  # FixedK keeps one a step
    with pytest.raises(InputError):
        Branch(-1, 0)
