"""What `import diffusiongemma` offers, and what it leaves alone."""

from __future__ import annotations

import subprocess
import sys

import diffusiongemma as dg


def test_dir_shows_all_public_names():
    code = "import diffusiongemma as dg; print(*dir(dg))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"load", *dg.__all__} <= set(shown)
    assert all(getattr(dg, name) is not None for name in dg.__all__)
