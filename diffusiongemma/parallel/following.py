"""The other processes: each has its share of the layers, and does what the first one tells it."""

from __future__ import annotations

import signal
import threading
from typing import Any

import torch

from diffusiongemma.model.attention import Denoise, Encode
from diffusiongemma.model.model import Model
from diffusiongemma.parallel.group import Apart, Processes
from diffusiongemma.parallel.orders import Order, Pass


def follow(model: Model, processes: Processes) -> None:
    """Until the first process ends. Raises `Apart` where it breaks off."""
    _leave_signals_to_the_first()
    follower = Follower(model, processes)
    try:
        while (told := processes.hear()) is not None:
            follower.do(told)
    except RuntimeError as error:  # of a sum to which not all contribute, or of a device
        raise Apart(str(error).strip().partition("\n")[0]) from error
    processes.leave()


class Follower:
    def __init__(self, model: Model, processes: Processes):
        self.model, self.processes = model, processes
        self.held: dict[int, Any] = {}  # caches and blocks, by their numbers

    @torch.no_grad()
    def do(self, told: Pass) -> None:
        for order in told.orders:
            self.obey(order)
        x = torch.empty(told.shape, dtype=told.dtype, device=self.model.device)
        self.processes.share_out(x)
        rows = [self._sequence(number) for number in told.rows]
        if (lengths := [row.length for row in rows]) != told.lengths:
            raise Apart(f"the caches of process {self.processes.rank} hold {lengths}, not {told.lengths} tokens")
        positions = self.model.positions(rows, told.widths)
        if told.encoding:
            context = Encode(rows, told.widths, self.model.config.sliding_window, told.images)
            self.model.backbone.encode(x, positions, context)
            context.finish()
        else:
            self.model.backbone.through_layers(x, positions, Denoise(rows, told.widths), encoding=False)

    def obey(self, order: Order) -> None:
        match order:
            case ("drop", number):
                self.held.pop(number, None)
            case ("copy", number, clone):
                self.held[clone] = self._sequence(number).copy()
            case ("forget", number, count):
                self._sequence(number).forget(count)
            case ("block", number, size, block):
                self.held[block] = self._sequence(number).block(size)
            case ("restore", number, blocks, length):
                self._sequence(number).restore([self.held[block] for block in blocks], length)

    def _sequence(self, number: int) -> Any:
        if number not in self.held:
            self.held[number] = self.model.new_sequence()
        return self.held[number]


def _leave_signals_to_the_first() -> None:
    """It lets running requests finish, for which it needs this process; when it has ended, so does this one."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
