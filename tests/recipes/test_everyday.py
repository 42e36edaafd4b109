"""The mixtures of all sources: batches that a model can learn from, and a grown model that does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import diffusiongemma as dg
from diffusiongemma.evaluation.corpora import Corpus
from diffusiongemma.tasks import sudoku
from diffusiongemma.weights.checkpoint import load_model
from diffusiongemma.weights.locate import ASSETS, load_tokenizer
from recipes.nano import everyday
from recipes.nano.__main__ import main
from recipes.nano.everyday import EVERYDAY
from recipes.nano.mixtures import DataDirs
from recipes.nano.sources import declining
from recipes.nano.train import WIDER


@pytest.fixture(autouse=True)
def few_materials(monkeypatch, tmp_path):
    bank = sudoku.SeedBank.build(train=6, test=2)
    monkeypatch.setattr(sudoku.SeedBank, "load_or_build", lambda *_: bank)
    wordnet = Corpus("wordnet", "1", "none", tmp_path, lambda _: iter(['be (verb): exist. Example: "they were late".']))
    monkeypatch.setattr(everyday, "_corpora", lambda *_: {"wordnet": wordnet})
    monkeypatch.setattr(everyday.explanations, "frequent_nouns", lambda _: ["quorum"])


@pytest.mark.parametrize("recipe", EVERYDAY)
def test_batches_are_of_every_part_and_depend_on_the_step_alone(recipe: str, tmp_path: Path):
    tokenizer, config = load_tokenizer(ASSETS / "nano"), load_model(ASSETS / "nano", torch.float32).config
    batches = EVERYDAY[recipe](tokenizer, config, DataDirs(tmp_path)).batches(config, 12, seed=0)
    first, again = batches(3), batches(3)
    assert len(first) == (2 if recipe in everyday.SHARES else 3) and sum(len(batch.canvas) for batch in first) == 12
    assert all(torch.equal(a.canvas, b.canvas) and torch.equal(a.ids, b.ids) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize(
    ("recipe", "beyond", "taught"),
    [
        ("modest", 6, everyday.ANSWERED),
        ("further", 6, (*everyday.ANSWERED_FURTHER, *everyday.lists.FIRST, "reason")),
    ],
)
def test_a_recipe_declines_what_it_does_not_teach(recipe, beyond, taught, tmp_path: Path):
    materials, rng = everyday.Materials.read(DataDirs(tmp_path)), np.random.default_rng(0)
    said = [make(rng) for make, share in everyday.taught(recipe, materials)[0].values() for _ in range(40)]
    declined = [e for e in said if e.meta.get("kind") == "beyond"]
    assert len(declined) == beyond * 40
    assert {e.answer for e in declined} == {
        declining.UNKNOWN, declining.NO_LIST, declining.NO_SUM, declining.NO_TEXT,
    }  # fmt: skip
    asked = {e.prompt for e in said if e.meta.get("kind") in taught}
    assert asked and not asked & {e.prompt for e in declined}


@pytest.mark.slow
def test_a_grown_model_is_trained_and_resumed(tmp_path: Path):
    arguments = ["train", str(tmp_path / "out"), "--recipe", "everyday", "--init", str(ASSETS / "nano"), "--grow"]
    arguments += ["--batch", "4", "--cache", str(tmp_path), "--precision", "float32"]
    main([*arguments, "--steps", "1"])
    main([*arguments, "--steps", "2", "--resume"])
    made = dg.load(tmp_path / "out")
    assert {name: getattr(made.config, name) for name in WIDER} == WIDER
    assert made.generate("Name three birds.", seed=0).text
