"""Canvases that a model learns from while it decodes them: they are what decoding makes, and runs with them resume."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from test_trainer import Crash, free_port, losses
from training import CONFIG, VOCABULARY, WIDTH, random_batch, tiny_model

from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.diffusion.denoise import Canvas, denoise_step
from diffusiongemma.diffusion.noise import Noise
from diffusiongemma.diffusion.stop import Never
from diffusiongemma.errors import CheckpointError, InputError
from diffusiongemma.train import trainer
from diffusiongemma.train.checkpointing import RunDirectory
from diffusiongemma.train.compiled import Compiled
from diffusiongemma.train.config import TrainConfig
from diffusiongemma.train.objective import Batch, Draw, Objective, Totals, loss
from diffusiongemma.train.rolling import Rolling, rollout_loss
from diffusiongemma.train.rollouts import Canvases, Pool, Rollouts
from diffusiongemma.train.run import Run
from diffusiongemma.train.trainer import Hooks, train

pytestmark = pytest.mark.usefixtures("one_thread")
SHARP = Decoding(steps=6, stop=Never())
ROLLOUTS = Rollouts(SHARP, reads=2, pool=3, longest=4)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batches(step: int) -> list[Batch]:
    """Two parts a step, of four and two examples."""
    made = generator(step % 2**32)
    return [random_batch(made), random_batch(made, 2, (8,))]


def filled_pool(model, rollouts: Rollouts = ROLLOUTS, **objective) -> Pool:
    pool = Pool(rollouts, model)
    pool.fill([random_batch(generator(1))] * 6, Objective(**objective), generator(2))
    return pool


@torch.no_grad()
def hidden_of(model, canvases: Canvases) -> torch.Tensor:
    """Hidden states [n, C, D] of reading the canvases as they are, by the inference path."""
    rows = []
    for ids, start, noisy, soft in zip(canvases.ids, canvases.start, canvases.noisy, canvases.soft, strict=True):
        cache = model.encode(ids[None, : int(start)])
        rows.append(model.denoise_rows(cache.rows, [noisy], [soft]))
    return torch.stack(rows)


def test_canvases_go_on_as_they_do_in_decoding():
    """From whatever state they are in: the same tokens, step by step, as `denoise_step` makes of the same canvas."""
    model = tiny_model().eval()
    pool = filled_pool(model)
    canvases = pool.canvases
    decoded = []
    for row in range(len(canvases)):
        cache = model.encode(canvases.ids[row : row + 1, : int(canvases.start[row])])
        canvas = Canvas(cache.rows[0], canvases.noisy[row].clone(), Noise(int(canvases.seed[row]), 0), SHARP)
        canvas.step = int(canvases.step[row])
        decoded.append(canvas)
    entered = [c.step for c in decoded]
    assert len(set(entered)) > 2
    for _ in range(SHARP.steps):
        _, ended = rollout_loss(model, pool, canvases)
        going_on = [i for i, c in enumerate(decoded) if not c.done]
        for _ in range(ROLLOUTS.reads):
            unfinished = [decoded[i] for i in going_on if not decoded[i].done]
            if unfinished:
                denoise_step(model, unfinished)
        for i in going_on:
            passed = canvases.step[i] - entered[i] >= ROLLOUTS.longest
            assert bool(ended[i]) == (decoded[i].done or bool(passed))
            if canvases.step[i] <= SHARP.steps:
                assert torch.equal(canvases.noisy[i], decoded[i].tokens)
                assert torch.equal(canvases.argmax[i], decoded[i].prediction.argmax)
                torch.testing.assert_close(canvases.soft[i], decoded[i].soft, atol=1e-3, rtol=1e-3)


def test_a_canvas_ends_when_it_has_converged():
    """By the rule of decoding: not at its first reading, and then only while the prediction stays as it is."""
    model = tiny_model().eval()
    sure = Decoding(steps=50, stop=type(Decoding().stop)(confidence=1e9))
    pool = filled_pool(model, Rollouts(sure, reads=2, pool=3, longest=50), noise_bias=50.0)
    canvases = pool.canvases
    assert not pool.advance(model, canvases, hidden_of(model, canvases)).any()
    before = canvases.argmax.clone()
    ended = pool.advance(model, canvases, hidden_of(model, canvases))
    assert torch.equal(ended, (canvases.argmax == before).all(1)) and not ended.all()


@torch.no_grad()
def test_the_loss_is_the_mean_of_the_readings():
    """Cross-entropy of the clean canvas given the noisy one and its soft embedding, before each step."""
    model = tiny_model().eval()
    pool, other = filled_pool(model), filled_pool(model)
    pool.advance(model, pool.canvases, hidden_of(model, pool.canvases))
    other.advance(model, other.canvases, hidden_of(model, other.canvases))
    expected = []
    for _ in range(ROLLOUTS.reads):
        hidden = hidden_of(model, other.canvases)
        logits = model.backbone.logits(hidden).flatten(0, 1)
        expected.append(F.cross_entropy(logits, other.canvases.canvas.flatten()))
        other.advance(model, other.canvases, hidden)
    found, _ = rollout_loss(model, pool, pool.canvases)
    assert abs(float(expected[0] - expected[1])) > 1e-3
    torch.testing.assert_close(found, torch.stack(expected).mean(), atol=1e-4, rtol=1e-4)


def test_the_encoder_reads_what_is_offered():
    """Its loss is that of the step's own examples, whatever canvases are on their way."""
    model = tiny_model().eval()
    rolling = Rolling(model, ROLLOUTS, Objective(), TrainConfig(), batches)
    offered = batches(5)
    found = rolling.backward(offered, 0)
    totals = Totals.of(offered, Objective())
    draws = [Draw.sample(len(b.start), WIDTH, VOCABULARY, Objective(), generator(1)) for b in offered]
    expected = sum(loss(model, b, d, Objective(), totals).encoder for b, d in zip(offered, draws, strict=True))
    torch.testing.assert_close(found["encoder"], float(expected.detach()))
    assert found["encoder"] != rolling.backward(batches(6), 1)["encoder"]


def test_ended_canvases_make_room():
    """The first of the examples offered take their places; the others went on."""
    model = tiny_model()
    pool = filled_pool(model)
    canvases, rows = pool.choose(4, generator(3))
    assert len(canvases) == len(set(rows.tolist())) == 4
    pool.advance(model, canvases, hidden_of(model, canvases))
    ended = torch.tensor([False, True, False, True])
    new, before = random_batch(generator(77)), pool.canvases.take(torch.arange(len(pool.canvases)))
    pool.put_back(canvases, rows, ended, new, Objective(), generator(4))
    after = pool.canvases.take(rows)
    width = int(new.start[:2].max())
    assert torch.equal(after.ids[[1, 3], :width], new.ids[:2, :width])
    assert torch.equal(after.canvas[[1, 3]], new.canvas[:2])
    assert (after.argmax[[1, 3]] == -1).all() and (after.soft[[1, 3]] == 0).all()
    assert torch.equal(after.step[[1, 3]], after.entered[[1, 3]])
    assert torch.equal(after.step[[0, 2]], before.step[rows][[0, 2]] + 1)
    assert torch.equal(after.noisy[[0, 2]], canvases.noisy[[0, 2]])
    untouched = [i for i in range(len(before)) if i not in rows.tolist()]
    assert all(torch.equal(a[untouched], b[untouched]) for a, b in zip(
        pool.canvases.tensors().values(), before.tensors().values(), strict=True
    ))  # fmt: skip


def test_the_share_of_right_ones_is_of_those_that_ended(monkeypatch):
    model = tiny_model()
    rolling = Rolling(model, ROLLOUTS, Objective(), TrainConfig(), batches)

    def advance(self, model, canvases, denoised):
        canvases.argmax[:] = canvases.canvas
        canvases.argmax[1::2] += 1
        return torch.arange(len(canvases)) < 2

    monkeypatch.setattr(Pool, "advance", advance)
    found = rolling.backward(batches(0), 0)
    assert (found["ended"], found["right"]) == (4, 2)  # two of each part, of which the first is right
    assert found["denoise"] > 1 and found["encoder"] > 1 and model.backbone.norm.weight.grad is not None


# --- runs -----------------------------------------------------------------------------------------------------------


def run(
    out: Path, stop_after: int | None = None, resume: bool = False, rollouts: Rollouts | None = ROLLOUTS,
    draws: int = 1, **changes,
):  # fmt: skip
    records = []

    def report(record):
        records.append(record)
        if record["step"] == stop_after:
            raise Crash

    plan = Run(TrainConfig(**(CONFIG | {"steps": 10} | changes)), Objective(noise_bias=2.0, draws=draws), rollouts)
    train(tiny_model(), batches, plan, directory=RunDirectory(out), resume=resume, hooks=Hooks(report))
    return records


def test_a_run_resumes_exactly(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "SAVING_SHARE", 1e9)
    records = run(tmp_path / "whole")
    assert any("right" in record for record in records)
    with pytest.raises(Crash):
        run(tmp_path / "cut", stop_after=6)
    run(tmp_path / "cut", resume=True)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    states = [RunDirectory(tmp_path / name).load()[0] for name in ("whole", "cut")]
    assert len(states[0]["rollouts"]) == 2 * 9
    assert all(torch.equal(t, states[1][p][n]) for p, tensors in states[0].items() for n, t in tensors.items())


@pytest.mark.parametrize("stop_after", [3, 8])
def test_rollouts_after_a_part_of_the_run(tmp_path, monkeypatch, stop_after):
    """Until then a step is one of a run without; interrupted on either side the run goes on as if it had not been."""
    monkeypatch.setattr(trainer, "SAVING_SHARE", 1e9)
    late = replace(ROLLOUTS, after=0.5)
    run(tmp_path / "whole", rollouts=late, draws=2)
    run(tmp_path / "plain", rollouts=None, draws=2)
    whole, plain = (list(losses(tmp_path / name).values()) for name in ("whole", "plain"))
    assert whole[:5] == plain[:5] and not set(whole[5:]) & set(plain[5:])
    with pytest.raises(Crash):
        run(tmp_path / "cut", stop_after=stop_after, rollouts=late, draws=2)
    assert ("0/0/start" in RunDirectory(tmp_path / "cut").load()[0]["rollouts"]) == (stop_after > 5)
    run(tmp_path / "cut", resume=True, rollouts=late, draws=2)
    assert list(losses(tmp_path / "cut").values()) == whole


def test_a_state_that_lost_its_canvases_is_refused(tmp_path):
    run(tmp_path, steps=2)
    (RunDirectory(tmp_path).states()[-1] / "rollouts.safetensors").unlink()
    with pytest.raises(CheckpointError, match="lacks canvases"):
        run(tmp_path, steps=4, resume=True)


def test_compiled_the_losses_are_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("diffusiongemma.train.rolling.Compiled", lambda f: Compiled(f, backend="aot_eager"))
    plain, compiled = run(tmp_path / "plain", steps=4), run(tmp_path / "compiled", steps=4, compile=True)
    assert [r["loss"] for r in compiled] == pytest.approx([r["loss"] for r in plain], rel=1e-4)


def test_another_kind_of_rollouts_is_refused(tmp_path):
    run(tmp_path, steps=2)
    with pytest.raises(CheckpointError, match="another rollouts"):
        run(tmp_path, resume=True, rollouts=Rollouts(SHARP, reads=2, pool=3, longest=5))


def test_two_processes_keep_canvases_of_their_own(tmp_path):
    """All of them are saved; one process cannot go on with what two had."""
    address = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    address["PYTHONPATH"] = os.pathsep.join(sys.path)
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, tmp_path],
            env=os.environ | address | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    assert [process.wait(180) for process in processes] == [0, 0]
    tensors, _ = RunDirectory(tmp_path).load()
    assert {name.rsplit("/", 1)[0] for name in tensors["rollouts"]} == {"0/0", "0/1", "1/0", "1/1"}
    seeds = [tensors["rollouts"][f"{rank}/0/seed"] for rank in (0, 1)]
    assert len(seeds[0]) == 3 * 2 and not set(seeds[0].tolist()) & set(seeds[1].tolist())
    with pytest.raises(CheckpointError, match="canvases of so many processes"):
        run(tmp_path, resume=True, shard=False)


@pytest.mark.parametrize(
    ("objective", "config", "words"),
    [
        ({"draws": 2}, {}, "draws"),
        ({}, {"accumulate": 2}, "accumulate"),
    ],
)
def test_what_does_not_go_with_rollouts_is_refused(objective, config, words):
    with pytest.raises(InputError, match=words):
        Rolling(tiny_model(), ROLLOUTS, Objective(**objective), TrainConfig(**config), batches)


def test_impossible_rollouts_are_refused():
    for wrong in ({"reads": 0}, {"pool": 0}, {"longest": 0}):
        with pytest.raises(InputError, match="at least 1"):
            Rollouts(SHARP, **wrong)
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(InputError, match="share from 0"):
            Rollouts(SHARP, after=share)


def test_examples_of_different_lengths_share_a_pool():
    """A longer example makes the others longer, and padding changes no loss."""
    model = tiny_model().eval()
    plain, pool = filled_pool(model), filled_pool(model)
    width = pool.canvases.ids.shape[1]
    new = random_batch(generator(8), 2, (width,))
    canvases, rows = pool.choose(8, generator(3))
    pool.put_back(canvases, rows, torch.arange(8) < 2, new, Objective(), generator(4))
    assert pool.canvases.ids.shape[1] == width + WIDTH
    assert torch.equal(pool.canvases.ids[rows[:2]], new.ids)
    with torch.no_grad():
        expected = rollout_loss(model, plain, plain.canvases.take(rows[2:]))[0]
        found = rollout_loss(model, pool, pool.canvases.take(rows[2:]))[0]
    torch.testing.assert_close(found, expected)


if __name__ == "__main__":
    from diffusiongemma.train import parallel

    trainer.SAVING_SHARE = 1e9
    torch.set_num_threads(1)
    with parallel.process_group():
        run(Path(sys.argv[1]), steps=3, shard=False)
