"""A model that learns other things is held to what it thought of canvases on their way."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from training import TINY, batches, tiny_model

from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.errors import InputError
from diffusiongemma.tasks import sudoku
from diffusiongemma.train.config import TrainConfig
from diffusiongemma.train.data import Tokenised, collate
from diffusiongemma.train.objective import Objective
from diffusiongemma.train.rolling import encoder_loss
from diffusiongemma.train.run import Run
from diffusiongemma.train.trainer import train
from recipes.nano.__main__ import main
from recipes.nano.keeping import TOP, Keeper, States, Texts, joined, kept_loss, met

PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8], [9], [3, 1, 4, 1, 5, 9, 2]]


def kept(model, each=2, seed=0) -> States:
    return met(model, PROMPTS, Decoding(steps=6, eos_token_ids=(0,)), each, np.random.default_rng(seed))


@torch.no_grad()
def loss_at(model, states) -> float:
    return float(kept_loss(model, states))


@pytest.fixture(scope="module")
def teacher():
    return tiny_model(seed=3).eval()


def test_states_are_those_of_decoding(teacher):
    states = kept(teacher)
    assert len(states) == 2 * len(PROMPTS) and states.tokens.shape[-1] == TOP
    rows = [PROMPTS.index(ids[:n].tolist()) for ids, n in zip(states.ids, states.start.tolist(), strict=True)]
    assert sorted(rows) == sorted([*range(len(PROMPTS))] * 2)
    for i in range(len(states)):
        cache = teacher.encode(states.ids[i : i + 1, : int(states.start[i])].long())
        soft = states.soft[i].float()
        hidden = teacher.denoise_rows(cache.rows, [states.noisy[i].long()], [soft if bool(soft.any()) else None])
        with torch.no_grad():
            shares = teacher.backbone.logits(hidden).softmax(-1).topk(TOP)
        assert torch.equal(shares.indices[:, 0], states.tokens[i, :, 0].long())
        expected = shares.values / shares.values.sum(-1, keepdim=True)
        torch.testing.assert_close(states.probabilities[i].float(), expected, atol=1e-3, rtol=1e-2)


def test_the_loss_is_least_where_the_model_is_as_it_was(teacher):
    states = kept(teacher)
    entropy = -(states.probabilities.float() * states.probabilities.float().log()).sum(-1).mean()
    at_home = loss_at(teacher, states)
    assert float(entropy) <= at_home < loss_at(tiny_model(seed=4), states)


def test_what_is_held_is_forgotten_less(teacher):
    states = kept(teacher, each=3)
    run = Run(TrainConfig(steps=30, learning_rate=1e-2, precision="float32"), Objective())
    after = []
    for also in (None, Keeper(states, 4, seed=0)):
        model = tiny_model(seed=3)
        train(model, batches, run, also=also)
        after.append(loss_at(model, states))
    before = loss_at(teacher, states)
    assert after[1] - before < 0.5 * (after[0] - before)


def test_texts_are_the_encoders_mean_over_all_tokens(teacher):
    examples = [Tokenised([1, 2, 3][: 1 + n % 3], list(range(5, 5 + n)) + [0] * (-n % 6), n) for n in range(2, 12)]
    rng = np.random.default_rng(0)
    texts = Texts(lambda rng, count, step: examples[:count], TINY, 10, seed=0, weight=2.0)
    one = collate(examples, TINY, rng)
    with torch.no_grad():
        expected = 2.0 * encoder_loss(teacher, one)
        torch.testing.assert_close(texts(teacher, 3), expected, atol=1e-5, rtol=1e-5)


def test_states_are_saved_and_joined(teacher, tmp_path):
    states = joined([kept(teacher), kept(teacher, seed=1)])
    states.save(tmp_path / "states.npz")
    loaded = States.load(tmp_path / "states.npz")
    assert all(torch.equal(getattr(loaded, f.name), getattr(states, f.name)) for f in fields(States))
    some = loaded.take(torch.tensor([0, 1]))
    assert some.ids.shape[1] == int(some.start.max())
    (tmp_path / "bad.npz").write_bytes(b"no")
    with pytest.raises(InputError, match=r"bad\.npz holds no states"):
        States.load(tmp_path / "bad.npz")


def test_a_run_goes_on_with_what_it_was_held_to(teacher, tmp_path, monkeypatch):
    bank = sudoku.SeedBank.build(train=6, test=2)
    monkeypatch.setattr(sudoku.SeedBank, "load_or_build", lambda *_: bank)
    kept(teacher).save(tmp_path / "states.npz")
    command = ["train", str(tmp_path / "out"), "--steps", "1", "--batch", "2", "--cache", str(tmp_path)]
    main(command)
    with pytest.raises(SystemExit, match="another keep"):
        main([*command, "--resume", "--keep", str(tmp_path / "states.npz")])
