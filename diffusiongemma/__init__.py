"""DiffusionGemma: run, watch and change Google's open text-diffusion language model.

`load("nano")` gives a `DiffusionGemma`; its `generate` and `stream` are the way in.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusiongemma.api import DiffusionGemma, load
    from diffusiongemma.config import ModelConfig
    from diffusiongemma.diffusion.decoding import Decoding
    from diffusiongemma.diffusion.samplers import Ancestral, Confidence, EntropyBound, FixedK
    from diffusiongemma.engine.plans.decide import Decision
    from diffusiongemma.engine.plans.edit import EditResult
    from diffusiongemma.engine.plans.infill import InfillResult
    from diffusiongemma.errors import CheckpointError, InputError, ModelNotFound, UserError
    from diffusiongemma.events import CanvasCommitted, CanvasStep, Event, Finished, Result, TextDelta

__version__ = "0.1.0"

# Imported on first use, so that `diffusiongemma --help` does not load torch.
_HOME = {
    "DiffusionGemma": "api",
    "load": "api",
    "Decoding": "diffusion.decoding",
    "Ancestral": "diffusion.samplers",
    "Confidence": "diffusion.samplers",
    "EntropyBound": "diffusion.samplers",
    "FixedK": "diffusion.samplers",
    "ModelConfig": "config",
    "CanvasCommitted": "events",
    "CanvasStep": "events",
    "Event": "events",
    "Finished": "events",
    "Result": "events",
    "TextDelta": "events",
    "Decision": "engine.plans.decide",
    "EditResult": "engine.plans.edit",
    "InfillResult": "engine.plans.infill",
    "CheckpointError": "errors",
    "InputError": "errors",
    "ModelNotFound": "errors",
    "UserError": "errors",
}
__all__ = [
    "Ancestral", "CanvasCommitted", "CanvasStep", "CheckpointError", "Confidence", "Decision", "Decoding",
    "DiffusionGemma", "EditResult", "EntropyBound", "Event", "Finished", "FixedK", "InfillResult", "InputError",
    "ModelConfig", "ModelNotFound", "Result", "TextDelta", "UserError", "load",
]  # fmt: skip


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__", "__doc__", "__path__", "__name__"])


if not TYPE_CHECKING:  # to a type checker, a name that is not there shall be a mistake

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module 'diffusiongemma' has no attribute {name!r}")
        return getattr(import_module(f"diffusiongemma.{_HOME[name]}"), name)
