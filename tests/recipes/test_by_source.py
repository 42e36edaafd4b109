"""What is asked of each source of a recipe is of its held-out half, and judged by its kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffusiongemma.evaluation.corpora import Corpus
from diffusiongemma.tasks import Example
from recipes.nano import by_source, everyday
from recipes.nano.by_source import held_out, is_right
from recipes.nano.everyday import SHARES, Materials, taught
from recipes.nano.mixtures import DataDirs
from recipes.nano.sources import talk


@pytest.fixture
def materials(monkeypatch, tmp_path: Path):
    said = [f'be (verb): exist. Example: "they were late on day {i}".' for i in range(60)]
    monkeypatch.setattr(
        everyday, "_corpora", lambda *_: {"wordnet": Corpus("wordnet", "1", "none", tmp_path, lambda _: iter(said))}
    )
    monkeypatch.setattr(everyday.explanations, "frequent_nouns", lambda _: ["quorum", "ledger", "gavel"])
    return Materials.read(DataDirs(tmp_path))


@pytest.mark.parametrize("recipe", SHARES)
def test_every_source_has_a_name_and_questions_of_its_own(recipe: str, materials):
    trained = [make for part in taught(recipe, materials) for make, _ in part.values()]
    found = list(held_out(recipe, materials))
    assert [name for name, _ in found] == [name for part in SHARES[recipe] for name in part if name != "writing"]
    for (name, make), before in zip(found, trained, strict=True):
        asked = {make(np.random.default_rng(i)).prompt for i in range(3)}
        learnt = {before(np.random.default_rng(i)).prompt for i in range(3)}
        assert not asked & learnt, name


def test_small_talk_may_be_answered_in_several_ways_and_json_in_any_spelling():
    name, intent = next((n, i) for n, i in talk.INTENTS.items() if len(i.answers) > 1)
    example = Example("Hi", intent.answers[0], {"intent": name})
    assert is_right(example, intent.answers[1] + "\n") and not is_right(example, "o")
    record = Example("Extract", '{"a":1}', {"record": {"a": 1}})
    assert is_right(record, '{ "a": 1 }') and not is_right(record, '{"a": 2}') and not is_right(record, "a")
    listed = Example("Name two", "Cat and dog.", {"right": ["cat", "dog", "the Nile"], "number": 2})
    for said in ("Dog and cat.", "cat\nNile", "1. dog\n2. the Nile", "A dog, the Nile."):
        assert is_right(listed, said), said
    for said in ("Dog and dog.", "cat", "dog, cat and the Nile", "Dog and table."):
        assert not is_right(listed, said), said
    assert is_right(Example("x", "yes"), "yes ") and not is_right(Example("x", "yes"), "no")


def test_the_command_prints_a_line_for_each(materials, monkeypatch, capsys, tiny_directory, tmp_path):
    from recipes.nano.__main__ import main

    monkeypatch.setattr(by_source.Materials, "read", lambda dirs: materials)
    main(["by-source", str(tiny_directory), "--limit", "1", "--show", "1", "--recipe", "whole"])
    with pytest.raises(SystemExit, match="--limit is 0: give a number of at least 1"):
        main(["by-source", "nano", "--limit", "0"])
    printed = capsys.readouterr().out
    assert printed.count("% of 1\n") == len(list(held_out("whole", materials))) and "other lists declined" in printed
