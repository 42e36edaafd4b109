"""The latest of what took long to make, for several threads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Keeps values by key, the latest used ones whose sizes add up to at most `most` (by default: so many values).

    The latest of all is kept whatever its size.
    """

    def __init__(self, most: int, size: Callable[[V], int] = lambda _: 1):
        self._most, self._size, self._total = most, size, 0
        self._kept: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: K) -> V | None:
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def put(self, key: K, value: V) -> V:
        """The same value."""
        size = self._size(value)
        with self._lock:
            self._total += size - self._kept.pop(key, (value, 0))[1]
            self._kept[key] = value, size
            while self._total > self._most and len(self._kept) > 1:
                _, (_, freed) = self._kept.popitem(last=False)
                self._total -= freed
        return value

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._total = 0
