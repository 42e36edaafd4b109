"""Which threads take the cores.

OpenMP keeps helper threads for every thread that has used them. Where there are more than cores, they no longer wait
awake between two loops, and a step of a small model took twice as long (see the log). So in a server the engine's
thread is to be the only one that has any.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_own_thread(work: Callable[[], T]) -> T:
    """The result of `work`, done in a thread that ends with it, and its helpers too. Raises what `work` raises."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    thread = threading.Thread(target=run, name="in-own-thread", daemon=True)
    thread.start()
    result = outcome.result()  # Ctrl-C is heard here
    thread.join()
    return result


def without_helpers() -> None:
    """The thread that calls this computes alone from now on."""
    import torch

    torch.set_num_threads(1)
