"""The embedded models' recipe: its mixtures, its commands, and the model cards that name them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

import diffusiongemma as dg
from diffusiongemma.chat import decode
from diffusiongemma.config import ModelConfig
from diffusiongemma.evaluation.corpora import Corpus
from diffusiongemma.evaluation.held_out import held_out
from diffusiongemma.tasks import sudoku
from diffusiongemma.train.checkpointing import RunDirectory
from diffusiongemma.weights.checkpoint import load_model
from diffusiongemma.weights.locate import ASSETS, load_tokenizer
from recipes.nano.__main__ import main, parser
from recipes.nano.prose import Prose, continuations, requested_continuations
from recipes.nano.train import RECIPES


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(ASSETS / "nano")


@pytest.fixture
def few_seeds(monkeypatch):
    bank = sudoku.SeedBank.build(train=6, test=2)
    monkeypatch.setattr(sudoku.SeedBank, "load_or_build", lambda *_: bank)
    return bank.train


# --- commands -------------------------------------------------------------------------------------------------------


def test_the_embedded_models_recipe(tmp_path, few_seeds, capsys):
    """From random weights, then from those; resumed where it ended."""
    arguments = ["--steps", "2", "--batch", "2", "--cache", str(tmp_path)]
    main(["train", str(tmp_path / "a"), *arguments])
    main(["train", str(tmp_path / "b"), *arguments, "--init", str(tmp_path / "a"), "--seed", "1"])
    main(["train", str(tmp_path / "b"), *arguments, "--init", str(tmp_path / "a"), "--seed", "1", "--resume"])
    first, second = (dg.load(tmp_path / name) for name in "ab")
    assert first.config == second.config and first.config.vocab_size == 4096
    distance = (first.network.backbone.embed_tokens.weight - second.network.backbone.embed_tokens.weight).abs().max()
    assert 0 < float(distance) < 0.01
    with pytest.raises(SystemExit, match="holds a run of 2 steps"):
        main(["train", str(tmp_path / "a"), *arguments])


def test_the_embedded_models_options_reach_the_run(tmp_path, few_seeds):
    options = ["--rollouts", "2", "--pool", "3", "--workers", "1", "--device", "cpu"]
    main(["train", str(tmp_path / "a"), "--steps", "1", "--batch", "2", "--cache", str(tmp_path), *options])
    tensors, values = RunDirectory(tmp_path / "a").load()
    assert len(tensors["rollouts"]["0/0/start"]) == 3 * 2
    assert values["settings"]["rollouts"]["reads"] == 2 and values["settings"]["workers"] == 1
    with pytest.raises(SystemExit, match="no device 'tea' here"):
        main(["train", str(tmp_path / "b"), "--device", "tea"])
    for wrong in (["--pool", "3"], ["--rollouts", "2", "--pool", "0"], ["--keep-batch", "3"], ["--keep-weight", "1"]):
        with pytest.raises(SystemExit):
            main(["train", str(tmp_path / "b"), *wrong])
    assert not (tmp_path / "b").exists()


def test_the_mean_of_two_runs_lies_between_them(tmp_path, few_seeds):
    arguments = ["--steps", "1", "--batch", "2", "--cache", str(tmp_path)]
    for seed in ("1", "2"):
        main(["train", str(tmp_path / seed), *arguments, "--seed", seed])
    main(["mean", *(str(tmp_path / name) for name in ("1", "2", "mean"))])
    first, second, mean = (load_model(tmp_path / name, torch.float32) for name in ("1", "2", "mean"))
    for a, b, m in zip(first.parameters(), second.parameters(), mean.parameters(), strict=True):
        assert torch.equal(m, ((a + b) / 2).bfloat16().float())
    main(["mean", *(str(tmp_path / name) for name in ("1", "2", "near")), "--share", "0.25"])
    near = load_model(tmp_path / "near", torch.float32)
    for a, b, m in zip(first.parameters(), second.parameters(), near.parameters(), strict=True):
        torch.testing.assert_close(m, 0.75 * a + 0.25 * b, atol=1e-3, rtol=8e-3)
    with pytest.raises(SystemExit, match="give a number from 0 to 1"):
        main(["mean", *(str(tmp_path / name) for name in ("1", "2", "far")), "--share", "1.5"])
    assert not torch.equal(first.backbone.embed_tokens.weight, second.backbone.embed_tokens.weight)
    assert dg.load(tmp_path / "mean").generation == dg.load(tmp_path / "1").generation


def test_models_of_other_shapes_have_no_mean(tmp_path, tiny_directory):
    with pytest.raises(SystemExit, match="differ in shape"):
        main(["mean", str(ASSETS / "nano"), str(tiny_directory), str(tmp_path / "mean")])
    assert not (tmp_path / "mean").exists()


@pytest.mark.parametrize(("card", "stages"), [("nano", 22), ("nano-base", 1)])
def test_the_cards_commands_are_real_and_follow_from_each_other(card, stages):
    """Every command is taken by the parser, and starts from an embedded model or from what one before it made."""
    text = " ".join((ASSETS / card / "README.md").read_text(encoding="utf-8").split())
    commands = re.findall(r"`[^`]*-m recipes\.nano ([^`]+)`", text)
    assert len(commands) == stages
    made = {ASSETS / "nano-base"}
    for command in commands:
        options = parser().parse_args(shlex.split(command))
        starts = ("first", "second", "init", "before", "model", "tower")
        needed = [path for name in starts if (path := getattr(options, name, None)) is not None]
        assert {ASSETS.parents[1] / path for path in needed} <= made | {ASSETS / "nano"}, command
        assert getattr(options, "recipe", "base") in RECIPES
        made |= {ASSETS.parents[1] / options.out} if hasattr(options, "out") else set()


# --- prose ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Documents of forty numbered sentences, two a line."""
    documents = [
        "\n".join(f"Story {d} has sentence {i}. It goes on and on here." for i in range(20)) for d in range(40)
    ]
    return Corpus("stories", "1", "none", Path("."), lambda _: iter(documents))


def test_prose_comes_from_training_documents(tokenizer, corpus, tmp_path):
    prose = Prose.load_or_build([corpus], tokenizer, tmp_path)
    again = Prose.load_or_build([corpus], tokenizer, tmp_path)
    assert np.array_equal(prose.tokens, again.tokens) and len(list(tmp_path.iterdir())) == 1
    kept = {d for d in corpus.documents() if held_out(d)}
    text = tokenizer.decode(prose.tokens.tolist())
    assert 0 < len(kept) < 40 and all((d in text) != (d in kept) for d in corpus.documents())


def test_prose_is_continued(tokenizer, corpus):
    prose = Prose.build([corpus], tokenizer)
    config = ModelConfig(vocab_size=4096, canvas_length=32)
    rng = np.random.default_rng(0)
    joined = "\0".join(corpus.documents())
    for example in continuations(prose, tokenizer, config, rng, 40):
        before, after = tokenizer.decode(example.prompt[1:]), decode(example.answer, tokenizer)
        assert example.prompt[0] == config.bos_token_id and example.whole_text and len(example.answer) == 32
        assert before.startswith("Story") and before + after in joined
        ended = config.eos_token_id in example.answer
        assert not ended or (before + after + "\0" in joined + "\0" and example.answer[example.length - 1] == 1)
    for example in requested_continuations(prose, tokenizer, config, rng, 20):
        prompt, answer = tokenizer.decode(example.prompt), decode(example.answer, tokenizer)
        assert prompt.startswith("<bos><|turn>user\n") and prompt.endswith("<turn|>\n<|turn>model\n")
        assert answer == answer.strip() and answer.endswith(".")
