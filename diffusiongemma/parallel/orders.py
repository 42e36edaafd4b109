"""What the first process has the others do: passes through the layers, and before each what became of the caches.

A cache of the first process has a counterpart in every other, with the heads that are there. It is copied, cut back and
dropped whenever the first one's is.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor

from diffusiongemma.model.attention import Context, Encode
from diffusiongemma.model.cache import Block, LayerCache, SequenceCache
from diffusiongemma.model.model import Model
from diffusiongemma.parallel.group import Apart, Processes

Order = tuple[Any, ...]  # what to do, and the numbers of the caches and blocks that it is about


@dataclass(frozen=True)
class Pass:
    """A pass through the layers, told before its input comes."""

    orders: list[Order]  # that come before it
    encoding: bool
    rows: list[int]  # the caches' numbers
    lengths: list[int]  # tokens in each
    widths: list[int]  # tokens of each in the pass
    images: list[list[tuple[int, int]]] | None
    shape: tuple[int, ...]  # of the input
    dtype: torch.dtype


class Orders:
    """Those since the last pass. Any thread may let go of a cache."""

    def __init__(self) -> None:
        self._pending: deque[Order] = deque()
        self._numbers: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._next = count()

    def number(self, thing: SequenceCache | Block) -> int:
        if thing not in self._numbers:
            self._numbers[thing] = number = next(self._next)
            weakref.finalize(thing, self._pending.append, ("drop", number)).atexit = False
        return self._numbers[thing]

    def add(self, *order: Any) -> None:
        self._pending.append(order)

    def take(self) -> list[Order]:
        return [self._pending.popleft() for _ in range(len(self._pending))]


class LedSequence(SequenceCache):
    """A cache of the first process, which tells the others what is done to it."""

    def __init__(self, orders: Orders, layers: list[LayerCache]):
        super().__init__(layers)
        self._orders = orders

    def copy(self) -> SequenceCache:
        clone = super().copy()
        self._orders.add("copy", self._orders.number(self), self._orders.number(clone))
        return clone

    def forget(self, count: int) -> None:
        super().forget(count)
        self._orders.add("forget", self._orders.number(self), count)

    def block(self, size: int) -> Block:
        found = super().block(size)
        self._orders.add("block", self._orders.number(self), size, self._orders.number(found))
        return found

    def restore(self, blocks: list[Block], length: int) -> None:
        super().restore(blocks, length)
        self._orders.add("restore", self._orders.number(self), [self._orders.number(one) for one in blocks], length)


class Leader:
    """The first process's end. Passes are made one at a time."""

    def __init__(self, processes: Processes):
        self.processes, self.orders = processes, Orders()
        self._lock, self._apart = threading.Lock(), ""

    @contextmanager
    def passing(self, x: Tensor, context: Context, encoding: bool) -> Iterator[None]:
        """While the layers run here, the other processes run theirs. Raises `Apart` where they no longer can."""
        with self._lock:
            if self._apart:
                raise Apart(self._apart)
            try:
                self.processes.tell(self._told(x, context, encoding))
                self.processes.share_out(x)
                yield
            except BaseException as error:
                # Some processes may have gone further than others, so the next sum would be of different things.
                self._apart = str(error).strip().partition("\n")[0] or type(error).__name__
                self.processes.leave()
                if isinstance(error, RuntimeError):
                    raise Apart(self._apart) from error
                raise

    def end(self) -> None:
        """Let the others go."""
        if not self._lock.acquire(timeout=5):
            return  # a pass hangs, and this process is ending: the others will see it gone
        with suppress(RuntimeError):
            if not self._apart:
                self._apart = "they have been let go"
                self.processes.tell(None)
                self.processes.leave()
        self._lock.release()

    def _told(self, x: Tensor, context: Any, encoding: bool) -> Pass:
        rows = [self.orders.number(row) for row in context.rows]
        lengths = [row.length for row in context.rows]
        images = context.images if isinstance(context, Encode) else None
        return Pass(self.orders.take(), encoding, rows, lengths, list(context.widths), images, tuple(x.shape), x.dtype)


def lead(model: Model, processes: Processes) -> None:
    """Have the other processes follow this one's passes, until it ends."""
    leader = Leader(processes)
    model.backbone.lead = leader
    model.make_sequence = partial(LedSequence, leader.orders)
    atexit.register(leader.end)
