"""Training in several processes of one machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import diffusiongemma as dg
from diffusiongemma.errors import InputError
from diffusiongemma.train.checkpointing import RunDirectory
from diffusiongemma.train.launch import run_processes


def test_more_processes_than_cores_are_refused():
    with pytest.raises(InputError, match="give at most that many"):
        run_processes(10_000, ["--version"])


def test_the_exit_code_is_that_of_what_ran(capfd):
    assert run_processes(1, ["--version"]) == 0
    assert run_processes(1, ["train", "sft", "--data", "none.jsonl", "--out", "x"]) == 2
    assert "none.jsonl" in capfd.readouterr().err


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_the_command_trains_in_two_processes(tiny_directory, tmp_path):
    """The same losses as one process, and a model that loads."""
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(json.dumps({"prompt": f"count {i}", "response": str(i)}) for i in range(8)))
    losses = []
    for count in ("1", "2"):
        out = tmp_path / count
        command = [
            sys.executable, "-m", "diffusiongemma", "train", "sft", "--data", str(data), "--model", str(tiny_directory),
            "--out", str(out), "--steps", "3", "--set", "data.batch=4", "--set", "train.precision=float32",
            "--processes", count,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        losses.append([r["loss"] for r in RunDirectory(out).records() if "loss" in r])
        assert dg.load(out).generate([1, 5], max_new_tokens=4, steps=2).tokens
    assert len(losses[0]) == 3 and losses[0] == pytest.approx(losses[1], abs=1e-4)
