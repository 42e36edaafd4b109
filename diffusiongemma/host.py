"""What a process asks of the libraries it computes with: both read it once, when they are loaded or first used."""

from __future__ import annotations

import os
from pathlib import Path

CPUS = Path("/proc/cpuinfo")
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def round_alike() -> None:
    """Have MKL round a product of few rows as it rounds one of many, so that a request's text does not depend on its
    company.

    On Intel's own CPUs MKL has further kernels for few rows, up to 259 of them at 2,816 columns. Its strict mode rounds
    all alike, for 0 to 13 % more time, products of four rows 30 %. It is read at the process's first product: whoever
    computes before calls this first. What the environment says already is left alone.
    """
    if CPUS.exists() and "GenuineIntel" in CPUS.read_text(errors="replace"):
        os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")


def wait_passively() -> None:
    """Have threads that wait for each other give their core away, as whoever they wait for may need it.

    By default they spin, which makes a step 10 to 30 times slower as soon as another program computes
    (`bench/waiting.py`). It is read as torch is loaded. What the environment says already is left alone.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "passive"
