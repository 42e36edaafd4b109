"""Infilling: the text around the holes stays byte for byte, whatever it is and wherever a hole cuts it."""

from __future__ import annotations

import os
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import diffusiongemma as dg
from diffusiongemma.engine.engine import Engine
from diffusiongemma.engine.plans.infill import candidate_lengths, length_bounds
from diffusiongemma.engine.plans.layout import Strip
from diffusiongemma.engine.plans.plan import drive
from diffusiongemma.text.holes import split_at
from diffusiongemma.text.seams import TextTokens

TEXTS = int(os.environ.get("DIFFUSIONGEMMA_INFILLS", "1000"))
CANVAS = 16


@pytest.fixture(scope="module")
def model(tiny_directory) -> dg.DiffusionGemma:
    return dg.load(tiny_directory)


@pytest.fixture(scope="module")
def tokens(model) -> TextTokens:
    return model._text_tokens


RANGES = [(0x20, 0x7E)] * 6 + [(0xA0, 0x24F), (0x370, 0x3FF), (0x590, 0x6FF), (0x900, 0x97F), (0x2600, 0x26FF),
          (0x4E00, 0x9FFF), (0x1F300, 0x1FAFF), (0, 0x1F), (0x300, 0x36F), (0x200B, 0x200F), (0xE000, 0xE010),
          (0xFDD0, 0xFDEF), (0xFFF0, 0xFFFF), (0x10FF00, 0x10FFFF)]  # fmt: skip
WORDS = (
    "Hello",
    " the",
    " cat",
    "\n",
    " sat",
    "naïve",
    "<turn|>",
    "<eos>",
    "<|channel>",
    "['x']",
    "12.5",
    "  ",
    "é",
    "☃",
)


def some_text(rng: random.Random, most: int = 12) -> str:
    def piece() -> str:
        return rng.choice(WORDS) if rng.random() < 0.5 else chr(rng.randint(*rng.choice(RANGES)))

    return "".join(piece() for _ in range(rng.randint(0, most)))


def check_whole(result, texts):
    """The whole text is the texts with the fills between, exactly."""
    assert len(result.fills) == len(texts) - 1 == len(result.lengths)
    expected = texts[0] + "".join(fill + text for fill, text in zip(result.fills, texts[1:], strict=True))
    assert result.text.encode() == expected.encode()


def test_a_thousand_texts_and_holes(model, tokens):
    """Random Unicode, cut anywhere, filled in batches of 40; short texts, so that both seams are close."""
    rng = random.Random(7)
    jobs = []
    for _ in range(TEXTS):
        whole = some_text(rng)
        cuts = sorted(rng.randint(0, len(whole)) for _ in range(rng.choice((2, 2, 2, 4))))
        pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        jobs.append((pieces[::2], rng.randint(1, 3), rng.choice((0, None, 2.0))))
    for first in range(0, len(jobs), 40):
        for (texts, length, _), result in run_together(model, jobs[first : first + 40]):
            check_whole(result, texts)
            assert result.lengths == (length,) * (len(texts) - 1)


def run_together(model, jobs):
    """Plans run side by side, the requests of one turn of all of them in one batch, as a server would."""
    plans = [
        model.infill_plan(texts, length=length, steps=1, temperature=temperature, seed=i)
        for i, (texts, length, temperature) in enumerate(jobs)
    ]
    waiting = {i: next(plan) for i, plan in enumerate(plans)}
    done = {}
    while waiting:
        asked = [request for requests in waiting.values() for request in requests]
        batch = [replace(request, id=number) for number, request in enumerate(asked)]
        results = iter(Engine(model.network, model.tokenizer, len(batch)).results(batch))
        for i, requests in list(waiting.items()):
            try:
                waiting[i] = plans[i].send([next(results) for _ in requests])
            except StopIteration as stop:
                done[i] = stop.value
                del waiting[i]
    return [(job, done[i]) for i, job in enumerate(jobs)]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30))
def test_text_to_tokens_and_back(tokens, text):
    assert tokens.bytes_of(tokens.encode(text)) == text.encode()


def test_markers_in_a_text_are_text(tokens, model):
    for text in ("a<turn|>b", "<eos><eos>", "<|channel>thought"):
        ids = tokens.encode(text)
        assert tokens.bytes_of(ids) == text.encode() and not set(ids) & set(model.tokenizer.all_special_ids)


def test_a_vocabulary_without_a_text_is_refused_and_a_lossy_tokenizer_spelt_out(model):
    class Lossy:
        added_tokens_decoder = {}

        def encode(self, text, add_special_tokens):
            return model.tokenizer.encode(text.lower(), add_special_tokens=False)

    vocabulary = model._text_tokens.vocabulary
    lossy = TextTokens(Lossy(), vocabulary, (1,))
    assert lossy.bytes_of(lossy.encode("Hello ☃")) == "Hello ☃".encode()
    without = TextTokens(
        Lossy(), vocabulary.without([t for t, b in enumerate(vocabulary.token_bytes) if b == b"H"]), (1,)
    )
    with pytest.raises(dg.InputError, match="cannot write"):
        without.encode("H\x00H")


def test_a_hole_inside_a_word_shares_its_tokens(model, tokens):
    """The prefix's last token is opened up: the canvas can write the word as one token, and the characters stay."""
    strip = Strip.of(["The ca", "ed."], tokens)
    (seam,) = strip.seams
    assert tokens.bytes_of(seam.before) and b"The ca".endswith(tokens.bytes_of(seam.before))
    assert tokens.bytes_of([*strip.texts[0], *seam.before]) == b"The ca"
    assert tokens.bytes_of([*seam.after, *strip.texts[1]]) == b"ed."
    first = tokens.starting_with(tokens.bytes_of(seam.before))
    assert len(first) > 1 and all(tokens.bytes_of([t]).startswith(tokens.bytes_of(seam.before)) for t in first)
    spread = {
        model.infill("The ca", "ed.", length=1, steps=1, seed=s, temperature=2.0).result.tokens[0] for s in range(9)
    }
    assert len(spread & (set(first) - set(seam.before))) > 1, "longer tokens than the prefix's own do come"


def test_tokens_by_beginning_and_end(tokens):
    written = tokens.vocabulary.token_bytes
    for part in (b" th", b"e", b"\xe2", b"\xff", b"ing", b"\n"):
        assert set(tokens.starting_with(part)) == {t for t, b in enumerate(written) if b and b.startswith(part)}
        assert set(tokens.ending_with(part)) == {t for t, b in enumerate(written) if b and b.endswith(part)}


def test_what_comes_after_is_on_the_canvas_and_seen(model):
    """The same hole before two endings is filled differently, and the endings are pinned from the first step."""
    plan = model.infill_plan(["Hello ", " one two"], length=3)
    (request,) = next(plan)
    pinned = [request.pins[p] for p in sorted(request.pins)]
    assert b" one two".endswith(model._text_tokens.bytes_of(pinned)) and pinned[-1] == 1, "then the end of the answer"
    fills = {model.infill("Hello ", end, length=3, steps=3, seed=1).fills for end in (" one two", "!\n\nxyz", " 7 8 9")}
    assert len(fills) == 3


def test_a_suffix_longer_than_the_canvas_is_described(model):
    plan = model.infill_plan(["A ", " b" * 60], length=2)
    (request,) = next(plan)
    shown = model.tokenizer.decode(request.prompt.ids)
    assert " b" * 60 in shown and "[...]" in shown and shown.endswith("model\nA")
    assert max(request.pins) == CANVAS - 1 and 1 not in request.pins.values()
    (short,) = next(model.infill_plan(["A ", " b"], length=2))
    assert "[...]" not in model.tokenizer.decode(short.prompt.ids)


def test_an_instruction_goes_into_a_message(model):
    (request,) = next(model.infill_plan(["A ", " b"], instruction="Name an animal.", length=2))
    text = model.tokenizer.decode(request.prompt.ids)
    assert "Name an animal." in text and "A [...] b" in text and "model\n" in text


def test_many_holes_over_several_canvases(model):
    texts = ["start ", " middle of the text ", " another longer stretch of text between ", " x", "", " end ☃"]
    result = model.infill_text("<<>>".join([*texts[:4], *texts[5:]]), length=(2, 4), steps=2)
    check_whole(result, [*texts[:4], *texts[5:]])
    assert len(result.steps) > 1 and all(2 <= length <= 4 for length in result.lengths)
    adjacent = drive(model.infill_plan(texts, length=2, steps=2), Engine(model.network, model.tokenizer).results)
    check_whole(adjacent, texts)


def test_an_open_length_is_chosen_by_score(model):
    result = model.infill("one two ", " four", length=(1, 6), steps=2, seed=3)
    (candidates,) = result.candidates
    assert [length for length, _ in candidates] == [1, 2, 3, 4, 5, 6]
    assert result.lengths == (max(candidates, key=lambda pair: pair[1])[0],)
    assert np.isfinite([score for _, score in candidates]).all()
    again = model.infill("one two ", " four", length=(1, 6), steps=2, seed=3)
    assert again == result or again.text == result.text
    fixed = model.infill("one two ", " four", length=result.lengths[0], steps=2, seed=3)
    assert fixed.text == result.text and fixed.candidates == ((),)


@given(st.integers(1, 100), st.integers(0, 200))
def test_candidates_lie_in_the_range(least, more):
    lengths = candidate_lengths(least, least + more)
    assert lengths == sorted(set(lengths)) and lengths[0] == least and lengths[-1] == least + more
    assert len(lengths) <= 8


@pytest.mark.parametrize("length", [0, -1, (3, 2), (0, 4), "many", 1.5, True, None, CANVAS, (1, CANVAS)])
def test_lengths_that_cannot_be_are_refused(model, length):
    with pytest.raises(dg.InputError, match="length"):
        model.infill("a", "b", length=length)


def test_auto_fits_the_canvas():
    for canvas in (4, 16, 96, 256):
        for holes in (1, 3, 20):
            least, most = length_bounds("auto", canvas, holes)
            assert 1 <= least <= most <= canvas - 2


@pytest.mark.parametrize(
    ("text", "hole", "words"),
    [("no hole", "<<>>", "no hole"), ("a", "", "empty"), ("a <<>><<>> b", "<<>>", "side by side")],
)
def test_markers_that_are_missing_or_repeated_wrongly(text, hole, words):
    with pytest.raises(dg.InputError, match=words):
        split_at(text, hole)


@pytest.mark.parametrize(
    "options", [dict(max_new_tokens=5), dict(min_tokens=1), dict(mode="ar"), dict(early_steps=2), dict(nonsense=1)]
)
def test_options_that_mean_nothing_here_are_refused(model, options):
    with pytest.raises(dg.InputError):
        model.infill_plan(["a", "b"], **options)


def test_half_a_surrogate_pair_is_refused(model):
    with pytest.raises(dg.InputError, match="not Unicode"):
        model.infill("a\ud800", "b")
