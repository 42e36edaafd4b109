"""Sources of examples: the same from the same state, right by rule, never a probe, train and test apart."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from diffusiongemma.tasks import Example, sudoku
from recipes.nano.sources import (
    boards,
    declining,
    editing,
    explanations,
    knowledge,
    lists,
    mending,
    reading,
    sums,
    verses,
    writing,
)
from recipes.nano.sources.phrasing import is_probe, varied
from recipes.nano.sources.sentences import Sentences, everyday, third

SENTENCES = Sentences(
    ["She has two old cats.", "They were late because of the snow.", "He went to the market.", "I like this song."]
)
PLAIN = ("talk", "knowledge", "explanations", "lists", "sums", "verses", "summing_up", "deciding", "slips")
MAKERS: dict[str, Callable[..., Example]] = {
    **{name: import_module(f"recipes.nano.sources.{name}").generate for name in PLAIN},
    "declining": partial(declining.generate, nouns=["quorum", "lawyer", "fund"]),
    "extraction": reading.generate_extraction,
    "question": reading.generate_question,
    "editing": partial(editing.generate, sentences=SENTENCES),
    "mending": partial(mending.generate, sentences=SENTENCES),
}


def draws(name: str, split: str, count: int = 60, seed: int = 0) -> list[Example]:
    rng = np.random.default_rng(seed)
    return [MAKERS[name](rng, split=split) for _ in range(count)]


@pytest.mark.parametrize("name", MAKERS)
def test_every_source(name: str):
    examples = draws(name, "train")
    assert examples == draws(name, "train")
    assert all(
        e.prompt.strip() and e.answer.strip() and "{" not in e.answer.replace('{"', "").replace("[{", "")
        for e in examples
    )
    assert not any(is_probe(e.prompt) for e in examples)
    assert len({e.prompt for e in examples}) > 40


@pytest.mark.parametrize("name", ["sums", "reading", "knowledge", "talk"])
def test_what_is_held_out_is_never_trained_on(name: str):
    name = "extraction" if name == "reading" else name
    plain = {e.prompt for e in draws(name, "test", 150)} & {e.prompt for e in draws(name, "train", 400)}
    assert not plain


def test_probes_and_their_close_variants_are_recognised():
    for asked in (
        "Hello",
        "hello!",
        "What is 2+2?",
        "please what is 2+2",
        "WHAT IS THE CAPITAL OF FRANCE",
        "what is the captal of france",
        "thanks",
        "She have two dogs.",
    ):
        assert is_probe(asked), asked
    for asked in (
        "Hello nano",
        "What is 2+3?",
        "What is the capital of Greece?",
        "Name three birds.",
        "He have two dogs, I think.",
    ):
        assert not is_probe(asked), asked


def test_phrasing_leaves_later_lines_alone():
    rng = np.random.default_rng(1)
    assert all(varied(rng, "Correct the text.\n\nshe are late").endswith("\n\nshe are late") for _ in range(100))
    assert len({varied(rng, "What is the capital of Peru?") for _ in range(200)}) > 40


def test_sums_are_right():
    rng = np.random.default_rng(2)
    for _ in range(500):
        one = sums.draw_sum(rng)
        assert (
            one.result
            == {
                "plus": one.a + one.b,
                "minus": one.a - one.b,
                "times": one.a * one.b,
                "divided by": one.a / max(1, one.b),
            }[one.operation]
        )
    assert [sums.in_words(n) for n in (0, 13, 20, 42)] == ["zero", "thirteen", "twenty", "forty-two"]


def test_what_cannot_be_met_is_declined():
    rng = np.random.default_rng(0)
    for _ in range(60):
        asked = declining.generate_small_sum(rng, "train")
        assert max(map(int, re.findall(r"\d+", asked.prompt))) <= declining.LARGEST
        assert str(asked.meta.get("result", "")) in asked.answer
        declined = declining.generate(rng, "train", nouns=["quorum"])
        if declined.meta["kind"] == "large sum":
            assert max(map(int, re.findall(r"\d+", declined.prompt))) > 99
        else:
            assert declined.answer.startswith("I do not know enough")


def test_nothing_that_is_taught_is_declined():
    words = ["quorum", "dog", "spider", "rain", "gravity", "trumpet"]
    assert declining.unknown(words) == ["quorum"]


def test_things_are_told_by_their_kind():
    assert explanations.SIMPLE["a trumpet"] == "A trumpet is a musical instrument."
    assert not explanations.SIMPLE.keys() & explanations.MEANINGS.keys()
    assert all(text[0].isupper() and " is " in text for text in explanations.SIMPLE.values())


def test_extracted_records_follow_their_schemas():
    jsonschema = pytest.importorskip("jsonschema")
    for example in draws("extraction", "train", 200):
        record = json.loads(example.answer)
        assert record == example.meta["record"]
        jsonschema.validate(record, example.meta["schema"])


def test_what_a_record_says_stands_in_the_text():
    for example in draws("question", "train", 100):
        if example.meta["kind"] == "choice":
            assert example.answer in example.prompt


def test_edits_keep_lines_and_their_ends():
    examples = draws("editing", "train", 600)
    replaced = [e for e in examples if e.meta["edit"] == "replace"]
    assert replaced and all(e.prompt.count("\n") >= e.answer.count("\n") for e in replaced)
    windows = [e for e in examples if "\r\n" in e.meta["source"]]
    assert windows and all("\n" not in e.answer.replace("\r\n", "") for e in windows)


def test_mistakes_are_mistakes():
    examples = draws("mending", "train", 200)
    changed = [e for e in examples if e.meta["source"] != e.answer]
    assert 0.75 < len(changed) / len(examples) < 0.98
    wrong = {mending.agreement("She has two dogs.", np.random.default_rng(i)) for i in range(20)}
    assert "She have two dogs." in wrong


def test_slips_are_of_one_sentence_and_always_mistakes():
    for e in draws("slips", "train", 200):
        assert e.meta["source"] != e.answer and e.meta["source"] in e.prompt and e.answer[-1] in ".?"


def test_what_is_asked_for_first_is_drawn_alone():
    rng = np.random.default_rng(0)
    told = [explanations.generate(rng, "train", keys=explanations.FIRST).meta["key"] for _ in range(60)]
    listed = [lists.generate(rng, "train", kinds=lists.FIRST).meta["kind"] for _ in range(60)]
    assert set(told) <= set(explanations.FIRST) and set(listed) <= set(lists.FIRST)
    assert set(explanations.FIRST) <= explanations.MEANINGS.keys() | explanations.REASONS.keys()


def test_questions_why():
    assert explanations.question_of("the sky /is blue") == "Why is the sky blue"
    assert explanations.question_of("leaves /fall in autumn") == "Why do leaves fall in autumn"
    assert explanations.question_of("bread /rises") == "Why does bread rise"
    assert explanations.question_of("the moon /changes its shape") == "Why does the moon change its shape"


def test_everyday_sentences_agree():
    rng = np.random.default_rng(3)
    texts = [everyday(rng) for _ in range(300)]
    assert not any(
        bad in f" {text}"
        for text in texts
        for bad in (" He have ", " She are ", " They is ", " I is ", " We was ", " it don't ", "There are a dog")
    )
    assert [third(verb) for verb in ("go", "try", "play", "catch", "like")] == [
        "goes",
        "tries",
        "plays",
        "catches",
        "likes",
    ]


def test_sudokus_in_all_spellings_hold_the_same_digits():
    rng = np.random.default_rng(4)
    example = sudoku.generate(rng, "train")
    puzzle = np.array(example.meta["puzzle"])
    given = [str(digit) for digit in puzzle if digit]
    spelled = {boards.spelled(rng, puzzle) for _ in range(200)}
    assert len(spelled) > 40
    for text in spelled:
        digits = [c for c in text if c in "123456789"]
        assert digits == given


def test_writing_takes_texts_that_agree_and_are_likely(tmp_path: Path):
    records = [
        {
            "topic": "snail",
            "text": "A snail is a small animal with a shell.",
            "likelihood": -1.0,
            "request": "What is a snail?",
        },
        {
            "topic": "snail",
            "text": "A snail is a slow animal with a shell.",
            "likelihood": -0.9,
            "request": "What is a snail?",
        },
        {
            "topic": "snail",
            "text": "Snails make excellent presidents.",
            "likelihood": -0.1,
            "request": "What is a snail?",
        },
        {"topic": "frog", "text": "Frogs live in trains mostly.", "likelihood": -0.1, "request": "What is a frog?"},
    ]
    kept = writing.agreeing(records)
    assert [r["topic"] for r in kept] == ["snail"] and "shell" in kept[0]["text"]


def test_frequent_nouns_of_wordnets_files(tmp_path: Path):
    (tmp_path / "cntlist.rev").write_text("snail%1:05:00:: 1 7\nrare%1:05:00:: 1 1\nrun%2:38:00:: 1 90\n")
    (tmp_path / "data.noun").write_text("")
    (tmp_path / "index.noun").write_text("  licence\nrare n 1 1 @ 1 0 0\nrun n 1 1 @ 1 0 0\nsnail n 1 1 @ 1 1 0\n")
    assert explanations.frequent_nouns(tmp_path) == ["snail"]


def test_a_remark_of_marks_alone_is_never_emptied():
    rng = np.random.default_rng(0)
    assert all(varied(rng, "??", keep=0).strip() for _ in range(200))


def test_short_answers_are_what_is_asked_for_alone():
    rng = np.random.default_rng(0)
    asked = [knowledge.generate_short(rng, "train") for _ in range(200)]
    assert {e.meta["kind"] for e in asked} == set(knowledge.IN_A_WORD)
    assert all(len(e.answer.split()) < 5 and "." not in e.answer for e in asked)


def test_what_comes_to_mind_first_is_always_the_same():
    """Lists that begin alike, and one poem and one story for each class of topics."""
    rng = np.random.default_rng(6)
    listed: dict[tuple, set[str]] = {}
    for _ in range(600):
        one = lists.generate(rng, "train", kinds=lists.FIRST, usual=True)
        bare = re.sub(r"^\d+\. ", "", one.answer, flags=re.M).replace(" and ", ", ").replace("\n", ", ").rstrip(".")
        listed.setdefault((one.meta["kind"], one.meta["number"]), set()).add(bare[0].lower() + bare[1:])
    assert len(listed) > 40 and all(len(answers) == 1 for answers in listed.values())
    written: dict[tuple[str, str], set[str]] = {}
    for _ in range(300):
        one = verses.generate(rng, "train", usual=True)
        topic = re.compile(rf"\b(an? |the )?{re.escape(one.meta['topic'])}\b", re.I)
        key = one.meta["kind"], verses.CLASS_OF[one.meta["topic"]]
        written.setdefault(key, set()).add(topic.sub("_", one.answer))
    assert len(written) == 16 and all(len(patterns) <= 2 for patterns in written.values())
