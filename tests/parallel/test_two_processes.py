"""Two processes with half of each layer, over gloo: the logits and texts of one, and no end that hangs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from serving import wait_until

import diffusiongemma as dg
from diffusiongemma.errors import InputError
from diffusiongemma.parallel.sharding import check_divisible
from diffusiongemma.weights.adapter import save_adapter
from diffusiongemma.weights.checkpoint import load_model
from diffusiongemma.weights.fitting import fit
from diffusiongemma.weights.locate import ASSETS
from diffusiongemma.weights.lora import LoraConfig, adapters, add_lora
from diffusiongemma.weights.quantize import quantize
from diffusiongemma.weights.schemes import Scheme

NANO = ASSETS / "nano"  # 4 heads; 2 key-value heads in sliding layers, 1, which cannot be split, in the global one
PATIENCE = 240  # seconds: a machine with nothing else to do needs ten
CPU = torch.device("cpu")


def start(rank: int, port: int, *command: str) -> subprocess.Popen[str]:
    """One of two processes, as torchrun would start it."""
    told = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | told | where, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def start_both(*command: str) -> list[subprocess.Popen[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [start(rank, port, *command) for rank in (0, 1)]


def ends(*processes: subprocess.Popen[str]) -> list[tuple[int, str, str]]:
    """(exit code, stdout, stderr) of each; none may be left behind."""
    try:
        told = [process.communicate(timeout=PATIENCE) for process in processes]
        return [(process.returncode, *said) for process, said in zip(processes, told, strict=True)]
    finally:
        for process in processes:
            process.kill()


WORK = """
import json, sys
import torch
import diffusiongemma as dg
from pathlib import Path
def work(model):
    ids = torch.arange(10, 340)[None]
    cache = model.encode(ids)
    soft = model.soft_embedding(model.denoise(ids[:, :40], cache))
    logits = model.denoise(torch.arange(50, 90)[None], cache, soft)
    options = dict(seed=7, steps=6, max_new_tokens=96)
    texts = [one.text for one in model.generate(["Name a bird.", "Two colours?"], **options)]
    texts += [model.generate("Count to five.", mode="ar", seed=1, max_new_tokens=24).text]
    texts += [model.generate("Name a fish.", verify="always", **options).text]
    return logits, texts
"""


def written_by(folder: Path, model: str = str(NANO), **options: Any) -> tuple[torch.Tensor, list[str]]:
    """What two processes made of `WORK`."""
    load = f"model = dg.load({model!r}, device='cpu', tensor_parallel=2, **{options!r})\n"
    save = f"torch.save(work(model), Path({str(folder)!r}, 'out.pt'))\n"
    for code, out, errors in ends(*start_both("-c", WORK + load + save)):
        # gloo's threads may abort a process whose work is done and saved, once in tens of ends: "terminate called …"
        assert (code in (0, -6), out) == (True, "") and "Traceback" not in errors, errors
    logits, texts = torch.load(folder / "out.pt")
    return logits, texts


def written_by_one(model: str = str(NANO), **options: Any) -> tuple[torch.Tensor, list[str]]:
    scope: dict[str, Any] = {}
    exec(WORK, scope)
    logits, texts = scope["work"](dg.load(model, device="cpu", **options))
    return logits, texts


def test_two_processes_compute_and_write_what_one_does(tmp_path: Path) -> None:
    (two, their_texts), (one, texts) = written_by(tmp_path), written_by_one()
    assert not torch.equal(one, two), "sums in two halves round otherwise: it was one process that computed"
    torch.testing.assert_close(two, one, atol=2e-4, rtol=1e-4)
    assert their_texts == texts and all(texts)


def test_an_adapter_is_merged_before_the_split(tmp_path: Path) -> None:
    base = load_model(NANO, torch.float32)
    add_lora(base, LoraConfig(rank=2, experts=True), seed=5)
    for lora in adapters(base).values():
        lora.B.data.normal_(0, 0.1)
    save_adapter(base, tmp_path / "adapter", "nano")
    adapted = {"adapter": str(tmp_path / "adapter")}
    (two, _), (one, _) = written_by(tmp_path, **adapted), written_by_one(**adapted)
    torch.testing.assert_close(two, one, atol=2e-4, rtol=1e-4)
    assert (written_by_one()[0] - one).abs().mean() > 0.1


@pytest.mark.parametrize(
    ("options", "apart"), [({"activations": "full"}, 1e-5), ({"activations": "auto", "kv": "int8"}, 0.05)]
)
def test_weights_in_few_bits_are_split_as_they_lie(tmp_path: Path, options: dict[str, str], apart: float) -> None:
    """Experts in 4 bits, the rest in 8; keys and values, and activations, that are rounded may round to a neighbour."""
    quantize(NANO, tmp_path / "packed", Scheme("mixed"))
    options = {"model": str(tmp_path / "packed"), "dtype": "float32"} | options
    (two, texts), (one, _) = written_by(tmp_path, **options), written_by_one(**options)
    assert not torch.equal(one, two) and all(texts)
    assert (two - one).abs().mean() < apart * one.abs().mean()
    assert (written_by_one()[0] - one).abs().mean() > 1.5 * (two - one).abs().mean(), "that of the weights in full"


def test_torchrun_speaks_with_one_voice() -> None:
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "diffusiongemma"]
    asked = ["run", "Name a bird.", "--seed", "7", "--steps", "6", "--json", "--tensor-parallel", "2"]
    ran = subprocess.Popen(
        [sys.executable, *command, *asked], env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    ((code, out, errors),) = ends(ran)
    assert code == 0, errors
    assert json.loads(out)["text"] == dg.load("nano", device="cpu").generate("Name a bird.", seed=7, steps=6).text


LOOP = """
import diffusiongemma as dg
model = dg.load("nano", device="cpu", tensor_parallel=2)
print("ready", flush=True)
while True:
    model.generate("Name a bird.", seed=1, steps=2)
"""


@pytest.mark.parametrize("dies", [0, 1])
def test_a_process_that_dies_ends_the_other(dies: int) -> None:
    both = start_both("-c", LOOP)
    assert both[0].stdout is not None and both[0].stdout.readline() == "ready\n"
    time.sleep(0.5)
    both[dies].kill()
    code, _, errors = ends(*both)[1 - dies]
    assert code == 1 and "have come apart" in errors.splitlines()[-1] and "start them all again" in errors


def test_a_server_answers_and_stops(tmp_path: Path) -> None:
    both = start_both("-m", "diffusiongemma", "serve", "--port", "0", "--tensor-parallel", "2")
    try:
        assert both[0].stdout is not None
        address = both[0].stdout.readline().split()[-1].removesuffix("/v1")
        body = {"messages": [{"role": "user", "content": "Name a bird."}], "seed": 7, "max_tokens": 96}
        replies = [httpx.post(f"{address}/v1/chat/completions", json=body, timeout=PATIENCE).json() for _ in range(2)]
        alone = dg.load("nano", device="cpu").generate("Name a bird.", seed=7, max_new_tokens=96).text
        assert [reply["choices"][0]["message"]["content"].strip() for reply in replies] == [alone.strip()] * 2
        for process in both:  # as torchrun does it
            process.send_signal(signal.SIGTERM)
        wait_until(lambda: both[1].poll() is not None, PATIENCE)
    finally:
        codes = [code for code, _, _ in ends(*both)]
    assert codes == [0, 0]


# --- what cannot be -------------------------------------------------------------------------------------------------


def test_what_cannot_be_split_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quantize(NANO, tmp_path / "packed", Scheme("int8"))
    packed, adapted = tmp_path / "packed", tmp_path / "adapter"
    base = load_model(NANO, torch.float32)
    add_lora(base, LoraConfig(rank=2), seed=5)
    save_adapter(base, adapted, "nano")
    refused: list[tuple[Any, int, dict[str, Any], str]] = [
        ("nano", 3, {}, "4 attention heads cannot be shared out evenly"),
        ("nano", 0, {}, "give a whole number of at least 1"),
        ("nano", 2, {"devices": "cpu,cpu"}, "leave `?devices`? out"),
        (packed, 2, {"adapter": str(adapted)}, "weights in few bits cannot be"),
        ("nano", 2, {"adapter": str(adapted), "quantize": "int4"}, "weights in few bits cannot be"),
        ("nano", 2, {}, "start as many with torchrun --nproc-per-node 2 -m diffusiongemma …; running: 1"),
    ]
    for model, processes, options, words in refused:
        with pytest.raises(InputError, match=words):
            dg.load(model, tensor_parallel=processes, **options)


@pytest.mark.parametrize(("processes", "fine"), [(1, True), (2, True), (4, True), (8, True), (16, True), (3, False)])
def test_the_released_model_can_be_split_by_powers_of_two(processes: int, fine: bool) -> None:
    config = dg.load("nano", device="cpu").config.__class__()
    if fine:
        return check_divisible(config, processes)
    with pytest.raises(InputError):
        check_divisible(config, processes)


@pytest.mark.parametrize("command", [["serve", "--replicas", "2"], ["deploy"], ["eval", "words", "--ray", "local"]])
def test_engines_of_ray_are_one_process_each(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray")
    from diffusiongemma.cli import main

    with pytest.raises(SystemExit) as left:
        main([*command, "--tensor-parallel", "2"])
    assert left.value.code == 2 and "Ray gives each engine one process" in capsys.readouterr().err


def test_what_a_process_needs_is_counted() -> None:
    whole, half = fit("nano", CPU), fit("nano", CPU, processes=2)
    outside = 4 * 4096 * 128
    assert half.need.weights < (whole.need.weights + outside) / 2 + 2 * 10**6
    assert whole.need.caches / 2 < half.need.caches < whole.need.caches  # the one head of the global layer is whole
    assert half.need.parts[0].free == pytest.approx(whole.need.parts[0].free / 2, rel=0.1)
