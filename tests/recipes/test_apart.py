"""Experts that learn apart: a model is given more of them, and what it could before stays to the last bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from training import TINY, WIDTH, batches, tiny_model

import diffusiongemma as dg
from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.errors import InputError
from diffusiongemma.model.model import Model
from diffusiongemma.tasks import sudoku
from diffusiongemma.train.config import TrainConfig
from diffusiongemma.train.data import Tokenised, collate
from diffusiongemma.train.objective import Objective
from diffusiongemma.train.rolling import encoder_loss
from diffusiongemma.train.run import Run
from diffusiongemma.train.trainer import train
from diffusiongemma.weights.checkpoint import load_model
from diffusiongemma.weights.locate import ASSETS
from recipes.nano import apart, everyday
from recipes.nano.__main__ import main
from recipes.nano.apart import Apart, Met, Texts, met_by, met_reading, set_routers, shares_chosen, train_new_experts
from recipes.nano.grow import with_experts

OLD = TINY.num_experts
KNOWN = [[1, 2, 3], [4, 5, 6, 7, 8], [9], [3, 1, 4, 1, 5, 9, 2]]
DECODING = Decoding(steps=6, eos_token_ids=(0,))
NEW = [[30, 31, 32, 33], [40, 39, 38], [35, 36, 37, 34, 33, 32]]


@pytest.fixture
def teacher():
    return tiny_model(seed=3).eval()


def read(prompts: list[list[int]]) -> list[Tokenised]:
    return [Tokenised(prompt, [], 0) for prompt in prompts]


def met(model, prompts=KNOWN) -> Met:
    return met_by(model, prompts, DECODING, np.random.default_rng(0))


def logits(model, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        cache = model.encode(torch.tensor([ids]))
        return model.denoise(torch.arange(20, 20 + WIDTH)[None], cache)


def test_what_is_met_is_what_routers_read(teacher):
    seen = met_reading(teacher, read(KNOWN))
    assert seen.inputs.shape == (len(TINY.layer_types), sum(map(len, KNOWN)), TINY.hidden_size)
    x = teacher.backbone.embed(torch.tensor(KNOWN[0]))
    router = teacher.backbone.layers[0].router
    with apart.recorded(teacher) as inputs, torch.no_grad():
        teacher.encode(torch.tensor([KNOWN[0]]))
    torch.testing.assert_close(seen.inputs[0, :3].float(), inputs[0][0][:3], atol=1e-2, rtol=1e-2)
    best = router.proj(inputs[0][0][:3]).topk(TINY.top_k_experts).values[:, -1]
    torch.testing.assert_close(seen.bars[0, :3], best)
    assert len(x) == 3 and not router._forward_pre_hooks


def test_a_model_is_as_it_was_where_no_new_expert_is_chosen(teacher):
    larger = with_experts(teacher, 6).eval()
    for layer in larger.backbone.layers:
        layer.router.proj.weight.data[OLD:] = 0.0
        layer.router.proj.weight.data[:OLD] = 0.0
        layer.router.proj.weight.data[:2, 0], layer.router.proj.weight.data[OLD:, 0] = 1.0, 0.0
    same = with_experts(teacher, 6).eval()
    same.load_state_dict(larger.state_dict())
    for layer in same.backbone.layers:  # what new experts hold does not matter
        layer.experts.gate_up_proj.data[OLD:] = torch.nan
        layer.experts.down_proj.data[OLD:] = torch.nan
    positive = [ids for ids in KNOWN if torch.isfinite(logits(same, ids)).all()]
    assert all(torch.equal(logits(larger, ids), logits(same, ids)) for ids in positive)


def test_routers_are_set_for_what_is_wanted_and_not_for_what_was_met(teacher):
    larger, known, wanted = with_experts(teacher, 6), met(teacher), met_reading(teacher, read(NEW))
    set_routers(larger, known, wanted, OLD, seed=0)
    assert max(shares_chosen(known, larger, OLD)) < 0.02
    assert min(shares_chosen(wanted, larger, OLD)) > 0.3


def test_new_experts_begin_with_what_the_old_ones_do():
    """Wherever a group of them is chosen: most prompts that they are wanted for give what they gave."""

    def changes(model: Model, before: Model) -> list[float]:
        pairs = [(logits(before, ids), logits(model, ids)) for ids in NEW]
        return [float((now - was).norm() / was.norm()) for was, now in pairs]

    found, turned = [], []
    for seed in range(4):  # how well a router can be set depends on the model, and on how a machine rounds
        teacher = tiny_model(seed=seed).eval()
        larger, wanted = with_experts(teacher, 2 * OLD).eval(), met_reading(teacher, read(NEW))
        set_routers(larger, met(teacher), wanted, OLD, seed=0)
        assert min(shares_chosen(wanted, larger, OLD)) > 0.3
        found += changes(larger, teacher)
        for layer in larger.backbone.layers:
            layer.experts.down_proj.data[OLD:] = layer.experts.down_proj.data[OLD:].flip(0)
        turned += changes(larger, teacher)
    assert sum(change < 0.1 for change in found) >= 8 and max(found) < 0.5  # of twelve
    assert sum(change < 0.1 for change in turned) <= 2


def test_canvases_can_be_met_without_their_prompts(teacher):
    whole, canvases = (
        met_by(teacher, KNOWN, DECODING, np.random.default_rng(0), prompts_too=both) for both in (True, False)
    )
    assert torch.equal(whole.inputs[:, sum(map(len, KNOWN)) :], canvases.inputs) and canvases.bars.shape[1] > 0


def test_training_leaves_what_was_there(teacher):
    """Weights to the last bit, and what routers choose for what was met."""
    larger, known = with_experts(teacher, 6), met(teacher)
    wanted = met_reading(teacher, read(NEW))
    set_routers(larger, known, wanted, OLD, seed=0)
    before = {name: tensor.clone() for name, tensor in larger.state_dict().items()}
    train_new_experts(larger, OLD)
    run = Run(TrainConfig(steps=12, learning_rate=1e-2, optimiser="muon", ema=0.9), Objective())
    train(larger, batches, run, also=Apart(known, wanted, OLD, seed=0))
    changed = {name for name, tensor in larger.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name.rsplit("layers.", 1)[-1][2:] for name in changed} == {
        "router.proj.weight", "router.per_expert_scale", "experts.gate_up_proj", "experts.down_proj",
    }  # fmt: skip
    assert all(torch.equal(larger.state_dict()[name][:OLD], before[name][:OLD]) for name in changed)
    assert max(shares_chosen(known, larger, OLD)) < 0.05


def test_the_loss_tells_new_experts_that_come_near_and_too_few_that_are_chosen(teacher):
    larger, known, wanted = with_experts(teacher, 6), met(teacher), met_reading(teacher, read(NEW))
    set_routers(larger, known, wanted, OLD, seed=0)
    with torch.no_grad():
        as_set, other = (float(Apart(*two, OLD, seed=0)(larger, 0)) for two in ((known, wanted), (wanted, known)))
    assert as_set < 0.2 * other


def test_answers_alone_can_be_met(teacher):
    examples = [Tokenised([1, 2, 3], [7, 8, 0, 0, 0, 0], 2), Tokenised([4], [9, 0, 0, 0, 0, 0], 1)]
    whole, answers = (met_reading(teacher, examples, answers) for answers in (False, True))
    assert torch.equal(answers.inputs, whole.inputs[:, [3, 4, 6]])


def test_texts_are_the_encoders_mean_over_all_tokens(teacher):
    examples = [Tokenised([1, 2, 3][: 1 + n % 3], list(range(5, 5 + n)) + [0] * (-n % 6), n) for n in range(2, 12)]
    texts = Texts(lambda rng, count, step: examples[:count], TINY, 10, seed=0, weight=2.0)
    one = collate(examples, TINY, np.random.default_rng(0))
    with torch.no_grad():
        torch.testing.assert_close(texts(teacher, 3), 2.0 * encoder_loss(teacher, one), atol=1e-5, rtol=1e-5)


def test_texts_are_padded_as_little_as_can_be():
    examples = [Tokenised([1] * n, [], 0) for n in (9, 1, 2, 30, 9, 2, 8, 1, 31)]
    groups = apart.least_padded(examples, 3)
    assert [[e.tokens for e in group] for group in groups] == [[1, 1, 2, 2], [8, 9, 9], [30, 31]]
    assert [len(group) for group in apart.least_padded(examples[:2], 5)] == [1, 1]


def test_what_new_experts_are_chosen_for_can_be_left_out(teacher):
    known = met(teacher)
    others = known.of_old(teacher, OLD - 1)
    assert 0 < others.bars.shape[1] < known.bars.shape[1] and others.inputs.shape[:2] == others.bars.shape
    assert max(shares_chosen(known, teacher, OLD - 1)) > 0 == max(shares_chosen(others, teacher, OLD - 1))
    loss = Apart(others, None, OLD - 1, seed=0)(teacher, 0)
    assert torch.isfinite(loss)


def test_router_inputs_are_saved(teacher, tmp_path):
    known = Met.joined([met(teacher), met_reading(teacher, read(NEW))])
    known.save(tmp_path / "met.npz")
    loaded = Met.load(tmp_path / "met.npz")
    assert all(torch.equal(getattr(loaded, name), tensor) for name, tensor in vars(known).items())
    assert loaded.sample(5, torch.Generator(), teacher.device).bars.shape[1] == 5
    (tmp_path / "bad.npz").write_bytes(b"no")
    with pytest.raises(InputError, match=r"bad\.npz holds no router inputs"):
        Met.load(tmp_path / "bad.npz")


def test_the_commands(tmp_path: Path, monkeypatch, capsys):
    """`met`, then `train --experts`, resumed; what does not go together is refused."""
    bank = sudoku.SeedBank.build(train=6, test=2)
    monkeypatch.setattr(sudoku.SeedBank, "load_or_build", lambda *_: bank)
    materials = everyday.Materials(
        everyday.Sentences(["She has two old cats."]), ["walrus"], everyday.writing.Written({})
    )
    monkeypatch.setattr(everyday.Materials, "read", lambda _: materials)
    monkeypatch.setattr(apart, "TOGETHER", 2)
    monkeypatch.setattr(apart, "FITTED", 3)
    monkeypatch.setattr("recipes.nano.train.TO_BE_SET", 8)
    nano, cache = str(ASSETS / "nano-base"), ["--cache", str(tmp_path)]
    before = load_model(ASSETS / "nano-base", torch.bfloat16)
    count = before.config.num_experts
    meet = ["met", str(tmp_path / "met.npz"), "--sudokus", "4", "--canvases", "2", *cache]
    main([*meet, "--model", "nano-base"])
    command = ["train", str(tmp_path / "out"), "--recipe", "talk", "--init", nano, "--batch", "2"]
    command += ["--experts", str(count), "--met", str(tmp_path / "met.npz"), "--texts", "4", *cache]
    command += ["--precision", "float32"]
    main([*command, "--steps", "1"])
    main([*command, "--steps", "2", "--resume"])
    assert json.loads((tmp_path / "out" / "decoding.json").read_text())["verify"] == "surprising"
    further = [*command, "--new-from", str(count)]
    at = further.index("--experts")
    del further[at : at + 2]
    further[1], further[further.index("--init") + 1] = str(tmp_path / "further"), str(tmp_path / "out")
    main([*further, "--steps", "1"])
    old = before.state_dict()
    for name in ("out", "further"):
        made = load_model(tmp_path / name, torch.bfloat16).state_dict()
        assert made.keys() == old.keys() and all(torch.equal(made[k][: len(x)], x) for k, x in old.items())
        assert sum(len(made[k]) == len(x) + count for k, x in old.items()) == 4 * 6
    assert dg.load(tmp_path / "further").generate("Hello", seed=0, max_new_tokens=8).text is not None
    with pytest.raises(SystemExit, match="one of --experts and --new-from"):
        main([*further, "--experts", "2"])
    with pytest.raises(SystemExit, match="--grow leaves as it is"):
        main([*command, "--grow"])
    with pytest.raises(SystemExit, match="none is new from there on"):
        main([*further, "--new-from", "99"])
    with pytest.raises(SystemExit, match="a multiple of these"):
        main([*command, "--experts", "5"])
    with pytest.raises(SystemExit, match="the recipes talk and modest"):
        main([*further, "--recipe", "sudoku"])
    with pytest.raises(SystemExit, match="give it with --init"):
        main([*further[: further.index("--init")], *further[further.index("--init") + 2 :]])
