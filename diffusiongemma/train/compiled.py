"""The loss with compiled layers, for batches whose shapes come back.

Compiled are the parts that all layers have in common, each once for all of them: the whole loss as one graph took four
minutes a shape, and its gradients were no numbers on a CPU with AMX (see the log).
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from diffusiongemma.model.backbone import Layer
from diffusiongemma.model.layers import SelfConditioner
from diffusiongemma.train import attention

OFTEN = 3  # times that shapes are met before they are compiled for, ...
SHARE = 1 / 8  # ... which must be this share of all calls so far: compiling takes a while each time on a CPU
PARTS = ((Layer, "before"), (Layer, "after"), (SelfConditioner, "forward"), (attention, "explicit_attention"))
MOST = 64  # shapes that a part is compiled for


class Compiled:
    """A function of a model whose layers are compiled for shapes that come back often; for others they run as they are.

    Sudoku boards have one length, and conversations hardly ever the same: code for any length would take longer to
    compile than most runs last (see the log). Where nothing can be compiled, for want of a C++ compiler for instance,
    a warning says so and the function runs as it is.
    """

    def __init__(self, function: Callable[..., Any], backend: Any = "inductor"):
        self.function = function
        self.parts = [torch.compile(getattr(o, name), dynamic=False, backend=backend) for o, name in PARTS]
        self.met: Counter[Hashable] = Counter()
        self.often: set[Hashable] = set()

    def __call__(self, *arguments: Any) -> Any:
        if not self.parts or not self.chosen(arguments):
            return self.function(*arguments)
        try:
            with _in_place(self.parts), torch._dynamo.config.patch(recompile_limit=MOST):
                return self.function(*arguments)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            reason = str(error.inner_exception).strip().split("\n")[0]
            warnings.warn(f"could not compile, going on without: {reason}", stacklevel=2)
            self.parts = []
            return self.function(*arguments)

    def chosen(self, arguments: Any) -> bool:
        """Count these shapes; whether they are among those to compile for."""
        key = tuple(_shape(argument) for argument in arguments)
        self.met[key] += 1
        if self.met[key] >= max(OFTEN, SHARE * self.met.total()):
            self.often.add(key)
        return key in self.often


@contextmanager
def _in_place(parts: list[Any]) -> Iterator[None]:
    """While it lasts, the compiled parts stand in for the plain ones."""
    plain = [getattr(owner, name) for owner, name in PARTS]
    try:
        for (owner, name), part in zip(PARTS, parts, strict=True):
            setattr(owner, name, part)
        yield
    finally:
        for (owner, name), part in zip(PARTS, plain, strict=True):
            setattr(owner, name, part)


def _shape(value: Any) -> Hashable:
    """What code is compiled for: of tensors the shape, of numbers the value."""
    if isinstance(value, Tensor):
        return (*value.shape, value.dtype)
    if is_dataclass(value):
        return tuple(_shape(getattr(value, f.name)) for f in fields(value))
    return value if value is None or isinstance(value, int | float) else id(value)
