"""Runs of a tiny model: what they compute, how they are killed and resumed, and what can go wrong."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from training import CONFIG, batches, plan, random_batch, run, tiny_model

import diffusiongemma as dg
from diffusiongemma.errors import CheckpointError, InputError, UserError
from diffusiongemma.train import checkpointing
from diffusiongemma.train.checkpointing import RunDirectory
from diffusiongemma.train.config import TrainConfig
from diffusiongemma.train.objective import Draw, Objective, Totals, loss
from diffusiongemma.train.optimisation import Average, optimisers
from diffusiongemma.train.progress import Means, seconds_of
from diffusiongemma.train.run import Run
from diffusiongemma.train.runtime import Clock
from diffusiongemma.train.sft import held_out_loss
from diffusiongemma.train.trainer import Evaluation, Hooks, Training, train
from diffusiongemma.weights.checkpoint import load_model

TESTS = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("one_thread")  # as in the processes that these runs are compared with
LENGTH = 12  # steps of the runs that are killed


def losses(out: Path) -> dict[int, float]:
    """By step; where a step was done again, the later one."""
    return {r["step"]: r["loss"] for r in RunDirectory(out).records() if "loss" in r}


def assert_same_run(found: Path, expected: Path) -> None:
    """The same losses at every step, and the same weights, average and optimiser state to the last bit."""
    assert losses(found) == losses(expected)
    states = [RunDirectory(out).load() for out in (found, expected)]
    assert states[0][1]["step"] == states[1][1]["step"]
    for part in checkpointing.PARTS:
        one, other = (tensors[part] for tensors, _ in states)
        assert one.keys() == other.keys() and one
        assert all(torch.equal(one[name], other[name]) for name in one)
    ours, theirs = (load_model(out).state_dict() for out in (found, expected))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


# --- what a step computes -------------------------------------------------------------------------------------------


# First loss, mean of the last ten losses, last norm of the gradients.
PINNED = (8.098546, 5.525705, 3.665938)


def test_fifty_steps_give_the_pinned_figures(tmp_path):
    """Refactoring must not change numbers unnoticed. The same machine gives the same floats each time; kernels of other
    CPUs or thread counts add in another order, which makes 2e-6 here after 50 steps: hence a tolerance of 1e-4."""
    _, records = run(tmp_path, steps=50, save_seconds=1e9)
    figures = (records[0]["loss"], sum(r["loss"] for r in records[-10:]) / 10, records[-1]["norm"])
    assert figures == pytest.approx(PINNED, abs=1e-4)


def test_a_step_is_adam_on_the_clipped_gradient():
    """The first two steps, written out."""
    config = TrainConfig(**(CONFIG | {"steps": 2, "clip": 0.5}))
    model, other = tiny_model(), tiny_model()
    train(model, batches, Run(replace(config, ema=0.0)))
    adam = torch.optim.Adam(other.parameters(), lr=1.0, betas=(0.95, 0.99))
    training = Training(other, batches, Run(config))
    for step in range(2):
        training.step = step
        parts = list(training._parts(batches(step)))
        totals = Totals.of(batches(step), Objective())
        for batch, draw in parts:
            loss(other, batch, draw, Objective(), totals).total.backward()
        nn.utils.clip_grad_norm_(other.parameters(), 0.5)
        progress = step / 2
        warm = min(1.0, max((step + 1) / 3, progress / 0.1))
        adam.param_groups[0]["lr"] = 3e-3 * warm * (0.1 + 0.9 * (1 + math.cos(math.pi * progress)) / 2)
        adam.step()
        adam.zero_grad()
    for found, expected in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-5)


def test_it_learns(tmp_path):
    _, records = run(tmp_path, steps=80, learning_rate=1e-2, optimiser="muon", save_seconds=1e9)
    assert records[0]["encoder"] > 3.5 and records[-1]["encoder"] < 2  # Muon rounds to bfloat16, each CPU in its way
    batch = random_batch(torch.Generator().manual_seed(999))
    draw = Draw.sample(4, 6, 41, Objective(), torch.Generator().manual_seed(1))
    with torch.no_grad():
        before, after = (loss(model, batch, draw, Objective()) for model in (tiny_model(), dg.load(tmp_path).network))
    assert float(after.encoder) < 2 < 3.5 < float(before.encoder) and float(after.denoise) < 3 < float(before.denoise)


@pytest.mark.parametrize("changes", [{"accumulate": 2}, {"accumulate": 4}, {"grad_checkpoint": True}])
def test_saving_memory_changes_nothing(tmp_path, changes):
    plain, before = run(tmp_path / "plain")
    model, after = run(tmp_path / "saving", **changes)
    for one, other in zip(before, after, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=2e-5)
    for one, other in zip(plain.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=0)


def test_processes_make_the_same_batches(tmp_path):
    _, expected = run(tmp_path / "thread")
    _, found = run(tmp_path / "processes", workers=2)
    assert [record["loss"] for record in found] == [record["loss"] for record in expected]


def test_bfloat16_is_near(tmp_path):
    _, records = run(tmp_path / "a")
    model, rounded = run(tmp_path / "b", precision="bfloat16")
    assert all(abs(a["loss"] - b["loss"]) < 0.1 for a, b in zip(records, rounded, strict=True))
    assert records[0]["loss"] != rounded[0]["loss"] and model.dtype == torch.float32


def test_the_schedule_warms_up_and_falls_to_a_tenth():
    config = TrainConfig(steps=2000)
    rates = [config.rate(step, step / 2000) for step in range(2001)]
    assert rates[0] == pytest.approx(0.01, rel=1e-3) and rates[99] == pytest.approx(1, abs=0.01)
    assert rates[1000] == pytest.approx(0.55) and rates[2000] == pytest.approx(0.1)
    assert max(TrainConfig(steps=20).rate(s, s / 20) for s in range(20)) > 0.9  # short runs warm up faster
    both = TrainConfig(steps=100, budget=50.0)
    assert both.progress(50, 10) == 0.5 and both.progress(50, 40) == 0.8
    assert TrainConfig(steps=None, budget=50.0).progress(10**6, 25) == 0.5


def test_the_average_is_exponential():
    model = tiny_model()
    average = Average(model, 0.9)
    expected = model.backbone.norm.weight.detach().clone()
    for step in range(30):
        with torch.no_grad():
            model.backbone.norm.weight += 1
        average.update(model, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.backbone.norm.weight.detach()
    raw = model.backbone.norm.weight.detach().clone()
    with average.applied(model):
        torch.testing.assert_close(model.backbone.norm.weight.detach(), expected)
    assert torch.equal(model.backbone.norm.weight, raw)


def test_muon_takes_the_matrices_of_the_stack():
    muon, adam = optimisers(tiny_model(), TrainConfig(optimiser="muon"))
    shapes = [[p.ndim for group in one.param_groups for p in group["params"]] for one in (muon, adam)]
    assert set(shapes[0]) == {2} and {1, 2, 3} == set(shapes[1]) and shapes[1].count(2) == 1  # the embedding


def test_frozen_parameters_stay(tmp_path):
    model = tiny_model()
    model.requires_grad_(False)
    model.backbone.layers[1].requires_grad_(True)
    before = {name: p.clone() for name, p in model.named_parameters()}
    train(model, batches, plan(), directory=RunDirectory(tmp_path))
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) != name.startswith("backbone.layers.1")
    (state,) = RunDirectory(tmp_path).states()
    assert len(checkpointing.load_file(state / "weights.safetensors")) < len(before) / 2


def test_the_best_model_is_kept(tmp_path):
    scores, exported = iter([1.0, 3.0, 2.0]), []
    model = tiny_model()
    train(
        model,
        batches,
        plan(steps=12, evaluate_every=4),
        directory=RunDirectory(tmp_path),
        hooks=Hooks(
            evaluate=lambda module: Evaluation(next(scores), {"figure": 7.0}),
            export=lambda trained: exported.append(trained.backbone.norm.weight.detach().clone()),
        ),
    )
    records = [r for r in RunDirectory(tmp_path).records() if "score" in r]
    assert [(r["step"], r["score"], r["best"]) for r in records] == [(4, 1.0, True), (8, 3.0, True), (12, 2.0, False)]
    assert records[0]["figure"] == 7.0
    assert len(exported) == 2 and not torch.equal(exported[-1], model.backbone.norm.weight)


# --- killed and resumed ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    torch.set_num_threads(1)
    run(out, steps=LENGTH)
    return out


def killed_run(out: Path, after: int) -> None:
    """A run in a process of its own, killed once it has done `after` steps."""
    directory = RunDirectory(out)
    process = subprocess.Popen([sys.executable, TESTS / "training.py", out, str(LENGTH), "0.03"])
    try:
        deadline = time.monotonic() + 180
        while not (directory.states() and len(list(directory.records())) >= after):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_a_killed_run_ends_like_one_that_was_not(uninterrupted, tmp_path):
    """SIGKILL at whatever moment it comes."""
    killed_run(tmp_path, 5)
    assert 0 < RunDirectory(tmp_path).load()[1]["step"] < LENGTH
    run(tmp_path, steps=LENGTH, resume=True)
    assert_same_run(tmp_path, uninterrupted)


class Crash(BaseException):
    """The end of the process, as far as files can tell."""


@pytest.mark.parametrize(
    ("operation", "number"),
    [("save_file", 1), ("save_file", 6), ("os.fsync", 7), ("os.replace", 3)],
)
def test_a_crash_in_the_middle_of_saving_loses_nothing(uninterrupted, tmp_path, monkeypatch, operation, number):
    """At the `number`-th call of an operation; what a dead process would not have done is undone."""
    calls = 0
    target = checkpointing
    for name in operation.split(".")[:-1]:
        target = getattr(target, name)
    name = operation.split(".")[-1]
    original = getattr(target, name)

    def crashing(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == number:
            raise Crash
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(target, name, crashing)
        patch.setattr(checkpointing.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(Crash):
            run(tmp_path, steps=LENGTH)
    run(tmp_path, steps=LENGTH, resume=True)
    assert_same_run(tmp_path, uninterrupted)
    assert not list((tmp_path / "training").glob(".partial*")) and len(RunDirectory(tmp_path).states()) == 1


def test_a_torn_last_line_is_passed_over(uninterrupted, tmp_path):
    stopped = tmp_path / "run"
    with pytest.raises(Crash):
        train_until(stopped, 8)
    with RunDirectory(stopped).metrics.open("a") as file:
        file.write('{"step": 9, "lo')
    run(stopped, steps=LENGTH, resume=True)
    assert losses(stopped) == losses(uninterrupted)


def train_until(out: Path, step: int, config: dict | None = None, **options) -> None:
    def report(record):
        if record["step"] == step:
            raise Crash

    changed = plan(**({"steps": LENGTH} | (config or {})))
    train(tiny_model(), batches, changed, directory=RunDirectory(out), hooks=Hooks(report), **options)


def test_every_option_resumes_exactly(tmp_path):
    """Muon's momentum, rounded products, recomputed layers, parts."""
    options = dict(optimiser="muon", precision="bfloat16", grad_checkpoint=True, accumulate=2)
    run(tmp_path / "whole", **options)
    with pytest.raises(Crash):
        train_until(tmp_path / "cut", 5, {"steps": 8, **options})
    run(tmp_path / "cut", resume=True, **options)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    states = [RunDirectory(tmp_path / name).load()[0] for name in ("whole", "cut")]
    assert all(torch.equal(t, states[1][p][n]) for p, tensors in states[0].items() for n, t in tensors.items())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_step_and_saves_it(uninterrupted, tmp_path, number):
    def report(record):
        if record["step"] == 7:
            os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt):
        long = plan(steps=LENGTH, save_seconds=1e9)
        train(tiny_model(), batches, long, directory=RunDirectory(tmp_path), hooks=Hooks(report))
    assert RunDirectory(tmp_path).load()[1]["step"] == 7
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    run(tmp_path, steps=LENGTH, save_seconds=1e9, resume=True)
    assert losses(tmp_path) == losses(uninterrupted)


def test_a_schedule_by_the_clock_repeats_what_was_done(tmp_path):
    """Steps after the last state, done again, see the clock as it stood the first time."""
    out = tmp_path / "run"
    with pytest.raises(Crash):
        train_until(out, 9, {"budget": 1000.0, "save_seconds": 1e9})
    first = list(RunDirectory(out).records())
    run(out, budget=1000.0, steps=LENGTH, resume=True)
    second = list(RunDirectory(out).records())[len(first) :]
    keys = ("step", "seconds", "rate", "loss")
    assert [[r[k] for k in keys] for r in second[:9]] == [[r[k] for k in keys] for r in first]
    assert second[9]["seconds"] >= second[8]["seconds"]


def test_a_budget_ends_a_run(tmp_path):
    started = time.monotonic()
    run(tmp_path, steps=None, budget=0.5)
    assert 0.4 < time.monotonic() - started < 10
    assert 0.5 < list(RunDirectory(tmp_path).records())[-1]["progress"] < 1


def test_the_clock_goes_on_from_what_is_recorded():
    clock = Clock(10.0, {3: 11.0, 4: 15.0})
    assert clock.at(3) == 11.0 and clock.at(4) == 15.0 and 15.0 <= clock.at(5) < 15.5


def test_longer_runs_go_on_and_finished_ones_end_at_once(five_steps):
    _, records = run(five_steps, steps=5, resume=True)
    assert records == []
    _, records = run(five_steps, steps=8, resume=True)
    assert [r["step"] for r in records] == [6, 7, 8]


# --- what can go wrong ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "finished"
    run(out, steps=5)
    return out


@pytest.fixture
def five_steps(finished, tmp_path) -> Path:
    """A run of five steps that a test may spoil."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def intact(out: Path, step: int) -> bool:
    return RunDirectory(out).load()[1]["step"] == step and bool(load_model(out))


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"learning_rate": 1e-3}, "another learning-rate (0.003, not 0.001)"), ({"seed": 5}, "another seed (0, not 5)")],
)
def test_another_configuration_is_refused(five_steps, changes, words):
    with pytest.raises(CheckpointError) as caught:
        run(five_steps, steps=9, resume=True, **changes)
    assert words in str(caught.value) and "\n" not in str(caught.value) and intact(five_steps, 5)


def test_another_model_or_data_is_refused(five_steps):
    for model, settings, word in ((tiny_model(hidden_size=24), {}, "model"), (tiny_model(), {"data": "x"}, "data")):
        with pytest.raises(CheckpointError, match=f"another {word}"):
            train(model, batches, plan(), directory=RunDirectory(five_steps), resume=True, settings=settings)
    assert intact(five_steps, 5)


def test_a_run_is_not_overwritten(five_steps):
    with pytest.raises(InputError, match="holds a run of 5 steps: go on with --resume"):
        run(five_steps, steps=5)


def test_resuming_nothing_starts(uninterrupted, tmp_path):
    run(tmp_path, steps=LENGTH, resume=True)
    assert_same_run(tmp_path, uninterrupted)


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path):
    def poisoned(step):
        if step == 6:
            model.backbone.norm.weight.data[0] = math.nan  # from another thread, perhaps during a backward pass
        return batches(step)

    model = tiny_model()
    with pytest.raises(UserError, match=r"step \d: the loss is no longer a finite number.*lower learning rate"):
        train(model, poisoned, plan(), directory=RunDirectory(tmp_path))
    state, values = RunDirectory(tmp_path).load()
    assert values["step"] > 0 and all(t.isfinite().all() for t in state["weights"].values())


def test_a_full_disk_ends_the_run_with_the_last_state_intact(uninterrupted, tmp_path, monkeypatch):
    original, calls = checkpointing.save_file, 0

    def full(tensors, path, metadata):
        nonlocal calls
        calls += 1
        if calls == 8:
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        original(tensors, path, metadata)

    with monkeypatch.context() as patch:
        patch.setattr(checkpointing, "save_file", full)
        with pytest.raises(
            UserError, match=r"No space left on device: see that there is space, .*--resume.*is intact"
        ) as caught:
            run(tmp_path, steps=LENGTH)
    assert "\n" not in str(caught.value) and not list((tmp_path / "training").glob(".partial*"))
    run(tmp_path, steps=LENGTH, resume=True)
    assert_same_run(tmp_path, uninterrupted)


@pytest.mark.parametrize("file", ["weights.safetensors", "state.json"])
def test_a_damaged_state_is_told(five_steps, file):
    (state,) = RunDirectory(five_steps).states()
    (state / file).write_bytes(b"{junk")
    with pytest.raises(CheckpointError, match="cannot be read"):
        run(five_steps, steps=9, resume=True)


def test_a_directory_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        run(tmp_path / "file")


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_of_the_data_come_through(tmp_path, workers):
    def broken(step):
        if step == 4:
            raise UserError("line 7 of my.jsonl has gone")
        return batches(step)

    with pytest.raises(UserError, match="line 7"):
        train(tiny_model(), broken, plan(workers=workers), directory=RunDirectory(tmp_path))
    assert 0 < RunDirectory(tmp_path).load()[1]["step"] <= 4


@pytest.mark.parametrize(
    "options",
    [
        {"steps": None}, {"steps": 0}, {"learning_rate": 0.0}, {"learning_rate": math.nan}, {"budget": -1.0},
        {"accumulate": 0}, {"ema": 1.0}, {"optimiser": "sgd"}, {"precision": "float16"}, {"clip": 0.0},
        {"workers": -1},
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(options):
    with pytest.raises(InputError) as caught:
        TrainConfig(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"), [("50m", 3000), ("3600s", 3600), ("1h", 3600), ("1.5h", 5400), ("90", 90)]
)
def test_durations(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "5 days", "-3m", "0", "h"])
def test_durations_that_are_none(text):
    with pytest.raises(InputError, match="like 50m"):
        seconds_of(text)


def test_means_of_records():
    shown: list[dict] = []
    means = Means(every=2)
    for record in ({"step": 1, "loss": 1.0}, {"step": 2, "loss": 3.0, "encoder": 5.0}, {"step": 2, "score": 0.5}):
        means.add(record, shown.append)
    assert shown == [{"step": 2, "loss": 2.0, "encoder": 5.0}, {"step": 2, "score": 0.5}]


# --- several processes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"shard": False}])
def test_two_processes_train_like_one(tmp_path, changes):
    """FSDP2, or all weights in each, over gloo: losses and weights within 1e-5 of one process's, as sums in another
    order are all the difference (1e-6 measured). Their run is then resumed in one process. torchrun would set these
    variables."""
    address = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, TESTS / "training.py", tmp_path / "two", "6", "0", "4", json.dumps(changes)],
            env=os.environ | address | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    evaluate = held_out_loss(batches(-1), Objective(), "float32", 0)
    alone, _ = run(tmp_path / "one", steps=6, evaluate=evaluate, evaluate_every=4, **changes)
    assert [process.wait(180) for process in processes] == [0, 0]
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert one.keys() == two.keys() and all(abs(one[step] - two[step]) < 1e-5 for step in one)
    scores = [[r["score"] for r in RunDirectory(tmp_path / o).records() if "score" in r] for o in ("one", "two")]
    assert len(scores[0]) == 2 and scores[0] == pytest.approx(scores[1], abs=1e-5)
    together = load_model(tmp_path / "two")
    for expected, found in zip(alone.parameters(), together.parameters(), strict=True):
        torch.testing.assert_close(found, expected.detach(), atol=1e-5, rtol=0)
    for out in ("one", "two"):
        run(tmp_path / out, steps=8, resume=True, **changes)
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert all(abs(one[step] - two[step]) < 1e-5 for step in (7, 8))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]
