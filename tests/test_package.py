"""What `import diffusiongemma` offers, and what it leaves alone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import diffusiongemma as dg
from diffusiongemma import host


def test_dir_shows_all_public_names():
    code = "import diffusiongemma as dg; print(*dir(dg))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"load", *dg.__all__} <= set(shown)
    assert all(getattr(dg, name) is not None for name in dg.__all__)


UNTOUCHED = """
import os
before = dict(os.environ)
import diffusiongemma.api, diffusiongemma.kernels.rows
assert dict(os.environ) == before
"""


def test_importing_the_package_leaves_the_environment_alone():
    done = subprocess.run([sys.executable, "-c", UNTOUCHED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_loading_asks_for_rounding_that_does_not_depend_on_company(monkeypatch, tmp_path):
    monkeypatch.setenv("MKL_CBWR", "")  # so that it is put back to what it was, absent too
    monkeypatch.delenv("MKL_CBWR")
    monkeypatch.setattr(host, "CPUS", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("vendor_id : AuthenticAMD\n")
    host.round_alike()
    assert "MKL_CBWR" not in os.environ
    (tmp_path / "cpuinfo").write_text("vendor_id : GenuineIntel\n")
    with pytest.raises(dg.ModelNotFound):
        dg.load(tmp_path / "absent")
    assert os.environ["MKL_CBWR"] == "AUTO,STRICT"
    monkeypatch.setenv("MKL_CBWR", "AVX2")
    host.round_alike()
    assert os.environ["MKL_CBWR"] == "AVX2"


def test_the_process_that_compiles_constraints_needs_no_torch():
    code = "import sys, diffusiongemma.serve.transport.compiling_process; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


POLICY = """
import os, pathlib, sys
from diffusiongemma import host
host.STATISTICS = pathlib.Path(sys.argv.pop())
sys.argv = ["diffusiongemma", "--version"]
from diffusiongemma.cli import main
assert "torch" not in sys.modules
try:
    main()
except SystemExit:
    print(os.environ.get("OMP_WAIT_POLICY"), "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    "given, running, policy",
    [
        ({}, 3, "passive"),
        ({}, 1, "None"),
        ({"GOMP_SPINCOUNT": "7"}, 3, "None"),
        ({"OMP_WAIT_POLICY": "active"}, 3, "active"),
    ],
)
def test_threads_of_the_command_line_wait_passively_among_others(tmp_path, given, running, policy):
    statistics = tmp_path / "stat"
    statistics.write_text(f"cpu  1 2\nprocs_running {running}\nprocs_blocked 0\n")
    environment = {name: value for name, value in os.environ.items() if name not in host.WAITING} | given
    command = [sys.executable, "-c", POLICY, statistics]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines()[-1] == f"{policy} False"


def test_without_statistics_the_cores_count_as_free(monkeypatch, tmp_path):
    monkeypatch.setattr(host, "STATISTICS", tmp_path / "absent")
    assert not host.cores_are_busy()
