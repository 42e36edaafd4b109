"""The loss as compiled code, for batches whose shapes come back."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

OFTEN = 3  # times that shapes are met before they are compiled for, ...
SHARE = 1 / 8  # ... which must be this share of all calls so far: compiling takes minutes each time on a CPU


class Compiled:
    """A function compiled for shapes that come back often; for others it runs as it is.

    Sudoku boards have one length, and conversations hardly ever the same: code for any length would take longer to
    compile than most runs last (see the log). Where nothing can be compiled, for want of a C++ compiler for instance,
    a warning says so and the function runs as it is.
    """

    def __init__(self, function: Callable[..., Any], backend: str = "inductor"):
        self.function = function
        self.compiled: Callable[..., Any] = torch.compile(function, dynamic=False, backend=backend)
        self.met: Counter[Hashable] = Counter()
        self.often: set[Hashable] = set()

    def __call__(self, *arguments: Any) -> Any:
        if not self.chosen(arguments):
            return self.function(*arguments)
        try:
            return self.compiled(*arguments)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            reason = str(error.inner_exception).strip().split("\n")[0]
            warnings.warn(f"could not compile, going on without: {reason}", stacklevel=2)
            self.compiled = self.function
            return self.function(*arguments)

    def chosen(self, arguments: Any) -> bool:
        """Count these shapes; whether they are among those to compile for."""
        key = tuple(_shape(argument) for argument in arguments)
        self.met[key] += 1
        if self.met[key] >= max(OFTEN, SHARE * self.met.total()):
            self.often.add(key)
        return key in self.often


def _shape(value: Any) -> Hashable:
    """What code is compiled for: of tensors the shape, of numbers the value."""
    if isinstance(value, Tensor):
        return (*value.shape, value.dtype)
    if is_dataclass(value):
        return tuple(_shape(getattr(value, f.name)) for f in fields(value))
    return value if value is None or isinstance(value, int | float) else id(value)
