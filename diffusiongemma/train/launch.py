"""Training in several processes of one machine, each on its share of the cores."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from diffusiongemma.errors import InputError

INTERRUPTED = 130  # a process that was asked to stop and has: the others save too, and must not be hurried


def launched() -> bool:
    """Whether this process is already one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def run_processes(count: int, arguments: Sequence[str]) -> int:
    """Run `diffusiongemma ARGUMENTS` in `count` processes that train together -> the exit code.

    What torchrun does, with one voice: only the first process speaks. When one fails the others are stopped.
    Raises `InputError` for more processes than cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if count > cores:
        raise InputError(f"there are {cores} cores: give at most that many", option="processes", got=count)
    shared = {
        "WORLD_SIZE": str(count), "MASTER_ADDR": "localhost", "MASTER_PORT": str(_free_port()),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(cores // count)),
    }  # fmt: skip
    command = [sys.executable, "-m", "diffusiongemma", *arguments]
    running = [
        subprocess.Popen(
            command,
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=None if rank == 0 else subprocess.DEVNULL,
        )
        for rank in range(count)
    ]
    # Ctrl-C reaches every process by itself and lets them save; waiting for them must survive it.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked = signal.signal(signal.SIGTERM, lambda *_: _stop(running))
    try:
        return _wait(running)
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, asked)
        _stop(running)


def _wait(running: list[subprocess.Popen[bytes]]) -> int:
    while any(process.poll() is None for process in running):
        failed = [code for process in running if (code := process.poll()) not in (None, 0, INTERRUPTED)]
        if failed:
            time.sleep(2)  # those that fail for the same reason may say so themselves
            _stop(running)
        time.sleep(0.1)
    codes = [process.wait() for process in running]
    return codes[0] or max(codes)


def _stop(running: list[subprocess.Popen[bytes]]) -> None:
    for process in running:
        if process.poll() is None:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return int(one.getsockname()[1])
