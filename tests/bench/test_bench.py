"""The benchmarks run, at toy size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.suite_instances import how_taken, in_orders
from diffusiongemma.control.json_schema.text import json_schema_language
from diffusiongemma.control.languages.compiler import compile_language
from diffusiongemma.kernels.native import kernels

BENCH = Path(__file__).parents[2] / "bench"


def test_step_compares_with_transformers(tmp_path):
    command = [
        sys.executable,
        str(BENCH / "step.py"),
        "--tiny",
        "--rounds",
        "2",
        "--json",
        "--keep",
        str(tmp_path / "model"),
    ]
    written = set()
    for dtype in ("float32", "int8", "int8"):  # by the second the files are there, by the third those in few bits
        one = [*command, "--dtype", dtype, "--theirs", "float32"]
        figures = json.loads(subprocess.run(one, capture_output=True, text=True, check=True).stdout)
        assert set(figures) == {"encode", "denoise", "step"}
        assert all(row["ours_ms"] > 0 and row["theirs_ms"] > 0 and row["ratio"] > 0 for row in figures.values())
        written.add((tmp_path / "model" / "model.safetensors").stat().st_mtime_ns)
    assert len(written) == 1 and (tmp_path / "model-int8" / "config.json").exists()


def test_gpu_step_takes_a_step_apart_and_agrees_with_transformers(tmp_path):
    command = [sys.executable, str(BENCH / "gpu_step.py"), "--tiny", "--device", "cpu", "--rounds", "2", "--reference"]
    subprocess.run([*command, "--out", str(tmp_path / "figures.json")], capture_output=True, text=True, check=True)
    figures = json.loads((tmp_path / "figures.json").read_text())
    (row,) = figures["one_canvas"]
    assert 16 <= row["experts_used"] <= 26  # of 32, ten of them damped
    assert row["parts_ms"].keys() >= {"attention", "experts", "dense MLP", "router", "head", "self-conditioning"}
    assert all(time > 0 for time in (row["step_ms"], row["token_ms"], *row["parts_ms"].values()))
    assert [row["in_flight"] for row in figures["in_flight"]] == [1, 2]
    loose, tight = figures["transformers"]
    assert max(loose["encoder_difference"], loose["logits_difference"]) < 0.3
    assert max(tight["encoder_difference"], tight["logits_difference"]) < 1e-5


def test_gpu_step_describes_what_a_device_did(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    from gpu_step import describe

    seen = {"busy_ms": 3.5, "launches": 40, "longest": [{"kernel": "expert_product", "ms": 1.25, "launches": 30}]}
    lines = describe({"prefix": 5, "step_on_device": seen}).splitlines()
    assert lines[0].startswith("prefix 5") and [line.split()[0] for line in lines[1:]] == [
        "launches", "busy_ms", "expert_product",
    ]  # fmt: skip


def test_gpu_step_measures_kernels(tmp_path):
    pytest.importorskip("triton")
    sizes = (
        "--tiny --device cpu --layers 1 --canvas 4 --prefix 5 --rounds 1 --tune 1 --dtype int4 --kernels --in-flight"
    )
    command = [sys.executable, str(BENCH / "gpu_step.py"), *sizes.split(), "--out", str(tmp_path / "figures.json")]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    figures = json.loads((tmp_path / "figures.json").read_text())
    (agreement,), (row,), (tuned,) = figures["agreement"], figures["one_canvas"], figures["tuned"]
    assert agreement["same_argmax"] == 1 and max(agreement[x] for x in ("prompt", "canvas", "token", "soft")) < 1e-4
    assert row["kernels"] and min(row[f"{x}_ms"] for x in ("step", "token", "denoise_pass", "read_pass")) > 0
    assert [found["products"] for found in tuned["products"]] == ["experts", "matrices", "head"] * 2


def test_tensor_parallel_times_both_ways_and_their_sums(tmp_path):
    command = [sys.executable, str(BENCH / "tensor_parallel.py"), str(tmp_path / "model"), "--tiny", "--layers", "2"]
    command += ["--prefix", "5", "--rounds", "1", "--out", str(tmp_path / "figures.json")]
    subprocess.run(command, capture_output=True, text=True, check=True)
    figures = json.loads((tmp_path / "figures.json").read_text())
    ways = [figures[name] for name in figures if "process" in name]
    assert len(ways) == 3 and all(way["step_s"] > 0 and way["token_s"] > 0 for way in ways)
    assert figures["layers"] == 2 and figures["sums"]["step_sums_s"] > 0


@pytest.mark.skipif(kernels()[0] is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("size, experts_used", [([], range(16, 27)), (["--quarter"], range(8, 9))])
def test_real_size_makes_a_packed_model_and_runs_it(tmp_path, size, experts_used):
    """Of 32 experts ten are damped; the model of the quarter has eight, and a vision tower."""
    sizes = [
        "--tiny",
        *size,
        "--prefix",
        "20",
        "300",
        "--rounds",
        "1",
        "--kv",
        "int8",
        "--out",
        str(tmp_path / "figures.json"),
    ]
    command = [sys.executable, str(BENCH / "real_size.py"), str(tmp_path / "model"), *sizes]
    subprocess.run(command, capture_output=True, text=True, check=True)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [row["prefix"] for row in figures["prefixes"]] == [20, 300]
    assert all(row["step_gops"] > 0 and row["token_gb_s"] > 0 for row in figures["prefixes"])
    assert all(round(row["experts_used"]) in experts_used for row in figures["prefixes"])
    assert figures["generate"]["tokens"] == 32 and figures["files_gb"] > 0


def test_serve_measures_both_modes_and_the_cost_of_serving(tiny_directory):
    sizes = ["--clients", "2", "--seconds", "0", "--rounds", "1", "--tokens", "16"]
    command = [sys.executable, str(BENCH / "serve.py"), "--model", str(tiny_directory), *sizes, "--json"]
    figures = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert {row["mode"] for row in figures["rows"]} == {"diffusion", "diffusion, early text", "autoregressive"}
    assert all(row["requests"] == 2 and row["tokens_per_second"] > 0 for row in figures["rows"])
    assert all(0 < row["first_ms"] <= row["p99_ms"] + 1 for row in figures["rows"])
    assert figures["overhead"]["engine_step_ms"] > 0 and figures["overhead"]["served_step_ms"] > 0


def test_batch_is_timed_against_the_engine_and_writes_the_same(tiny_directory):
    sizes = ["--requests", "6", "--at-once", "3", "--rounds", "1"]
    command = [sys.executable, str(BENCH / "batch.py"), "--model", str(tiny_directory), *sizes, "--json"]
    figures = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert figures["engine_per_second"] > 0 and figures["batch_per_second"] > 0 and figures["ratio"] > 0


def test_fleet_plans_for_users_and_devices(tiny_directory):
    sizes = [
        "--sizes",
        "1,2",
        "--requests",
        "1",
        "--tokens",
        "16",
        "--users",
        "1,6",
        "--devices",
        "1,2",
        "--price",
        "3.6",
    ]
    command = [sys.executable, str(BENCH / "fleet.py"), "--model", str(tiny_directory), *sizes, "--json"]
    figures = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    rates = {(row["mode"], row["at_once"]): row for row in figures["measured"]}
    plans = {(row["fleet"], row["users"], row["devices"]): row for row in figures["plans"]}
    kinds = ("diffusion", "autoregressive", "mixed")
    expected = {(kind, users, devices) for kind in kinds for users in (1, 6) for devices in (1, 2)}
    assert set(plans) == expected - {("mixed", 1, 1), ("mixed", 6, 1)}  # which take two devices
    for fleet in ("diffusion", "autoregressive"):
        two = rates[fleet, 2]
        many = plans[fleet, 6, 2]  # three users a device, of which two are computed at once
        assert many["tokens_per_second"] == pytest.approx(2 * two["tokens"])
        assert many["mean_seconds"] == pytest.approx(3 / two["requests"])
        assert many["p99_seconds"] == pytest.approx(many["mean_seconds"] * two["spread"])
        assert many["cost_per_million"] == pytest.approx(2 * 1e-3 / (2 * two["tokens"]) * 1e6)
    assert plans["mixed", 6, 2]["tokens_per_second"] > 0


def test_what_a_constraint_adds_to_a_step():
    command = [
        sys.executable,
        str(BENCH / "constrained_step.py"),
        "--schema",
        "three strings",
        "--rounds",
        "3",
        "--json",
    ]
    (row,) = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert row["step_ms"] > row["read_ms"] > 0 and row["moves"] > 1000
    assert row["overhead"] < 1 and row["overhead_with_path"] < 1


def test_quality_asks_as_many_of_each_task_as_it_is_told_and_ends_with_the_table(tmp_path):
    text = tmp_path / "text.md"
    text.write_text("A canvas is the block of tokens being denoised.\n\n" * 20)
    command = [sys.executable, str(BENCH / "quality.py"), "--models", "nano", "--schemes", "int8", "--text", str(text)]
    command += ["--questions", "2", "0", "1", "--out", str(tmp_path / "figures.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [row for row in json.loads((tmp_path / "figures.json").read_text())["rows"] if "task" in row]
    assert [(row["task"], row["n"]) for row in rows] == [("sudoku", 2), ("repair", 1)]
    line = done.stdout.splitlines()[-1]
    assert line.startswith("| nano int8 | ") and "(n = 2)" in line and "(n = 1)" in line


def test_instances_of_the_suite_count_by_how_they_are_taken():
    """Invalid ones in any order of keys, but as they are spelt: 1.0 is no integer in draft 4."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "null"}}}
    dfa = compile_language(json_schema_language(schema))
    assert how_taken(dfa, {"a": 1, "b": None}, True) == "taken"
    assert how_taken(dfa, {"a": 1.0}, True) == "taken, whole numbers without a point"
    assert how_taken(dfa, {"a": 1.0}, False) == how_taken(dfa, {"a": 1.5, "b": None}, True) == "left out"
    assert {how_taken(dfa, {"b": None, "a": 1}, valid) for valid in (True, False)} == {
        "taken, in another order of keys"
    }
    nested = [{"b": [{"x": 1, "y": 2}], "a": 3}]
    assert len(list(in_orders(nested))) == 4 and all(order == nested for order in in_orders(nested))
