"""The gated activation, so that a row's result does not depend on the rows beside it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# On a CPU, torch takes so many elements at a time and what remains one by one, with a tanh that rounds differently.
# So does each thread with its share of a tensor of more elements than the grain (ATen's GeluKernel).
LANES = 64
GRAIN = 16384
_SCALE = math.sqrt(2 / math.pi)


def gelu(x: Tensor) -> Tensor:
    """GELU in its tanh form, x [N, ..., D] -> the same shape, each row rounded alike in any batch."""
    if x.device.type != "cpu" or x.requires_grad or torch.compiler.is_compiling():
        return F.gelu(x, approximate="tanh")
    if x.shape[-1] % LANES:
        return _of_even_functions(x)
    row = math.prod(x.shape[1:])
    if x.numel() <= GRAIN or row % (LANES * torch.get_num_threads()) == 0:
        return F.gelu(x, approximate="tanh")
    return torch.cat([F.gelu(part, approximate="tanh") for part in x.split(max(1, GRAIN // row))])


def _of_even_functions(x: Tensor) -> Tensor:
    """The same from functions that round every element alike: about twice as slow."""
    exact = x.float()
    y = (exact * exact).mul_(0.044715 * _SCALE).add_(_SCALE).mul_(exact).tanh_()
    return y.add_(1).mul_(exact).mul_(0.5).to(x.dtype)
