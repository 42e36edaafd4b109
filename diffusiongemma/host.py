"""What a process asks of the libraries it computes with: both read it once, when they are loaded or first used."""

from __future__ import annotations

import ctypes
import os
import re
import time
from functools import cache
from pathlib import Path

CPUS = Path("/proc/cpuinfo")
STATISTICS = Path("/proc/stat")
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def round_alike() -> None:
    """Have MKL round a product of few rows as it rounds one of many, so that a request's text does not depend on its
    company.

    On Intel's own CPUs MKL has further kernels for few rows, up to 259 of them at 2,816 columns. Its strict mode rounds
    all alike, for 0 to 13 % more time, products of four rows 30 %. It is read at the process's first product: whoever
    computes before calls this first. What the environment says already is left alone.
    """
    if "GenuineIntel" in _text(CPUS):
        os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")


def wait_passively_among_others() -> None:
    """Where other programs compute, have threads that wait for each other give their core away.

    By default they spin: a step of a small model takes half the time of passive waiting on cores that are free, and
    more than twice on cores that are not (`bench/waiting.py`). It is read as torch is loaded, so what is seen now holds
    for the process. What the environment says already is left alone.
    """
    if not any(name in os.environ for name in WAITING) and cores_are_busy():
        os.environ["OMP_WAIT_POLICY"] = "passive"


def cores_are_busy(glances: int = 5, seconds: float = 0.003) -> bool:
    """Whether another thread of this machine was about to run at every one of a few glances."""
    for glance in range(glances):
        if glance:
            time.sleep(seconds)
        running = re.search(r"^procs_running (\d+)$", _text(STATISTICS), re.MULTILINE)
        if running is None or int(running[1]) <= 1:  # one is this process
            return False
    return True


def keep_freed_memory() -> None:
    """Have glibc reuse large blocks instead of returning them to the system after every tensor.

    Fresh pages cost more than much of what is computed in them: of a training step of a small model more than half, of
    a denoise step of the released one in few bits 8 %. `engine.memory.give_back` returns what is free.
    """
    if os.name == "posix" and hasattr(ctypes.CDLL(None), "mallopt"):
        libc = ctypes.CDLL(None)
        m_trim_threshold, m_mmap_threshold, never = -1, -3, 2**31 - 1
        libc.mallopt(m_mmap_threshold, never)
        libc.mallopt(m_trim_threshold, never)


@cache
def multiplies_bfloat16() -> bool:
    """Whether the processor has products of bfloat16: AMX, or AVX-512's. On others float32 is the faster one."""
    return re.search(r"\b(amx_bf16|avx512_bf16|bf16)\b", _text(CPUS)) is not None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # not Linux
        return ""
