"""What a GPU runs in place of the plain modules: Triton kernels, and CUDA graphs of whole passes."""

from __future__ import annotations

import importlib.util
import os
import warnings

from diffusiongemma.model.model import Model

SWITCH = "DIFFUSIONGEMMA_GPU_KERNELS"  # "1" turns them on: they have not run on a GPU yet


def accelerate(model: Model) -> str | None:
    """Run `model` by kernels and graphs from now on -> None, or why it stays as it is: where `SWITCH` is not set, the
    model or the device is not one for them, or they do not agree with the modules on a canvas tried there. A warning
    says so where they were asked for."""
    model.backbone.fast = None
    if os.environ.get(SWITCH) != "1":
        return f"they are not asked for: set {SWITCH}=1"
    why = _accelerated(model)
    if why is not None:
        warnings.warn(f"{SWITCH}: the plain modules go on, {why}", stacklevel=2)
    return why


def _accelerated(model: Model) -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    from diffusiongemma.gpu import passes

    return passes.accelerate(model)
