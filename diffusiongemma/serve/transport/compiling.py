"""Compiling constraints beside the server, where one that takes long can be stopped and holds nobody else up.

Each job has a process of its own, forked from one that has the vocabulary ready (see `compiling_process`). Where
processes can't be forked (Windows), jobs are compiled here, one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import diffusiongemma
from diffusiongemma.control.compiling import CompileJob, Outcome
from diffusiongemma.control.tokens.vocabulary import Vocabulary
from diffusiongemma.errors import InputError
from diffusiongemma.serve.errors import too_busy
from diffusiongemma.serve.transport.compiling_process import CPU_SECONDS, MOST_BYTES, receive, send

AT_A_TIME = 3  # jobs; so many, because a few that take long must not keep the short ones waiting
MOST_WAITING = 32
MOST_SECONDS = 30.0  # on a clock: a busy machine may take that long to give a job its time
FORKS = hasattr(os, "fork") and hasattr(socket, "send_fds")
LIMITS = f"it takes more than {CPU_SECONDS:.0f} s or {MOST_BYTES >> 20} MiB to compile: ask for less"


class Compiler:
    """Compiles jobs for one event loop. The process is started with the first of them."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_A_TIME if FORKS else 1, "compile")
        self._lock = threading.Lock()
        self._process: _CompilingProcess | None = None
        self._jobs: set[_Running] = set()

    async def outcome(self, job: CompileJob) -> Outcome:
        """The constraint, or the `InputError` that says why there is none. Cancelled, it stops the job."""
        if len(self._jobs) >= MOST_WAITING:
            raise too_busy(f"{len(self._jobs)} constraints are being compiled: try again soon")
        running = _Running(job)
        self._jobs.add(running)
        try:
            work = running.outcome if FORKS else running.outcome_here
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, self._connect)
        finally:
            self._jobs.discard(running)
            running.stop()

    def close(self) -> None:
        for running in self._jobs:
            running.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            if self._process is not None:
                self._process.close()

    def _connect(self, vocabulary: Vocabulary) -> socket.socket:
        """A socket to a process that was forked for one job on this vocabulary."""
        with self._lock:
            if self._process is None or not self._process.serves(vocabulary):
                if self._process is not None:
                    self._process.close()
                self._process = _CompilingProcess(vocabulary)
            return self._process.connect()


class _CompilingProcess:
    """The process that forks, seen from here."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._fingerprint = vocabulary.fingerprint
        self._control, theirs = socket.socketpair()
        package = Path(diffusiongemma.__file__).parent
        paths = [str(package.parent), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OPENBLAS_NUM_THREADS": "1"}
        descriptor = theirs.fileno()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "diffusiongemma.serve.transport.compiling_process", str(descriptor)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[descriptor],
            env=environment,
        )
        theirs.close()
        send(self._control, vocabulary.token_bytes)

    def serves(self, vocabulary: Vocabulary) -> bool:
        return self._process.poll() is None and vocabulary.fingerprint == self._fingerprint

    def connect(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._control, [b"j"], [theirs.fileno()])
        return ours

    def close(self) -> None:
        self._control.close()
        self._process.kill()
        self._process.wait()


class _Connect(Protocol):
    def __call__(self, vocabulary: Vocabulary) -> socket.socket: ...


class _Running:
    """One job on its way: it may be stopped from another thread."""

    def __init__(self, job: CompileJob) -> None:
        self.job, self._stopped, self._pid = job, False, 0
        self._lock = threading.Lock()

    def outcome(self, connect: _Connect) -> Outcome:
        with self._lock:
            if self._stopped:
                return self.job.too_large("nobody waits for it any more")
        with connect(self.job.vocabulary) as connection:
            try:
                self._pid = receive(connection)  # once the process is ready, which takes a moment for the first job
                connection.settimeout(MOST_SECONDS)
                send(connection, replace(self.job, vocabulary=Vocabulary(())))
                outcome = receive(connection)
            except (EOFError, ConnectionError, TimeoutError):
                outcome = self.job.too_large(LIMITS)
            finally:
                self.stop()
        if isinstance(outcome, str):
            raise RuntimeError(f"compiling a constraint failed:\n{outcome}")
        result: Outcome = outcome
        return result

    def outcome_here(self, _: _Connect) -> Outcome:
        try:
            return self.job.run()
        except InputError as error:
            return error

    def stop(self) -> None:
        with self._lock:
            pid, self._pid, self._stopped = self._pid, 0, True
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
