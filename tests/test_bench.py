"""The benchmarks run, at toy size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[1] / "bench"


def test_step_compares_with_transformers():
    command = [sys.executable, str(BENCH / "step.py"), "--tiny", "--rounds", "2", "--json"]
    figures = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert set(figures) == {"encode", "denoise", "step"}
    assert all(row["ours_ms"] > 0 and row["theirs_ms"] > 0 and row["ratio"] > 0 for row in figures.values())
