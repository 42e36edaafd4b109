"""Who answers the questions of `eval`: a model in this process, or engines on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diffusiongemma.cli import options as given
from diffusiongemma.errors import InputError

if TYPE_CHECKING:
    from diffusiongemma.api import DiffusionGemma
    from diffusiongemma.diffusion.decoding import Decoding
    from diffusiongemma.evaluation.answering import Answer, Setting
    from diffusiongemma.evaluation.questions import Suite


@dataclass(frozen=True)
class Here:
    """A model in this process."""

    model: DiffusionGemma
    batch: int

    @property
    def generation(self) -> Decoding:
        return self.model.generation

    def ask(self, suite: Suite, way: Setting, **options: Any) -> Iterator[tuple[int, Answer]]:
        from diffusiongemma.evaluation import ask

        return ask(self.model, suite, way, batch=self.batch, **options)


@dataclass(frozen=True)
class OnRay:
    """Engines on a cluster; here is only what the checkpoint says of decoding."""

    generation: Decoding
    ask: Callable[..., Iterator[tuple[int, Answer]]]


def on_ray(
    reads: bool,
    model: str,
    loading: given.Loading,
    batch: int,
    ray: str | None,
    replicas: int | None,
    cpus: float | None,
    gpus: float | None,
) -> Callable[[], OnRay] | None:
    """What starts them, None where the model is to be here. Raises `InputError` for options that do not go together."""
    if ray is None:
        if (replicas, cpus, gpus) != (None, None, None):
            raise InputError("engines are counted on a cluster: add `ray`, or leave the options of replicas out")
        return None
    if reads:
        raise InputError("`ray` shares out questions: leave it out for eval text and eval infill")
    from diffusiongemma.cli.deploy import fleet_here
    from diffusiongemma.serve.settings import Settings

    fleet = fleet_here(model, loading, Settings(max_requests=batch), str(replicas or 1), cpus, gpus)

    def start() -> OnRay:
        from diffusiongemma.cluster import connection
        from diffusiongemma.cluster.evaluation import Engines
        from diffusiongemma.weights.locate import locate_adapted
        from diffusiongemma.weights.opening import Checkpoint

        generation = Checkpoint.at(locate_adapted(model)[0]).decoding()
        connection.reach(ray, fleet)
        return OnRay(generation, Engines(fleet).ask)

    return start
