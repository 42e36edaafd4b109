"""Pins and early text: what is held is held, and what was sent is never taken back."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import diffusiongemma as dg
from diffusiongemma.chat import ReplyStream
from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.diffusion.denoise import Canvas
from diffusiongemma.diffusion.noise import Noise
from diffusiongemma.diffusion.pins import Pins
from diffusiongemma.diffusion.readout import Prediction, read
from diffusiongemma.diffusion.samplers import Ancestral, Confidence, EntropyBound, FixedK
from diffusiongemma.diffusion.stop import Never
from diffusiongemma.engine.engine import Engine
from diffusiongemma.events import CanvasStep, TextDelta
from diffusiongemma.recording import load_trace, save_trace

CANVAS = 16
ENDS = (1, 5)


@pytest.fixture(scope="module")
def model(tiny_directory) -> dg.DiffusionGemma:
    return dg.load(tiny_directory)


# --- pins -----------------------------------------------------------------------------------------------------------

SAMPLERS = [EntropyBound(), EntropyBound(5.0), Confidence(0.3), FixedK(), FixedK(2), Ancestral()]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
@pytest.mark.parametrize("temperature", [0, None, 2.0])
def test_pins_stand_at_every_step_with_every_sampler(model, sampler, temperature):
    pins = {0: 400, 3: 77, 15: 1234, 20: 9, 31: 2000}
    options = dict(steps=4, max_new_tokens=32, sampler=sampler, temperature=temperature, trace=True, stop_rule=Never())
    result = model.generate("hello", pins=pins, seed=4, **options)
    assert len(result.tokens) == 32 and result.canvases == 2, "no end token may come before the last pin"
    for position, token in pins.items():
        assert result.tokens[position] == token
        assert result.logprobs[position] == result.entropies[position] == 0
    assert len(result.trace) == 8
    for step in result.trace:
        mine = {p - step.canvas * CANVAS: t for p, t in pins.items() if p // CANVAS == step.canvas}
        assert np.flatnonzero(step.pinned).tolist() == sorted(mine)
        assert all(step.tokens[p] == step.argmax[p] == t and step.accepted[p] for p, t in mine.items())


def test_the_first_canvas_and_the_soft_embedding_have_the_pin(model):
    backbone, width = model.network.backbone, 6
    pins = Pins.of({1: 40, 4: 41, 9: 1}, width)
    canvas = Canvas.open(None, width, 4096, Noise(1, 0), Decoding(), "cpu", pins)
    bare = Canvas.open(None, width, 4096, Noise(1, 0), Decoding(), "cpu")
    assert canvas.tokens[[1, 4]].tolist() == [40, 41]
    assert torch.equal(canvas.tokens[pins.free], bare.tokens[pins.free])
    hidden = torch.randn(width, model.config.hidden_size)
    free = read(backbone, hidden, torch.ones(width), torch.rand(width), torch.zeros(width, dtype=torch.bool))
    held = pins.hold(free, backbone)
    one_hot = torch.nn.functional.one_hot(torch.tensor([40, 41]), 4096).float()
    assert torch.equal(held.soft[[1, 4]], backbone.soft_embedding(one_hot))
    assert torch.equal(held.soft[pins.free], free.soft[pins.free])
    assert held.argmax[[1, 4]].tolist() == held.sampled[[1, 4]].tolist() == [40, 41]


def test_pins_steer_what_is_free(model):
    """A pin is seen by the model: it is not put into the answer afterwards."""
    free = model.generate("hello", steps=3, seed=1, max_new_tokens=16, eos_token_ids=())
    held = model.generate("hello", steps=3, seed=1, max_new_tokens=16, eos_token_ids=(), pins={2: 999})
    assert any(a != b for i, (a, b) in enumerate(zip(free.tokens, held.tokens, strict=True)) if i != 2)


def test_a_canvas_of_pins_is_done_at_once(model):
    pins = {position: 100 + position for position in range(CANVAS)}
    result = model.generate("hello", steps=8, max_new_tokens=CANVAS, pins=pins)
    assert result.steps == (1,) and result.tokens == tuple(pins.values())


def certain(argmax: list[int], entropy: list[float]) -> Prediction:
    tokens, nats = torch.tensor(argmax), torch.tensor(entropy)
    none = torch.zeros(len(argmax), 0)
    return Prediction(tokens, tokens, nats, -nats, -nats, none, none.long(), none)


def test_the_stop_rule_asks_the_free_positions():
    """Nine pins of entropy 0 would bring a mean of 0.04 under the bound of 0.005."""
    for pins, done in ((Pins.of({p: 7 for p in range(9)}, 10), False), (None, True)):
        canvas = Canvas.open(None, 10, 50, Noise(0, 0), Decoding(), "cpu", pins)
        for _ in range(2):
            canvas.advance(certain([7] * 10, [0.0] * 9 + [0.04]), 50)
        assert canvas.done == done


@pytest.mark.parametrize("mode", ["diffusion", "ar"])
def test_pins_and_a_constraint_agree(model, mode):
    digit = model.tokenizer.encode("7", add_special_tokens=False)[0]
    for position in (0, 5, 20):
        result = model.generate("?", regex=r"\d{24}", pins={position: "7"}, steps=2, max_new_tokens=24, mode=mode)
        assert re.fullmatch(r"\d{24}", result.text) and result.tokens[position] == digit
    with pytest.raises(dg.InputError, match="pinned"):
        model.generate("?", regex=r"[a-z]{24}", pins={20: "7"}, max_new_tokens=24, mode=mode)
    # Two forms, told apart by their first letter: a pin on the second canvas must decide the first.
    forms = r"(a\d{30})|(b[x]{30})"
    for mark, pin in (("a", "7"), ("b", "x")):
        for seed in range(3):
            options = dict(pins={28: pin}, steps=1, max_new_tokens=31, mode=mode, seed=seed, temperature=2.0)
            text = model.generate("?", regex=forms, **options).text
            assert text[0] == mark and re.fullmatch(forms, text)


@pytest.mark.parametrize("pins", [{0: 50, 3: 60, 17: 70}, {2: 1}, {19: 5}])
def test_autoregressive_tokens_are_forced_and_no_end_comes_before(model, pins):
    result = model.generate("hello", mode="ar", max_new_tokens=24, pins=pins, temperature=1.0)
    assert all(result.tokens[position] == token for position, token in pins.items())


@pytest.mark.parametrize(
    ("pins", "words"),
    [
        ({32: 5}, "max_new_tokens"),
        ({-1: 5}, "position"),
        ({0: 4096}, "not in the vocabulary"),
        ({0: -2}, "not in the vocabulary"),
        ({0: 1.5}, "not in the vocabulary"),
        ({3: 1, 4: 80}, "end token"),
        ({0: "two words at least"}, "is 6 tokens"),
        ({0: ""}, "is 0 tokens"),
    ],
)
def test_pins_that_cannot_be_kept_are_refused(model, pins, words):
    with pytest.raises(dg.InputError, match=words) as caught:
        model.generate("x", pins=pins, max_new_tokens=32)
    assert "\n" not in str(caught.value)


# --- early text -----------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    steps=st.integers(2, 8),
    early_steps=st.integers(1, 3),
    early_entropy=st.sampled_from([0.5, 3.0, 100.0]),
    temperature=st.sampled_from([None, 0, 0.1, 2.0]),
    sampler=st.sampled_from(SAMPLERS),
    ends=st.sampled_from([ENDS, (), tuple(range(300, 700))]),
    regex=st.sampled_from([None, None, r"(\d|é|☃){5,30}", r"[a-z]+( [a-z]+)*"]),
)
def test_what_was_sent_is_never_retracted(model, regex, ends, **options):
    options |= dict(max_new_tokens=2 * CANVAS + 3, trace=True) | (
        dict(regex=regex) if regex else dict(eos_token_ids=ends)
    )
    events = list(model.stream("hello", **options))
    result = events[-1].result
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == result.text
    assert model.generate("hello", **options).text == result.text
    assert regex is None or re.fullmatch(regex, result.text)
    held: dict[int, np.ndarray] = {}
    for step in result.trace:
        before = held.get(step.canvas, np.zeros(0, np.int32))
        assert step.sent >= len(before) and (step.tokens[: len(before)] == before).all()
        assert step.pinned[: step.sent].all()
        held[step.canvas] = step.tokens[: step.sent]
    # The tokens of an answer that were sent early are those it was committed with.
    offset = 0
    for canvas, taken in held.items():
        kept = result.tokens[offset : offset + CANVAS]
        assert tuple(taken[: len(kept)]) == kept[: len(taken)], canvas
        offset += CANVAS


def test_early_text_goes_out_before_the_commit(model):
    events = list(model.stream("hello", early_steps=1, early_entropy=100.0, steps=8, eos_token_ids=(), seed=3))
    first = next(i for i, e in enumerate(events) if isinstance(e, TextDelta))
    assert sum(isinstance(e, CanvasStep) for e in events[first:]) > 0
    assert any(e.sent for e in events if isinstance(e, CanvasStep))
    result = events[-1].result
    assert all(entropy > 0 for entropy in result.entropies), "of the step at which each token was pinned"


def test_off_means_off(model):
    plain = model.generate("hello", seed=3, trace=True)
    never = model.generate("hello", seed=3, early_steps=100, trace=True)
    assert plain.tokens == never.tokens and all(step.sent == 0 and not step.pinned.any() for step in never.trace)


def test_an_end_token_in_the_stable_prefix_ends_the_canvas():
    decoding = Decoding.of(early_steps=1, early_entropy=0.1, eos_token_ids=(1,))
    for argmax, done in (([7, 1, 3, 4], True), ([7, 8, 3, 1], False)):
        canvas = Canvas.open(None, 4, 50, Noise(0, 0), decoding, "cpu")
        for _ in range(2):
            canvas.advance(certain(argmax, [0.0, 0.05, 2.0, 2.0]), 50)
        assert canvas.frozen == 2 and canvas.done == done


@pytest.mark.parametrize("name", ["early_steps", "early_entropy"])
def test_early_options_are_checked(model, name):
    with pytest.raises(dg.InputError, match="early"):
        model.generate("x", **{name: -1})


@given(
    st.lists(
        st.sampled_from(
            [
                "<channel|>",
                "<|channel>",
                "thought\n",
                "ab ",
                "c",
                "<turn|>",
                "<|turn>",
                "model\n",
                "<|tool_call>call:f{",
                "}",
            ]
        )
    )
)
def test_a_binding_reply_is_what_was_said_of_it(nano_tokenizer, pieces):
    stream = ReplyStream(nano_tokenizer, binding=True)
    ids = [nano_tokenizer.encode(piece, add_special_tokens=False) for piece in pieces]
    deltas = [*map(stream.push, ids), stream.finish()]
    assert "".join(delta.text for delta in deltas) == stream.reply.text
    assert "".join(delta.thinking for delta in deltas) == (stream.reply.thinking or "")


@pytest.fixture(scope="module")
def nano_tokenizer(model):
    return model.tokenizer


def test_traces_keep_pins_and_what_was_sent(model, tmp_path):
    options = dict(early_steps=1, early_entropy=100.0, steps=8, eos_token_ids=(), trace=True)
    requests = [model.request("hello", pins={0: 50}, id=seed, seed=seed, **options) for seed in range(2)]
    results = Engine(model.network, model.tokenizer).results(requests)
    request, result = next(pair for pair in zip(requests, results, strict=True) if any(s.sent for s in pair[1].trace))
    save_trace(tmp_path / "a.npz", result, prompt="", prompt_ids=[], model="", config=request.config, text_of=str)
    again = load_trace(tmp_path / "a.npz").result
    for old, new in zip(result.trace, again.trace, strict=True):
        assert old.sent == new.sent and np.array_equal(np.flatnonzero(old.pinned), np.flatnonzero(new.pinned))
