"""What a long run needs of its process: a clock that resumes, an orderly stop, memory that is kept, work done ahead."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from types import FrameType
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

T = TypeVar("T")


class Clock:
    """Seconds a run has taken before each step, going on from `elapsed`.

    Steps already `recorded` keep their seconds: a run that is killed and resumed goes through the same schedule
    again, up to where it was killed, also when the schedule follows the clock.
    """

    def __init__(self, elapsed: float = 0.0, recorded: dict[int, float] | None = None):
        self.elapsed, self.recorded = elapsed, recorded or {}
        self._since = time.monotonic()

    def at(self, step: int) -> float:
        now = time.monotonic()
        self.elapsed = self.recorded.get(step, self.elapsed + now - self._since)
        self._since = now
        return self.elapsed


def seed_of(*numbers: int) -> int:
    """One seed of several numbers, unlike that of any others."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


class Prefetch(Generic[T]):
    """make(0), make(1), …, each made while those before it are in use; from any number on.

    One thread makes them, or so many `processes`, each of which is a copy of this one (`fork`): for a device that takes
    examples faster than a thread beside it makes them.
    """

    def __init__(self, make: Callable[[int], T], processes: int = 0):
        self._make, self._depth = _made if processes else make, max(1, 2 * processes)
        self._pool: Executor
        if processes:
            self._pool = ProcessPoolExecutor(processes, get_context("fork"), _become_maker, (make,))
        else:
            self._pool = ThreadPoolExecutor(1, "batches")
        self._waiting: dict[int, Future[T]] = {}

    def __call__(self, number: int) -> T:
        future = self._waiting.get(number) or self._pool.submit(self._make, number)
        result = future.result()
        following = range(number + 1, number + 1 + self._depth)
        self._waiting = {n: self._waiting.get(n) or self._pool.submit(self._make, n) for n in following}
        return result

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


_maker: Callable[[int], Any]


def _become_maker(make: Callable[[int], Any]) -> None:
    """In a process of `Prefetch`. Ctrl-C is the business of the one that trains."""
    global _maker
    _maker = make
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _made(number: int) -> Any:
    return _maker(number)


class Stop:
    """Set by Ctrl-C or SIGTERM, so that the step under way is finished; a second signal interrupts at once."""

    def __init__(self) -> None:
        self.asked = False

    def ask(self, _signal: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Stop]:
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def recomputed(layers: nn.ModuleList, wanted: bool) -> Iterator[None]:
    """While it lasts, layers keep only their input for the backward pass and compute the rest again."""
    if wanted:
        for layer in layers:
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    try:
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)
