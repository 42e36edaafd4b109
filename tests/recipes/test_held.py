"""A model that learns with all it has, and is held to what it said of sudokus."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from training import TINY, WIDTH, batches, tiny_model

from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.tasks import sudoku
from diffusiongemma.train.config import TrainConfig
from diffusiongemma.train.data import Tokenised
from diffusiongemma.train.objective import Objective
from diffusiongemma.train.optimisation import optimisers, slow_down
from diffusiongemma.train.run import Run
from diffusiongemma.train.trainer import train
from diffusiongemma.weights.checkpoint import load_model
from diffusiongemma.weights.locate import ASSETS
from recipes.nano import everyday
from recipes.nano.__main__ import main
from recipes.nano.held import Held, train_all_but

OLD = 2  # experts
DECODING = Decoding(steps=6, eos_token_ids=(0,))


def source(rng: np.random.Generator, count: int, step: int) -> list[Tokenised]:
    prompts = [[1 + int(token) for token in rng.integers(30, size=5)] for _ in range(count)]
    return [Tokenised(prompt, [*range(20, 20 + WIDTH)], WIDTH) for prompt in prompts]


def held(seed: int = 0) -> Held:
    return Held(tiny_model(seed=3).eval(), source, DECODING, count=3, seed=seed)


def test_the_loss_is_zero_where_nothing_has_changed_and_has_no_gradient_there():
    model, loss_of = tiny_model(seed=3).eval(), held()
    train_all_but(model, OLD)
    for step in range(3):
        loss = loss_of(model, step)
        loss.backward()
        assert abs(float(loss.detach())) < 1e-5
    assert max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None) < 1e-5


def test_the_loss_is_the_divergence_of_what_is_said():
    """In nats per token of the canvases, from what was said before."""
    other, loss_of = tiny_model(seed=4).eval(), held()
    with torch.no_grad():
        told = float(loss_of(other, 0)) / loss_of.weight
        entropy = float(loss_of(loss_of.before, 1))
    assert told > 0.1 and abs(entropy) < 1e-4


def test_all_learns_but_embeddings_and_the_experts_before():
    model = tiny_model(seed=3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train_all_but(model, OLD)
    train(model, batches, Run(TrainConfig(steps=4, learning_rate=1e-2, optimiser="muon", ema=0.9), Objective()))
    same = {name for name, tensor in model.state_dict().items() if torch.equal(tensor, before[name])}
    assert "backbone.embed_tokens.weight" in same
    for number in range(len(TINY.layer_types)):
        layer = f"backbone.layers.{number}."
        assert f"{layer}self_attn.q_proj.weight" not in same and f"{layer}mlp.up_proj.weight" not in same
        for name in ("router.proj.weight", "experts.gate_up_proj", "experts.down_proj"):
            now, then = model.state_dict()[layer + name], before[layer + name]
            assert torch.equal(now[:OLD], then[:OLD]) and not torch.equal(now, then)


def test_being_held_keeps_a_model_near_to_what_it_said():
    """Trained for other texts, with the loss and without: it says nearly the same of what it is held to."""
    run = Run(TrainConfig(steps=30, learning_rate=1e-2, optimiser="muon", ema=0.9), Objective())
    told = {}
    for name, also in (("free", None), ("held", held())):
        model = tiny_model(seed=3)
        train_all_but(model, OLD)
        train(model, batches, run, also=also)
        with torch.no_grad():
            told[name] = float(np.mean([float(one(model, 100)) for one in (held(5), held(6))]))
    assert told["held"] < 0.5 * told["free"]


def test_what_is_slowed_down_learns_at_its_share_of_the_rate_by_adam():
    model = tiny_model(seed=3)
    slow = model.backbone.layers[0].self_attn.q_proj.weight
    slow_down(slow, 0.25)
    rates = {}
    for one in optimisers(model, TrainConfig(steps=1, optimiser="muon")):
        for group in one.param_groups:
            rates |= {id(p): (type(one).__name__, group.get("share", 1.0)) for p in group["params"]}
    assert rates[id(slow)] == ("Adam", 0.25)
    assert rates[id(model.backbone.layers[1].self_attn.q_proj.weight)] == ("Muon", 1.0)
    slow_down(slow, 0.25, muon=True)
    muon = optimisers(model, TrainConfig(steps=1, optimiser="muon"))[0]
    assert [group["share"] for group in muon.param_groups if any(p is slow for p in group["params"])] == [0.25]
    fast, other = tiny_model(seed=3), tiny_model(seed=3)
    for parameter in other.parameters():
        slow_down(parameter, 0.25)
    before = {name: p.detach().clone() for name, p in fast.named_parameters()}
    for one in (fast, other):
        train(one, batches, Run(TrainConfig(steps=1, learning_rate=1e-3, ema=0.0, warmup=0), Objective()))
    moved, slowly = (
        torch.cat([(p.detach() - before[n]).flatten() for n, p in one.named_parameters()]) for one in (fast, other)
    )
    torch.testing.assert_close(slowly, 0.25 * moved, atol=1e-6, rtol=1e-3)


def test_the_command(tmp_path, monkeypatch):
    bank = sudoku.SeedBank.build(train=6, test=2)
    monkeypatch.setattr(sudoku.SeedBank, "load_or_build", lambda *_: bank)
    sentences = everyday.Sentences(["She has two old cats."])
    materials = everyday.Materials(sentences, ["walrus"], everyday.writing.Written({}))
    monkeypatch.setattr(everyday.Materials, "read", lambda _: materials)
    monkeypatch.setattr("recipes.nano.held.POOL", 2)
    nano, out = ASSETS / "nano", tmp_path / "out"
    command = ["train", str(out), "--recipe", "whole", "--init", str(nano), "--new-from", "4", "--held", "2"]
    command += ["--batch", "2", "--texts", "4", "--precision", "float32", "--cache", str(tmp_path)]
    main([*command, "--steps", "1"])
    main([*command, "--steps", "2", "--resume"])
    before, made = (load_model(where, torch.bfloat16).state_dict() for where in (nano, out))
    changed = {name for name, tensor in made.items() if not torch.equal(tensor, before[name])}
    assert "backbone.layers.0.self_attn.q_proj.weight" in changed and "backbone.embed_tokens.weight" not in changed
    assert json.loads((out / "decoding.json").read_text())["verify"] == "surprising"
    sums = [*command[:1], str(tmp_path / "sums"), *command[2:], "--recipe", "reckoning", "--pages", "1"]
    main([*sums, "--muon", "0.5", "--steps", "1"])
    told = json.loads((tmp_path / "sums" / "training" / "metrics.jsonl").read_text().splitlines()[0])
    assert told["also"] > 0
    with pytest.raises(SystemExit, match="takes the place of --met"):
        main([*command, "--met", "met.npz"])
    with pytest.raises(SystemExit, match="--before goes with --held"):
        main([*command[:4], "--before", str(nano)])
    for given in (["--muon", "1"], ["--muon", "-1", "--held", "2"]):
        with pytest.raises(SystemExit, match="--muon is a share above 0, and goes with --held"):
            main([*command[:4], *given])
    with pytest.raises(SystemExit, match="--held goes with --new-from"):
        main([*command[:4], "--held", "2"])
    with pytest.raises(SystemExit, match="give it with --init"):
        main([word for word in command if word not in ("--init", str(nano))])
