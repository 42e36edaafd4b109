"""The rubric of what people type first tells sense from nonsense."""

from __future__ import annotations

import json

import pytest

from recipes.nano.first_words import DEMANDS, asked, judged, measure, read_probes, sensible


def test_every_opening_has_a_demand():
    assert {probe["prompt"] for probe in read_probes() if probe["kind"] == "opening"} == set(DEMANDS)


@pytest.mark.parametrize(
    "prompt, right, wrong",
    [
        ("Hello", "Hello! I am nano. How can I help you?", "o"),
        ("Who are you?", "I am nano, a tiny demonstration of text diffusion.", "I am a person."),
        ("What is 2+2?", "2 plus 2 is 4.", "2 plus 2 is 42 or 5."),
        ("What is 2+2?", "4", "3"),
        ("What is the capital of France?", "The capital of France is Paris.", "The capital of France is London."),
        ("Hi there!", "Hi, I am nano.", "Helloo!oes I am poo."),
        ("Name three animals.", "Lion, fox and whale.", "Lion."),
        ("Name three animals.", "A lion\nA fox\nA whale", "I do not know enough to list that. I am small."),
        ("Write a short poem about rain.", "The rain is here,\nIt falls so near.", "peem"),
        ("Tell me a tiny story about a dog.", "A dog ran away. It came home.", "A dog a dog a dog a dog. A dog."),
        ("Spell the word cat backwards.", "tac", "cat"),
        ("Which is bigger, an elephant or a mouse?", "An elephant is bigger than a mouse.", "A mouse is bigger."),
    ],
)
def test_the_rubric(prompt: str, right: str, wrong: str):
    assert sensible(prompt, right) and not sensible(prompt, wrong)


def test_probes_are_put_and_judged():
    answers = {asked(p): p["right"] if p["kind"] == "repair" else json.dumps(p["right"]) for p in read_probes()}
    verdicts = measure(lambda probe, seed: (answers[asked(probe)], seed == 0), seeds=2)
    assert all(v.right for v in verdicts if v.kind != "opening") and len(verdicts) == 2 * len(read_probes())
    assert {v.ended for v in verdicts if v.kind == "repair"} == {True, False}
    probe = next(p for p in read_probes() if p["kind"] == "extraction")
    assert not judged(probe, "no JSON", True).right
