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
    monkeypatch.delenv("MKL_CBWR", raising=False)
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


POLICY = """
import os, sys
sys.argv = ["diffusiongemma", "--version"]
from diffusiongemma.cli import main
assert "torch" not in sys.modules
try:
    main()
except SystemExit:
    print(os.environ.get("OMP_WAIT_POLICY"), "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    "given, policy", [({}, "passive"), ({"GOMP_SPINCOUNT": "7"}, "None"), ({"OMP_WAIT_POLICY": "active"}, "active")]
)
def test_threads_of_the_command_line_wait_passively_unless_told_otherwise(given, policy):
    environment = {name: value for name, value in os.environ.items() if name not in host.WAITING} | given
    done = subprocess.run([sys.executable, "-c", POLICY], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines()[-1] == f"{policy} False"
