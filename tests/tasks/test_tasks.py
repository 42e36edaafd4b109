"""Tasks: reproducible, disjoint in train and test, right by independent means, and scored so that faults show."""

from __future__ import annotations

import itertools
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusiongemma.tasks import TASKS, Example, answers, extraction, in_split, repair, words
from diffusiongemma.tasks.extraction_domains import DOMAINS
from diffusiongemma.tasks.stories import TENSES, VERBS, draw_story

OWN = ["extraction", "repair", "words", "answers"]


def examples(name: str, split: str, n: int, seed: int = 0) -> list[Example]:
    rng = np.random.default_rng(seed)
    return [TASKS[name].generate(rng, split) for _ in range(n)]


# --- what holds for every task --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sudoku", *OWN])
def test_examples_are_reproducible_short_and_json(name: str) -> None:
    made = examples(name, "train", 300)
    assert made == examples(name, "train", 300)
    assert made != examples(name, "train", 300, seed=1)
    for example in made:
        assert len(example.prompt.split()) <= 150 and 0 < len(example.answer.split()) <= 80
        assert example.prompt == example.prompt.strip() and example.answer == example.answer.strip()
        json.dumps(example.meta)


@pytest.mark.parametrize("name", ["sudoku", *OWN])
def test_no_test_prompt_is_ever_made_for_training(name: str) -> None:
    train = {example.prompt for example in examples(name, "train", 1500)}
    test = {example.prompt for example in examples(name, "test", 300, seed=1)}
    assert len(test) > 60 and not train & test


@pytest.mark.parametrize("name", ["sudoku", *OWN])
def test_the_wanted_answer_scores_full_and_another_does_not(name: str) -> None:
    right = "solved" if name == "sudoku" else "exact"
    made = examples(name, "test", 60)
    for example, other in itertools.pairwise(made):
        assert TASKS[name].score(example, example.answer)[right] is True
        if other.answer != example.answer:
            assert TASKS[name].score(example, other.answer)[right] is False
        assert TASKS[name].score(example, "")[right] is False


def test_one_key_in_ten_is_for_test_and_every_key_for_one_half() -> None:
    keys = [f"key {i}" for i in range(5000)]
    test = [in_split(key, "test") for key in keys]
    assert all(in_split(key, "train") != held_out for key, held_out in zip(keys, test, strict=True))
    assert 430 < sum(test) < 570


# --- extraction -----------------------------------------------------------------------------------------------------


def test_every_domain_and_style_appears_and_people_are_held_out() -> None:
    made = {split: examples("extraction", split, 600) for split in ("train", "test")}
    assert {e.meta["domain"] for e in made["train"]} == {d.name for d in DOMAINS}
    assert {e.meta["style"] for e in made["train"]} == {"keys", "sketch", "schema"}
    domain = next(d for d in DOMAINS if d.name == "person")
    for split, other in (("train", "test"), ("test", "train")):
        people = [
            e.meta["record"][key]
            for e in made[split]
            for key in domain.fields["name"].keys
            if e.meta["domain"] == "person" and key in e.meta["record"]
        ]
        assert people and all(in_split(name, split) and not in_split(name, other) for name in people)


def test_records_fit_their_schema_and_answers_keep_the_declared_order() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    for example in examples("extraction", "train", 400):
        record = json.loads(example.answer)
        jsonschema.validate(record, example.meta["schema"])
        assert list(record) == list(example.meta["schema"]["properties"])
        assert all(f"{key}" in example.prompt for key in record)
        assert " " not in re.sub(r'"[^"]*"', "", example.answer)


def test_what_is_asked_stands_in_the_text() -> None:
    nulls = 0
    for example in examples("extraction", "train", 400):
        for value in example.meta["record"].values():
            if isinstance(value, str):
                assert value in example.prompt
            elif isinstance(value, float) or (isinstance(value, int) and value > 10):
                assert re.search(rf"(?<![\d.]){re.escape(str(value))}(?!\d)", example.prompt)
            nulls += value is None
    assert nulls > 100


def test_no_two_fields_of_a_domain_start_with_the_same_key() -> None:
    for domain in DOMAINS:
        first_keys = [field.keys[0] for field in domain.fields.values()]
        assert len(set(first_keys)) == len(first_keys)
        stated = {name for clause in (domain.opening, *domain.clauses) for name in clause.fields}
        assert stated == set(domain.fields) and domain.main in domain.opening.fields


def test_extraction_score() -> None:
    example = Example("", '{"a":1,"b":"x","c":null}', {"record": {"a": 1, "b": "x", "c": None}})
    assert extraction.score(example, '{"b": "x", "c": null, "a": 1}') == {
        "valid_json": True,
        "exact": True,
        "fields": 1.0,
    }
    assert extraction.score(example, '{"a":true,"b":"x","c":null}')["fields"] == 2 / 3  # true is not 1
    assert not extraction.score(example, '{"a":1,"b":"x","c":null,"d":0}')["exact"]
    assert not extraction.score(example, '{"a":1,"b":"x"}')["exact"]
    for text in ('{"a":1,', 'Here: {"a":1}', '{"a":NaN}', "[" * 100_000):
        assert extraction.score(example, text) == {"valid_json": False, "exact": False, "fields": 0.0}
    assert extraction.score(example, "[1]") == {"valid_json": True, "exact": False, "fields": 0.0}


# --- repair ---------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_each_edit_changes_what_it_should_and_nothing_else(seed: int) -> None:
    example = repair.generate(np.random.default_rng(seed), "train")
    source, answer, edit = example.meta["source"], example.answer, example.meta["edit"]
    assert example.prompt.endswith(source)
    if edit == "punctuation":
        assert source == repair.flatten(answer) != answer
    elif edit == "spelling":
        pairs = list(zip(source.split(), answer.split(), strict=True))
        wrong = [(a, b) for a, b in pairs if a != b]
        assert len(wrong) <= 4 and all(b.strip(".,?").islower() for _, b in wrong)
    elif edit == "proofread":
        assert source.islower() and len(source.split()) == len(answer.split())
    elif edit in ("name", "word"):
        old, new = example.meta["old"], example.meta["new"]
        assert old in example.prompt and new in example.prompt.split("\n\n")[0]
        assert re.sub(rf"\b{re.escape(old)}\b", new, source) == answer != source
    else:
        assert len(source.split(".")) == len(answer.split("."))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_stories_differ_between_tenses_only_in_their_verbs(seed: int) -> None:
    story = draw_story(np.random.default_rng(seed))
    verbs = {form for verb in VERBS for form in (verb.plain, verb.third, verb.past)} | {"will", "did", "do", "does"}
    texts = {tense: story.render(tense) for tense in TENSES}
    others = {tense: [w for w in text.split() if w.lower() not in verbs] for tense, text in texts.items()}
    assert others["present"] == others["past"]
    assert [w.lower() for w in others["present"]] == [w.lower() for w in others["future"]]
    assert story.renamed(story.names[0], "Zork").render("past").replace("Zork", story.names[0]) == texts["past"]


def test_human_sentences_are_used_and_kept_apart() -> None:
    sentences = [
        f"The number {word} is written on the old wall near the house." for word in "abcdefghijklmnopqrstuvwxyz"
    ]
    held_out = {s for s in sentences if in_split(s, "test")}
    rng = np.random.default_rng(0)
    for split, allowed in (("train", set(sentences) - held_out), ("test", held_out)):
        made = {repair.generate(rng, split, sentences).answer for _ in range(400)}
        assert made & set(sentences) and made & set(sentences) <= allowed


def test_over_correction() -> None:
    source, wanted = "the dog chase the red cat", "the dog chases the red cat"
    assert repair.over_correction(source, wanted, wanted) == 0
    assert repair.over_correction(source, wanted, source) == 0  # a fault left is no over-correction
    assert repair.over_correction(source, wanted, "the dog hunts the red cat") == 0  # a wrong mend is none either
    assert repair.over_correction(source, wanted, "the dog chases the black cat") == 1 / 5
    assert repair.over_correction(source, wanted, "the dog chases the red fat cat") == 1 / 5
    assert repair.over_correction(source, wanted, "the dog chases the cat") == 1 / 5
    assert repair.over_correction(source, wanted, "") == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_unmended_texts_are_never_over_corrected(seed: int) -> None:
    example = repair.generate(np.random.default_rng(seed), "test")
    assert repair.score(example, example.meta["source"])["over_correction"] == 0
    assert repair.score(example, example.answer) == {"exact": True, "over_correction": 0, "edit": example.meta["edit"]}


# --- words ----------------------------------------------------------------------------------------------------------


def numbers(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"(?<![\w-])-?\d+", text)]


# what the answer must be, worked out from the wording alone
ORACLES = {
    "add": lambda p: str(sum(numbers(p.replace("+", "")))),
    "multiply": lambda p: str(int(np.prod(numbers(p)))),
    "chain": lambda p: str(eval("".join(re.findall(r"[\d+ -]", p)))),
    "sequence": lambda p: str(2 * numbers(p)[-1] - numbers(p)[-2]),
    "sort_numbers": lambda p: ", ".join(map(str, sorted(numbers(p), reverse="descending" in p))),
    "extreme": lambda p: str((max if "largest" in p else min)(numbers(p))),
    "compare": lambda p: str((max if "larger" in p else min)(numbers(p))),
    "sort_words": lambda p: ", ".join(sorted(p.split(": ")[1].split(", "))),
    "reverse_words": lambda p: ", ".join(reversed(p.split(": ")[1].split(", "))),
    "count_words": lambda p: str(len(p.split(": ")[1].split())),
    "longest_word": lambda p: max(p.split(": ")[1].rstrip("?").split(", "), key=len),
}


@pytest.mark.parametrize("kind", ORACLES)
def test_answers_agree_with_the_wording(kind: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        problem = words.PROBLEMS[kind](rng)
        for wording in problem.phrasings:
            assert ORACLES[kind](wording) == problem.answer, wording


def test_a_problem_is_in_one_half_however_it_is_phrased() -> None:
    sums = {
        split: {tuple(sorted(numbers(e.prompt.replace("+", "")))) for e in examples("words", split, 4000)
                if e.meta["kind"] == "add"}
        for split in ("train", "test")
    }  # fmt: skip
    assert min(map(len, sums.values())) > 100 and not sums["train"] & sums["test"]


# --- answers --------------------------------------------------------------------------------------------------------


def test_every_held_out_fact_is_told_in_training_in_other_words() -> None:
    for facts in answers.FACTS.values():
        for key in facts.answers:
            assert any(in_split(wording.format(key), "train") for wording in facts.wordings), key


def test_answers_are_scored_by_words() -> None:
    example = Example("", "New Delhi", {"kind": "capital"})
    assert answers.score(example, "new delhi.")["exact"]
    assert answers.score(example, "Delhi") == {"exact": False, "overlap": 2 / 3, "kind": "capital"}
    assert answers.score(example, "")["overlap"] == 0


def test_pairs_from_documents() -> None:
    conversations = ["Hi\nHello there.\nHow are you?", "alone", "word " * 60 + "\nlong"]
    assert list(answers.pairs_from_conversations(conversations)) == [("Hi", "Hello there.")]
    definitions = ['rest, ease (noun): freedom from work. Example: "take his ease".', "no definition"]
    assert list(answers.pairs_from_definitions(definitions)) == [
        ('What does the noun "rest" mean?', "freedom from work.")
    ]
    pairs = [(f"Question {i}?", f"Answer {i}") for i in range(200)]
    rng = np.random.default_rng(0)
    made = [answers.generate(rng, "test", pairs) for _ in range(100)]
    from_pairs = [e for e in made if e.meta["kind"] == "pair"]
    assert 30 < len(from_pairs) < 70 and all(in_split(e.prompt, "test") for e in from_pairs)
