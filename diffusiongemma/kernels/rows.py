"""Rows that make a matrix product round each row as it does in any other batch."""

from __future__ import annotations

import os
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

# On a CPU, products of which a thread has one to three rows left over round those otherwise (MKL, 1 to 64 threads).
MULTIPLE = 4

# On Intel's own CPUs MKL has further kernels for few rows, up to 259 of them at 2,816 columns. Its strict mode rounds
# all alike, for 0 to 13 % more time, products of four rows 30 %. It is read at the process's first product.
CPUS = Path("/proc/cpuinfo")
if CPUS.exists() and "GenuineIntel" in CPUS.read_text(errors="replace"):
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")


def filled(x: Tensor) -> Tensor:
    """x [N, ...] with rows of zeros behind, up to a number of rows that rounds alike. As it is on other devices."""
    missing = -len(x) % MULTIPLE if x.device.type == "cpu" else 0
    return F.pad(x, (0, 0) * (x.ndim - 1) + (0, missing)) if missing else x
