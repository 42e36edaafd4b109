"""The processes that torchrun has started, and what they say to each other."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from diffusiongemma.errors import InputError, UserError

MEETING = timedelta(minutes=5)  # which all processes do before they load anything
FOREVER = timedelta(days=3650)  # a server may be idle for long; a process that is gone is noticed at once


class Apart(UserError):
    """A process is gone, or they no longer do the same: nothing can be computed any more."""

    def __init__(self, why: str):
        super().__init__(f"the processes of tensor parallelism have come apart ({why}): start them all again")


@dataclass
class Processes:
    """Those that hold a share of one model; this one is number `rank`."""

    rank: int
    count: int
    group: Any = None  # torch's

    def tell(self, message: Any) -> None:
        """From the first process to all others."""
        dist.broadcast_object_list([message], src=0, group=self.group, device=torch.device("cpu"))

    def hear(self) -> Any:
        """What the first process tells next, however long it takes. Raises `RuntimeError` where it is gone."""
        told = [None]
        dist.broadcast_object_list(told, src=0, group=self.group, device=torch.device("cpu"))
        return told[0]

    def share_out(self, x: Tensor) -> None:
        """The first process's values of a tensor that all have made, put in everybody's."""
        dist.broadcast(x, src=0, group=self.group)

    def add_up(self, x: Tensor) -> None:
        """The sum of everybody's values, in place."""
        dist.all_reduce(x, group=self.group)

    def leave(self) -> None:
        dist.destroy_process_group()


def own_device() -> str:
    """Of this process, by name: one GPU for each on a machine, where there are any."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"


def join(processes: int) -> Processes:
    """Meet the other processes. Raises `InputError` where torchrun has not started as many, they have a model already,
    or not all come."""
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != processes:
        message = f"start as many with torchrun --nproc-per-node {processes} -m diffusiongemma …; running: {started}"
        raise InputError(message, option="tensor_parallel", got=processes)
    if dist.is_initialized():
        raise InputError("these processes have a model already: one for each torchrun", option="tensor_parallel")
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(own_device())
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    try:
        dist.init_process_group(backend, timeout=MEETING)
        return Processes(dist.get_rank(), processes, dist.new_group(backend=backend, timeout=FOREVER))
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        message = f"they did not all meet ({reason}): start them all again"
        raise InputError(message, option="tensor_parallel", got=processes) from error
