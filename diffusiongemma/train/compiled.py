"""The loss with compiled layers.

Compiled are the parts that all layers have in common and those that read the vocabulary, each once for all layers and
lengths: the whole loss as one graph took four minutes a shape, and its gradients were no numbers on a CPU with AMX (see
the log).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from diffusiongemma.diffusion import readout
from diffusiongemma.kernels import head_loss
from diffusiongemma.model.backbone import Layer
from diffusiongemma.model.layers import SelfConditioner
from diffusiongemma.train import attention

PARTS = (
    (Layer, "before"),
    (Layer, "after"),
    (SelfConditioner, "forward"),
    (attention, "explicit_attention"),
    (head_loss, "of_chunk"),
    (readout, "read_chunk"),
)
MOST = 64  # times that a part is compiled: for kinds of layers, with and without gradients, for single examples


class Compiled:
    """A function of a model, with compiled parts.

    Where nothing can be compiled, for want of a C++ compiler for instance, a warning says so and it runs as it is.
    """

    def __init__(self, function: Callable[..., Any], backend: Any = "inductor"):
        self.function = function
        self.parts = [torch.compile(getattr(*place), dynamic=True, backend=backend) for place in PARTS]

    def __call__(self, *arguments: Any) -> Any:
        if not self.parts:
            return self.function(*arguments)
        try:
            with _in_place(self.parts), torch._dynamo.config.patch(recompile_limit=MOST):
                return self.function(*arguments)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            reason = str(error.inner_exception).strip().split("\n")[0]
            warnings.warn(f"could not compile, going on without: {reason}", stacklevel=2)
            self.parts = []
            return self.function(*arguments)


@contextmanager
def _in_place(parts: list[Any]) -> Iterator[None]:
    """While it lasts, the compiled parts stand in for the plain ones."""
    plain = [getattr(*place) for place in PARTS]
    try:
        for place, part in zip(PARTS, parts, strict=True):
            setattr(*place, part)
        yield
    finally:
        for place, part in zip(PARTS, plain, strict=True):
            setattr(*place, part)
