"""Questions of an evaluation put to many engines: each actor holds one, and answers a share at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ray
from ray.util import ActorPool

from diffusiongemma.cluster.fleet import Fleet
from diffusiongemma.errors import UserError
from diffusiongemma.evaluation.answering import Answer, Setting
from diffusiongemma.evaluation.questions import Suite

SHARE = 4  # questions that an actor gets at a time, for each that its engine answers at once
RESTARTS = 3  # of an actor that dies, whose share is then asked again


class Asking:
    """The actor."""

    def __init__(self, fleet: Fleet):
        from diffusiongemma.api import load

        self._model, self._batch = load(fleet.model, **fleet.loading), fleet.settings.max_requests

    def answers(
        self, suite: Suite, setting: Setting, numbers: list[int], seed: int, options: dict[str, Any]
    ) -> list[tuple[int, Answer]]:
        from diffusiongemma.evaluation.answering import ask

        return list(ask(self._model, suite, setting, seed=seed, batch=self._batch, numbers=numbers, **options))


class Engines:
    """Actors on the cluster at hand, with their models loaded once for all that is asked."""

    def __init__(self, fleet: Fleet):
        actor: Any = ray.remote(num_cpus=fleet.cpus, num_gpus=fleet.gpus)(Asking)
        actor = actor.options(max_restarts=RESTARTS, max_task_retries=RESTARTS)
        self._count, self._share = fleet.most, SHARE * fleet.settings.max_requests
        self._pool = ActorPool([actor.remote(fleet) for _ in range(fleet.most)])

    def ask(self, suite: Suite, setting: Setting, *, seed: int = 0, **options: Any) -> Iterator[tuple[int, Answer]]:
        """As `evaluation.ask`, whose answers these are. Raises `UserError` where engines die again and again."""
        known, total = ray.put(suite), len(suite.questions)
        size = max(1, min(self._share, -(-total // self._count)))
        shares = [list(range(first, min(first + size, total))) for first in range(0, total, size)]
        put = lambda actor, numbers: actor.answers.remote(known, setting, numbers, seed, options)  # noqa: E731
        try:
            for answers in self._pool.map_unordered(put, shares):
                yield from answers
        except ray.exceptions.RayError as error:
            raise UserError(f"the engines failed: {str(error).strip().splitlines()[-1]}") from error
