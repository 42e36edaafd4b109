"""What `edit` and `infill` share: a plan run with its progress on a terminal, and what it took in one line."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from diffusiongemma.api import DiffusionGemma
    from diffusiongemma.engine.plans.plan import Plan
    from diffusiongemma.engine.request import Request
    from diffusiongemma.events import Result

T = TypeVar("T")


@dataclass
class Took:
    """What a plan has taken so far: its requests' results, and steps of the canvases that are still open."""

    results: list[Result] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0

    @property
    def forward_passes(self) -> int:
        return sum(result.forward_passes for result in self.results)

    def line(self, steps: int, written: int) -> str:
        """`steps` and `written` (tokens) are those of the text that came out, without lengths that were only tried."""
        told = f"{steps} steps · {self.forward_passes} forward passes · {written} tokens · {self.seconds:.2f} s"
        if unsure := sum(result.converged.count(False) for result in self.results):
            told += f" · {unsure} canvases not converged"
        return told

    def as_object(self) -> dict[str, Any]:
        """What `--json` says of it."""
        return {"forward_passes": self.forward_passes, "seconds": round(self.seconds, 4)}


def watched(
    model: DiffusionGemma,
    plan: Plan[T],
    doing: str,
    share: Callable[[list[Result]], float | None] = lambda _: None,
    quiet: bool = False,
) -> tuple[T, Took]:
    """Run a plan, telling on a terminal how far it is; `share` says what part of the text the results so far are."""
    from rich.console import Console

    from diffusiongemma.engine.engine import Engine
    from diffusiongemma.engine.plans.plan import drive
    from diffusiongemma.events import CanvasStep, Finished

    took, started = Took(), time.perf_counter()
    with Console(stderr=True, quiet=quiet).status(doing) as status:

        def results_of(requests: list[Request]) -> list[Result]:
            results: dict[int, Result] = {}
            for event in Engine(model.network, model.tokenizer, len(requests)).run(requests):
                if isinstance(event, CanvasStep):
                    took.steps += 1
                    status.update(_progress(doing, share(took.results), took.steps))
                elif isinstance(event, Finished):
                    results[event.request] = event.result
            took.results += [results[request.id] for request in requests]
            return [results[request.id] for request in requests]

        value = drive(plan, results_of)
    took.seconds = time.perf_counter() - started
    return value, took


def _progress(doing: str, share: float | None, steps: int) -> str:
    told = f"{doing}, step {steps}"
    return told if share is None else f"{told}, about {min(1.0, share):.0%} of the text"
