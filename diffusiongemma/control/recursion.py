"""Room for schemas and patterns that are nested deeply."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from threading import Lock

DEEPEST_CALLS = 8000
_lock, _inside, _before = Lock(), 0, 0


@contextlib.contextmanager
def deep_recursion() -> Iterator[None]:
    """Inside, Python calls may nest `DEEPEST_CALLS` deep. The limit belongs to the process: the last of all threads
    that are inside puts it back."""
    global _inside, _before
    with _lock:
        if _inside == 0:
            _before = sys.getrecursionlimit()
            sys.setrecursionlimit(max(_before, DEEPEST_CALLS))
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                sys.setrecursionlimit(_before)
