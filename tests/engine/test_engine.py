"""Many requests, one model: batches do not mix, places are freed, sessions reuse their cache."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import build

import diffusiongemma as dg
from diffusiongemma.chat import Prompt
from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.diffusion.readout import read_each
from diffusiongemma.diffusion.samplers import Ancestral, Confidence, FixedK
from diffusiongemma.engine import engine as engine_module
from diffusiongemma.engine.auto import Auto
from diffusiongemma.engine.chunks import chunk_bounds
from diffusiongemma.engine.engine import Engine
from diffusiongemma.engine.request import Request
from diffusiongemma.events import CanvasCommitted, CanvasStep, Finished, TextDelta
from diffusiongemma.weights.locate import ASSETS

NANO_TOKENS = 4096


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> dg.DiffusionGemma:
    """A random model with the embedded tokenizer, its self-conditioning weak enough not to be chaotic."""
    directory = tmp_path_factory.mktemp("random")
    reference = build(0, 8, vocab_size=NANO_TOKENS, image_token_id=17)
    with torch.no_grad():
        reference.model.decoder.self_conditioning.down_proj.weight.mul_(0.2)
    reference.save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(ASSETS / "nano" / name, directory)
    return dg.load(directory)


MIXED = dict(
    seed=[1, 2, 3, 4, 5, 6],
    steps=[3, 9, 5, 2, 7, 4],
    max_new_tokens=[8, 30, 16, 5, 24, 40],
    temperature=[None, 0.5, 1.5, 0, 2.0, None],
    sampler=[None, Confidence(0.5), FixedK(), Ancestral(), None, FixedK(2)],
    mode=["diffusion", "diffusion", "ar", "diffusion", "diffusion", "ar"],
    top_p=[1.0, 0.9, 1.0, 0.5, 0.8, 0.6],
    top_logprobs=[0, 3, 2, 0, 5, 1],
)


def test_a_request_gives_the_same_alone_and_in_any_batch(model):
    prompts = ["one", "a longer prompt, with some words", "x" * 200, "12", "Solve", "naïve ☃"]
    together = model.generate(prompts, max_batch=6, **MIXED)
    few_places = model.generate(prompts, max_batch=2, **MIXED)
    alone = [model.generate(p, **{k: v[i] for k, v in MIXED.items()}) for i, p in enumerate(prompts)]
    for a, b, c in zip(together, few_places, alone, strict=True):
        assert a.tokens == b.tokens == c.tokens
        assert (a.steps, a.text, a.finish_reason, a.forward_passes) == (
            c.steps,
            c.text,
            c.finish_reason,
            c.forward_passes,
        )
        assert a.logprobs == pytest.approx(c.logprobs, abs=0.02)
        assert _told(a) == _told(b) == _told(c)
    assert [len(r.alternatives) // len(r.tokens) for r in alone] == [0, 1, 1, 0, 1, 1]


def test_a_step_encodes_once_denoises_once_and_reads_what_it_can_together(model, monkeypatch):
    """Whatever phases the requests are in."""
    calls = []
    for name in ("encode_rows", "denoise_rows"):
        run = getattr(model.network, name)
        counted = lambda rows, *rest, name=name, run=run: calls.append((name, len(rows))) or run(rows, *rest)  # noqa: E731
        monkeypatch.setattr(model.network, name, counted)
    monkeypatch.setattr(
        engine_module,
        "read_each",
        lambda head, all, **how: calls.append(("read", len(all))) or read_each(head, all, **how),
    )
    options = dict(max_new_tokens=16, steps=3, eos_token_ids=())
    modes = [{"mode": "ar"}, {"mode": "ar", "top_p": 0.5}, {}, {"verify": "always"}, {}]
    requests = [model.request("hello", id=i, seed=i, **options, **mode) for i, mode in enumerate(modes)]
    engine = Engine(model.network, model.tokenizer)
    for request in requests:
        engine.submit(request)
    seen = []
    while engine.busy:
        calls.clear()
        engine.step()
        assert [name for name, _ in calls].count("encode_rows") <= 1
        assert [name for name, _ in calls].count("denoise_rows") <= 1
        seen += calls
    assert ("encode_rows", 5) in seen and ("denoise_rows", 3) in seen
    assert ("read", 3) in seen, "two tokens and a draft"


def _told(result):
    return [[token for token, _ in alternatives] for alternatives in result.alternatives]


@pytest.mark.parametrize("held", [{}, {"regex": "[a-f]{4}"}, {"pins": {0: "a", 2: "b"}}, {"early_steps": 1}])
@pytest.mark.parametrize("mode", ["diffusion", "ar"])
def test_alternatives_are_those_of_the_distribution_the_tokens_are_from(model, mode, held):
    if mode == "ar":
        held = {name: value for name, value in held.items() if name != "early_steps"}
    options = dict(mode=mode, steps=4, max_new_tokens=8, seed=3, temperature=1.5, early_entropy=9.0, **held)
    result, plain = model.generate("hi", top_logprobs=4, **options), model.generate("hi", **options)
    assert result.tokens == plain.tokens and result.logprobs == plain.logprobs and plain.alternatives == ()
    assert len(result.alternatives) == len(result.tokens)
    for token, logprob, told in zip(result.tokens, result.logprobs, result.alternatives, strict=True):
        assert [p for _, p in told] == sorted((p for _, p in told), reverse=True) and 1 <= len(told) <= 4
        assert sum(np.exp(p) for _, p in told) <= 1 + 1e-5
        assert dict(told).get(token, logprob) == pytest.approx(logprob, abs=1e-4)
    if "regex" in held:
        written = {model.tokenizer.decode(token) for token, _ in result.alternatives[0]}
        assert all(set(text) <= set("abcdef") for text in written)
    if "pins" in held:
        assert [len(result.alternatives[i]) for i in (0, 2)] == [1, 1], "a pin leaves no alternative"


@pytest.mark.parametrize("mode", ["diffusion", "ar"])
@pytest.mark.parametrize("bias", [None, {"q": 1.0}])
def test_a_nucleus_of_one_token_leaves_no_doubt(model, mode, bias):
    options = dict(mode=mode, steps=4, max_new_tokens=8, temperature=1.5, logit_bias=bias, top_logprobs=3)
    sure, free = model.generate("hi", top_p=0.0, **options), model.generate("hi", **options)
    assert set(sure.entropies) == set(sure.logprobs) == {0.0} and min(free.entropies) > 0
    assert [len(told) for told in sure.alternatives] == [1] * len(sure.tokens)


def test_seeds_matter_and_repeat(model):
    a, b, c = (model.generate("hello", seed=s, steps=4, max_new_tokens=16) for s in (7, 7, 8))
    assert a.tokens == b.tokens != c.tokens


def test_a_finished_request_frees_its_place(model):
    engine = Engine(model.network, model.tokenizer, max_batch=2)
    lengths = [8, 40, 8, 8]
    for i, n in enumerate(lengths):
        options = dict(steps=2, max_new_tokens=n, eos_token_ids=())
        engine.submit(Request(Prompt([5, 6], [], []), Decoding.of(**options), id=i))
    finished, most = [], 0
    while engine.busy:
        finished += [e.request for e in engine.step() if isinstance(e, Finished)]
        most = max(most, len(engine.running))
    assert most == 2 and finished == [0, 2, 3, 1], "the short ones pass through beside the long one"


def test_a_cancelled_request_leaves_with_what_it_had(model):
    engine = Engine(model.network, model.tokenizer, max_batch=1)
    config = Decoding.of(steps=2, max_new_tokens=80, eos_token_ids=())
    for i in (0, 1):
        engine.submit(Request(Prompt([5, 6], [], []), config, id=i))
    for _ in range(7):
        engine.step()
    partial = engine.cancel(0)
    assert partial is not None and 0 < len(partial.tokens) < 80 and partial.finish_reason == "cancelled"
    assert engine.cancel(1) is None and not engine.busy


def test_events_tell_the_whole_story(model):
    events = list(model.stream("hello", steps=3, max_new_tokens=20, seed=2, eos_token_ids=(), trace=True))
    steps = [e for e in events if isinstance(e, CanvasStep)]
    commits = [e for e in events if isinstance(e, CanvasCommitted)]
    result = events[-1].result
    assert [(s.canvas, s.step) for s in steps] == [(c, s) for c in range(3) for s in (1, 2, 3)]
    assert tuple(t for c in commits for t in c.tokens) == result.tokens and len(result.tokens) == 20
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == result.text
    assert [s.step for s in result.trace] == [s.step for s in steps]
    for step, later in pairwise(steps):
        assert len(step.tokens) == 8 and step.entropy.shape == (8,) and step.accepted.dtype == bool
        if later.step > step.step:
            assert later.temperature < step.temperature
    assert commits[0].tokens == tuple(steps[2].argmax), "the argmax of the last step is what is committed"
    assert result.settled[:8] == tuple(_settled(steps[:3]))
    assert result.forward_passes == 9 + 2 and result.tokens_per_forward == pytest.approx(20 / 11)


def _settled(steps):
    for position in range(8):
        column = [s.argmax[position] for s in steps]
        yield max([1] + [i + 1 for i in range(1, 3) if column[i] != column[i - 1]])


def test_auto_measures_and_says_why(model):
    result = model.generate("hello", mode="auto", steps=2, max_new_tokens=8)
    assert result.mode in ("diffusion", "ar") and "is faster here" in result.note
    model.auto.step_seconds, model.auto.token_seconds = 1.0, 0.001
    assert model.generate("hello", mode="auto", steps=2, max_new_tokens=8).mode == "ar"
    model.auto.step_seconds, model.auto.token_seconds = 0.001, 1.0
    assert model.generate("hello", mode="auto", steps=2, max_new_tokens=8).mode == "diffusion"


def test_auto_measures_again_when_requests_run_otherwise(model):
    auto, once = Auto(model.network, 0.01, 0.01), model.generate("hello", max_new_tokens=16)
    slow = replace(once, forward_passes=10, seconds=1.0)
    as_measured = replace(slow, seconds=0.1)
    for result in (slow, as_measured, slow):
        auto.saw(result, alone=True)
        assert auto.step_seconds == 0.01
    for _ in range(3):
        auto.saw(slow)  # its seconds are those of its batch
    assert auto.step_seconds == 0.01
    auto.saw(slow, alone=True)
    assert auto.step_seconds is None and auto.token_seconds is None
    assert auto.choose(model.generation)[0] in ("diffusion", "ar") and auto.step_seconds > 0


@pytest.mark.parametrize("mode", ["diffusion", "ar"])
def test_a_second_turn_encodes_only_what_is_new(model, mode, monkeypatch):
    chat = model.chat(system="Be brief.", steps=2, max_new_tokens=16, mode=mode)
    first = chat.send("hello")
    encoded = []
    original = model.network.encode_rows

    def counted(rows, x, images=None):
        encoded.append(len(x[0]))
        return original(rows, x, images)

    monkeypatch.setattr(model.network, "encode_rows", counted)
    second = chat.send("and again")
    assert first.cached_tokens == 0 and second.cached_tokens >= first.prompt_tokens
    assert encoded[0] == second.prompt_tokens - second.cached_tokens
    # The reused cache changes nothing: the same conversation from the start gives the same answer.
    fresh = model.generate([*chat.messages[:-1]], steps=2, max_new_tokens=16, mode=mode)
    assert fresh.tokens == second.tokens and fresh.cached_tokens == 0


def test_a_turn_that_is_broken_off_leaves_the_conversation_as_it_was(model):
    chat = model.chat(steps=3, max_new_tokens=32)
    chat.send("hello")
    before = list(chat.messages)
    stream = chat.stream("never finished")
    next(stream)
    stream.close()
    assert chat.messages == before
    again = chat.send("second")
    fresh = model.generate(chat.messages[:-1], steps=3, max_new_tokens=32)
    assert again.tokens == fresh.tokens


@pytest.mark.parametrize(
    ("prompt", "options", "words"),
    [
        ("", {}, "empty"),
        ([], {}, "empty"),
        ([5, 4096], {}, "outside the vocabulary"),
        ([-1], {}, "outside the vocabulary"),
        ([5] * 4090, {}, "shorten the prompt"),
        ([5], dict(max_new_tokens=5000), "max_new_tokens is 5000: .* lower it"),
        ("x", dict(max_new_tokens=0), "max_new_tokens"),
        ("x", dict(steps=-1), "steps"),
        ("x", dict(nonsense=1), "nonsense"),
        (["x", "y"], dict(seed=[1, 2, 3]), "one per prompt"),
        ([{"role": "king", "content": "x"}], {}, "role"),
    ],
)
def test_bad_requests_are_refused_in_one_line(model, prompt, options, words):
    with pytest.raises(dg.InputError, match=words) as caught:
        model.generate(prompt, **options)
    assert "\n" not in str(caught.value)


def test_a_prompt_that_just_fits_runs(model):
    size = model.config.max_position_embeddings
    result = model.generate([5] * (size - 16), steps=1, max_new_tokens=16, eos_token_ids=())
    assert len(result.tokens) == 16


@given(
    st.integers(0, 50),
    st.integers(1, 3000),
    st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 300)), max_size=5),
    st.integers(1, 700),
)
def test_chunks_cover_the_prompt_and_divide_no_image(start, extra, sizes, size):
    spans, at = [], start
    for gap, width in sizes:
        spans.append((at + gap, at + gap + width))
        at += gap + width
    length = max(start + extra, at)
    bounds = list(chunk_bounds(start, length, spans, size))
    assert bounds[0][0] == start and bounds[-1][1] == length
    assert all(a[1] == b[0] for a, b in pairwise(bounds))
    assert not any(first < end < last for _, end in bounds for first, last in spans)


def test_tensors_are_prompts_too(model):
    ids = torch.tensor([[5, 6, 7]])
    assert model.generate(ids, steps=1).tokens == model.generate([5, 6, 7], steps=1).tokens
