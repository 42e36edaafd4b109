"""Rows that make a matrix product round each row as it does in any other batch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

# On a CPU, products of which a thread has one to three rows left over round those otherwise (MKL, 1 to 64 threads;
# for Intel's own see `host.round_alike`).
MULTIPLE = 4


def filled(x: Tensor, multiple: int = MULTIPLE) -> Tensor:
    """x [N, ...] with rows of zeros behind, up to a number of rows that rounds alike. As it is on other devices."""
    missing = -len(x) % multiple if x.device.type == "cpu" else 0
    return F.pad(x, (0, 0) * (x.ndim - 1) + (0, missing)) if missing else x
