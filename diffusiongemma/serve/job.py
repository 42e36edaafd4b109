"""What a dialect makes of a body, and what it must be able to say while the job runs.

A dialect is four translations: a body into a `Job`, events into chunks of a stream, results into a reply, and errors
into its own shape. All else, from queue to traces, is the same for all of them (`driver.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from pydantic import BaseModel

from diffusiongemma.engine.plans.plan import Plan
from diffusiongemma.engine.request import Request
from diffusiongemma.events import Event, Result
from diffusiongemma.serve.errors import ApiError, FieldOf
from diffusiongemma.serve.native.summary import Spent
from diffusiongemma.serve.tool_calls import CallMode

if TYPE_CHECKING:
    from diffusiongemma.serve.service import Service

Body = TypeVar("Body", bound=BaseModel)


Shown = bool | Literal["noise"]  # whether steps are sent; "noise": also what the first one read


@dataclass(frozen=True)
class ResponseOptions:
    """What the body asked to have in the response."""

    stops: tuple[str, ...] = ()
    logprobs: bool = False
    details: bool = False
    frames: Shown = False
    stream: bool = False
    usage: bool = False  # at the end of a stream
    calls: CallMode = field(default_factory=CallMode)


@dataclass
class Piece:
    """What an event adds to an answer."""

    text: str = ""
    thinking: str = ""
    tokens: list[dict[str, Any]] = field(default_factory=list)


class Output(ABC):
    """What goes back to the client, in a dialect's words. Chunks are bytes as they go over the wire."""

    media_type = "text/event-stream"

    def opening(self) -> Iterable[bytes]:
        """Chunks before any text."""
        return ()

    def take(self, index: int, event: Event) -> Piece:
        """An event of request `index` of its turn: keep what the reply needs of it."""
        return Piece()

    def is_over(self, index: int) -> bool:
        """Whether the rest of this answer is not needed, as after a stop string."""
        return False

    def chunks(self, index: int, event: Event, piece: Piece) -> Iterable[bytes]:
        """Chunks for an event that has been taken."""
        return ()

    def finish_reason(self, index: int) -> str:
        """Why this answer ended, for `done` events."""
        return "stop"

    @abstractmethod
    def reply(self, value: Any, spent: Spent) -> BaseModel:
        """The whole reply. `value` is the plan's; without a plan, the results."""

    @abstractmethod
    def closing(self, value: Any, spent: Spent) -> Iterable[bytes]:
        """Chunks after all the events, the mark of the end included."""

    @abstractmethod
    def error(self, error: ApiError) -> bytes:
        """An error after the stream has begun."""


@dataclass(frozen=True)
class Job:
    """One HTTP call, ready to run: the requests of its first turn, and the plan that makes the next ones, if any.

    A plan that has nothing to ask of the model has no requests, and its value already.
    """

    requests: list[Request]
    output: Output
    stream: bool = False
    frames: Shown = False
    plan: Plan[Any] | None = None
    value: Any = None
    adapter: str = ""

    @classmethod
    def of_plan(cls, plan: Plan[Any], output: Output, stream: bool, frames: Shown) -> Job:
        """Raises `InputError` for what the plan finds wrong before it asks anything of the model."""
        requests, value = advance(plan)
        return cls(requests or [], output, stream, frames, plan, value)


@dataclass(frozen=True)
class Dialect(Generic[Body]):
    """What one endpoint makes of its body."""

    job: Callable[[Body, Service], Job]
    field_of: Callable[[Body], FieldOf]


def advance(plan: Plan[Any], results: list[Result] | None = None) -> tuple[list[Request] | None, Any]:
    """(the next requests, None) or (None, the plan's value)."""
    try:
        return (next(plan) if results is None else plan.send(results)), None
    except StopIteration as stop:
        return None, stop.value
