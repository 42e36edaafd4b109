"""Canvas events: a reader that knows only the protocol rebuilds every step from them, and they stay small."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import diffusiongemma as dg
from diffusiongemma.diffusion.samplers import Ancestral, Confidence, FixedK
from diffusiongemma.events import CanvasStep
from diffusiongemma.serve.native.frames import FrameEncoder, entropy_letter, ranges
from diffusiongemma.serve.transport.sse import sse


class Reader:
    """What docs/protocol.md says a client does with `canvas` events."""

    def __init__(self):
        self.canvas = None

    def take(self, event):
        if event["canvas"] != self.canvas:
            self.canvas, width = event["canvas"], event["width"]
            self.tokens, self.drafts = [None] * width, [None] * width
        for position, text in zip(positions_of(event["at"]), event["tokens"], strict=True):
            self.tokens[position] = text
        for position, letter in enumerate(event["state"]):
            told = event["drafts"].get(str(position))
            if told is not None:
                self.drafts[position] = told
            elif letter != "n":
                self.drafts[position] = self.tokens[position]


def positions_of(text):
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def rebuilt(steps, text_of, most):
    encode, reader, accepted = FrameEncoder(text_of, most), Reader(), {}
    for step in steps:
        event = encode(step)
        reader.take(event)
        assert reader.tokens == [text_of(t) for t in step.tokens.tolist()]
        assert reader.drafts == [text_of(t) for t in step.argmax.tolist()]
        before = accepted.get(step.canvas, np.zeros(len(step.tokens), bool))
        expected = np.where(step.accepted, np.where(before, "d", "a"), "n").tolist()
        for position in np.flatnonzero(step.pinned).tolist():
            expected[position] = "p"
        expected[: step.sent] = "s" * step.sent
        assert event["state"] == "".join(expected)
        accepted[step.canvas] = before | step.accepted
        assert event["entropy"] == "".join(entropy_letter(x) for x in step.entropy.tolist())
        assert event["level"] == pytest.approx(1 - (step.step - 1) / most, abs=1e-4)
        assert (event["step"], event["width"]) == (step.step, len(step.tokens)) and "cut" not in event


@pytest.mark.parametrize("sampler", [None, Confidence(0.02), FixedK(2), Ancestral()])
def test_every_step_can_be_rebuilt_from_the_events(tiny_directory, sampler):
    model = dg.load(tiny_directory)
    for options in ({}, {"early_steps": 1, "early_entropy": 9.0}, {"pins": {2: 40, 20: 41}}):
        result = model.generate("hi", seed=5, max_new_tokens=40, sampler=sampler, trace=True, **options)
        assert len(result.trace) > 4
        rebuilt(result.trace, lambda t: f"<{t}>", 8)


@given(st.lists(st.integers(0, 60), unique=True).map(sorted))
def test_ranges_read_back(positions):
    assert list(positions_of(ranges(positions))) == positions


def vocabulary_text(seed):
    """Texts like those of a vocabulary of 262,144: mostly short words, many in scripts of two and three bytes a letter,
    some code, some long, some that JSON must escape."""

    def text_of(token):
        draw = random.Random(seed * 2**20 + token)
        alphabet = draw.choice(["etaoinsrhl", "etaoinsrhl", "etaoinsrhl", "абвгде", "漢字仮名交", "กขฃคฅ", '({"\\\n\t'])
        length = min(draw.choice([1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 11, 14]), 3 if alphabet[0] > "\u0e00" else 14)
        return draw.choice(["", " "]) + "".join(draw.choices(alphabet, k=length))

    return text_of


def random_steps(count, width, vocab, settled, seed):
    """Steps of a canvas of which a share has settled; the rest is fresh noise, with fresh drafts, every time."""
    draw = np.random.default_rng(seed)
    final = draw.integers(0, vocab, width)
    for step in range(1, count + 1):
        known = draw.random(width) < settled
        argmax = np.where(known, final, draw.integers(0, vocab, width)).astype(np.int32)
        tokens = np.where(known, final, draw.integers(0, vocab, width)).astype(np.int32)
        entropy = np.where(known, 0.01, 6.0).astype(np.float32)
        yield CanvasStep(0, step, tokens, argmax, known, entropy, 0.6, 0.02)


@pytest.mark.parametrize("settled", [0.0, 0.3, 0.9])
def test_an_event_of_256_tokens_takes_at_most_6_kb(settled):
    text_of, sizes = vocabulary_text(1), []
    encode, reader = FrameEncoder(text_of, 48), Reader()
    for step in random_steps(12, 256, 262_144, settled, 7):
        event = encode(step)
        sizes.append(len(sse(event, "canvas")))
        reader.take(event)
        for position in np.flatnonzero(step.accepted):  # what is no noise is never cut
            assert reader.tokens[position] == text_of(int(step.tokens[position]))
        for kept, whole in zip(reader.tokens, step.tokens.tolist(), strict=True):
            assert text_of(whole).startswith(kept)
    assert max(sizes) <= 6144
    if settled == 0.9:
        assert max(sizes[1:]) < 2500


def test_what_was_cut_is_sent_again():
    text_of, encode, reader = vocabulary_text(1), FrameEncoder(vocabulary_text(1), 48), Reader()
    (step,) = random_steps(1, 256, 262_144, 0.0, 7)
    first = encode(step)
    assert first["cut"] == 0 and len(sse(encode(step), "canvas")) <= 6144
    encode, whole = FrameEncoder(text_of, 48), [text_of(t) for t in step.tokens.tolist()]
    for complete in (False, True):
        reader.take(encode(step))
        assert (reader.tokens == whole) == complete
    assert reader.drafts == [text_of(t) for t in step.argmax.tolist()]


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["\u0001", "😀", '"', "x"]), st.integers(1, 300), st.sampled_from([1, 16, 96, 256, 1024]))
def test_no_vocabulary_breaks_the_limit(letter, length, width):
    (step,) = random_steps(1, width, 9, 0.5, 3)
    event = FrameEncoder(lambda token: letter * length, 48)(step)
    assert len(sse(event, "canvas")) <= max(768, 24 * width)


def test_entropy_levels():
    assert [entropy_letter(x) for x in (0.0, 0.125, 1.0, 12.5, 1e9)] == ["0", "6", "j", "z", "z"]


def test_an_event_is_one_line_of_json():
    text = sse({"text": "a\nb\r\u2028"}, "canvas").decode()
    assert re.fullmatch(r"event: canvas\ndata: [^\n\r]*\n\n", text)


def test_a_canvas_begins_with_the_noise_that_its_first_step_reads(tiny_directory):
    from conftest import CANVAS

    from diffusiongemma.diffusion.noise import INITIAL, Noise

    model, text_of = dg.load(tiny_directory), vocabulary_text(1)
    encode, told = FrameEncoder(text_of, 8), []
    for step in model.generate("hello", seed=5, trace=True, pins={1: 70}).trace:
        if (noise := encode.noise(step)) is not None:
            told.append((step.canvas, step.step, noise))
        encode(step)
    assert [(canvas, step) for canvas, step, _ in told] == [(0, 1), (1, 1)]
    drawn = Noise(5, 0).tokens(0, INITIAL, CANVAS, model.config.vocab_size).tolist()
    drawn[1] = 70
    first = told[0][2]
    assert first["tokens"] == [text_of(token) for token in drawn] and first["step"] == 0 and first["level"] == 1
    assert first["state"] == "np" + "n" * (CANVAS - 2) and first["entropy"] == "z0" + "z" * (CANVAS - 2)
