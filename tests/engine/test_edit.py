"""Editing: what may not change does not, and the differences told are the differences."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_infill import some_text

import diffusiongemma as dg
from diffusiongemma.diffusion.samplers import EntropyBound
from diffusiongemma.engine.engine import Engine
from diffusiongemma.engine.generation import Generation
from diffusiongemma.engine.plans.edit import EditResult
from diffusiongemma.engine.plans.plan import drive
from diffusiongemma.events import CanvasStep
from diffusiongemma.text.diff import share_changed, word_diff

CANVAS = 16
LONG = "The quick brown fox jumps over the lazy dog, and ☃ was naïve about it. " * 3


@pytest.fixture(scope="module")
def model(tiny_directory) -> dg.DiffusionGemma:
    return dg.load(tiny_directory)


# --- edit -----------------------------------------------------------------------------------------------------------


def test_strength_zero_changes_nothing(model):
    rng = random.Random(1)
    for text in [LONG, *(some_text(rng) + "x" for _ in range(20))]:
        for options in ({}, {"spans": [(0, 1)]}, {"instruction": "Shorten."}):
            result = model.edit(text, strength=0.0, **options)
            assert (result.text, result.diff, result.changed_outside, result.steps) == (
                text,
                (("same", text),),
                0.0,
                (),
            )


def test_outside_the_spans_nothing_changes(model):
    rng = random.Random(2)
    for seed in range(60):
        text = some_text(rng, 40) + "end"
        cuts = sorted(rng.sample(range(len(text) + 1), min(len(text) + 1, rng.choice((2, 4)))))
        spans = list(zip(cuts[::2], cuts[1::2], strict=True))
        result = model.edit(
            text, "Edit." if seed % 3 == 0 else None, spans=spans, strength=rng.random() + 0.01, steps=2, seed=seed
        )
        kept = [text[a:b] for a, b in zip([0, *cuts[1::2]], [*cuts[::2], len(text)], strict=True)]
        assert matches(result.text, kept), (text, spans, result.text)
        assert result.changed_outside == 0
        told(result, text)


def matches(text: str, kept: list[str]) -> bool:
    """Whether the texts stand in order, the first at the beginning, the last at the end."""
    at = len(kept[0])
    if len(kept) == 1 or not text.startswith(kept[0]):
        return [text] == kept
    for part in kept[1:-1]:
        at = text.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return text.endswith(kept[-1]) and len(text) - len(kept[-1]) >= at


def told(result, text):
    assert "".join(part for kind, part in result.diff if kind != "insert") == text
    assert "".join(part for kind, part in result.diff if kind != "delete") == result.text


def test_a_long_span_is_worked_through_in_pieces(model):
    start, stop = 4, len(LONG) - 10
    result = model.edit(LONG, spans=[(start, stop)], strength=1.0, steps=2)
    assert result.text.startswith(LONG[:start]) and result.text.endswith(LONG[stop:]) and len(result.steps) > 3
    assert result.text != LONG


@pytest.mark.parametrize("instruction", [None, "Put it in the past tense."])
def test_all_of_a_text_is_edited_canvas_by_canvas(model, instruction):
    result = model.edit(LONG, instruction, strength=0.8, steps=3)
    told(result, LONG)
    count = len(model._text_tokens.encode(LONG))
    assert len(result.results) == -(-count // CANVAS) or len(result.results) >= count // CANVAS
    assert result.changed_outside == pytest.approx(share_changed(LONG, result.text)) and result.changed_outside > 0


def test_the_length_may_change(model):
    """Ends may move: over some seeds the token count of a short text differs from what it was."""
    text = "one two three"
    lengths = {len(model.edit(text, "Go on.", strength=1.0, steps=4, seed=s).text) for s in range(6)}
    assert len(lengths) > 1


def test_strength_is_where_the_schedule_is_entered(model):
    """At strength s of N steps at most s·N are run; the first canvas has the original tokens but for a share s."""
    text = LONG[:40]
    ids = model._text_tokens.encode(text)
    for strength, most in ((0.25, 2), (0.5, 4), (1.0, 8)):
        plan = model.edit_plan(text, strength=strength, steps=8, temperature=0)
        (request,) = next(plan)
        generation = Generation(request, model.network, model.tokenizer)
        canvas = generation.open_canvas()
        assert canvas.decoding.steps - canvas.step == most
        same = np.mean([a == b for a, b in zip(canvas.tokens.tolist(), ids, strict=False)])
        assert abs(same - (1 - strength)) < 0.35 and (strength < 1 or same < 0.2)
        assert all(steps <= most for steps in model.edit(text, strength=strength, steps=8).results[0].steps[:1])


def test_a_sampler_that_is_asked_for_is_used(model):
    (request,) = next(model.edit_plan("some text", sampler=EntropyBound(3.0)))
    assert request.config.sampler == EntropyBound(3.0)


def test_events_of_an_edit_count_the_steps_of_the_schedule(model):
    (request,) = next(model.edit_plan("some text", strength=0.5, steps=8))
    events = list(Engine(model.network, model.tokenizer).run([replace(request, record=True)]))
    steps = [e.step for e in events if isinstance(e, CanvasStep) and e.canvas == 0]
    assert steps[0] == 5 and events[-1].result.steps[0] == len(steps)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(spans=[(3, 2)]), "from < to"),
        (dict(spans=[(0, 99)]), "characters"),
        (dict(spans=[(-1, 2)]), "characters"),
        (dict(spans=[(0, 3), (2, 4)]), "overlap"),
        (dict(spans=[5]), "pairs"),
        (dict(strength=1.5), "strength"),
        (dict(strength="much"), "strength"),
    ],
)
def test_edits_that_cannot_be_are_refused_at_once(model, options, words):
    with pytest.raises(dg.InputError, match=words) as caught:
        model.edit_plan("a text", **options)
    assert "\n" not in str(caught.value)
    with pytest.raises(dg.InputError, match="empty"):
        model.edit_plan(" \n")


# --- lines ----------------------------------------------------------------------------------------------------------

words = st.text("ab é☃.", min_size=0, max_size=12)
texts_of_lines = st.lists(st.tuples(words, st.sampled_from(["\n", "\r\n", "\r", ""])), min_size=1, max_size=6).map(
    lambda lines: "".join(line + mark for line, mark in lines)
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=texts_of_lines.filter(str.strip),
    instruction=st.sampled_from([None, "Edit."]),
    strength=st.sampled_from([0.1, 0.5, 1.0]),
    whole=st.booleans(),
    seed=st.integers(0, 99),
)
def test_lines_survive_an_edit(model, text, instruction, strength, whole, seed):
    """A random model wants anything: no break goes, comes or changes, nor does an empty line or the final newline."""
    spans = None if whole else [(0, len(text))]
    edited = model.edit(text, instruction, spans=spans, strength=strength, steps=2, seed=seed).text
    before, after = (re.split("(\r\n|\r|\n)", it) for it in (text, edited))
    assert before[1::2] == after[1::2]
    assert [line == "" for line in before[::2]] == [line == "" for line in after[::2]]


@pytest.mark.parametrize("strength", [0.1, 0.5])
@pytest.mark.parametrize("spans", [None, [(0, len(LONG))]])
def test_without_an_instruction_the_strength_is_what_changes(model, strength, spans):
    """At strength 0.1 about nine tokens of ten stay, whatever the model makes of the others."""
    same: list[bool] = []

    def results_of(requests):
        results = Engine(model.network, model.tokenizer).results(requests)
        (region,), written = requests[0].regions, results[0].tokens
        before = requests[0].start.tokens[: region.stop - region.start]
        same.extend(a == b for a, b in zip(before, written[region.start : region.stop], strict=True))
        return results

    for seed in range(6):
        result = drive(model.edit_plan(LONG, spans=spans, strength=strength, steps=4, seed=seed), results_of)
        assert result.lost < 0.5
    assert abs(np.mean(same) - (1 - strength)) < 0.13


def test_nano_varies_a_text_and_does_not_erase_it():
    nano = dg.load("nano")
    text = "Tom walked to the library because he wanted a book.\nAnna waited at the station.\n"
    for strength in (0.1, 0.3, 0.7):
        result = nano.edit(text, strength=strength, seed=1)
        assert result.lost < 0.5 and result.text.count("\n") == 2 and result.text.endswith("\n")
    assert nano.edit(text, strength=0.1, seed=1).changed_outside < 0.3


def test_what_an_edit_loses():
    def lost(before: str, after: str) -> float:
        return EditResult(after, tuple(word_diff(before, after)), 0.0, (), 0, ()).lost

    assert (lost("a b c d", ""), lost("a b c d", "a"), lost("a b", "one two"), lost("a b", "a b")) == (1, 0.75, 0, 0)


# --- diff -----------------------------------------------------------------------------------------------------------


@given(st.text(max_size=60), st.text(max_size=60))
def test_a_word_diff_gives_both_texts_back(before, after):
    changes = word_diff(before, after)
    assert "".join(text for kind, text in changes if kind != "insert") == before
    assert "".join(text for kind, text in changes if kind != "delete") == after
    assert all(text and kind in ("same", "delete", "insert") for kind, text in changes)


def test_a_word_diff_is_by_words():
    assert word_diff("a red cat sat", "a blue cat sat!") == [
        ("same", "a "), ("delete", "red"), ("insert", "blue"), ("same", " cat sat"), ("insert", "!"),
    ]  # fmt: skip
    assert share_changed("a red cat sat", "a  blue cat\nsat") == 0.25
    assert share_changed("", "x") == 0 and share_changed("a b", "") == 1
