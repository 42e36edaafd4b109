"""Compiling constraints beside the server, where one that takes long can be stopped and holds nobody else up.

Each job has a process to itself while it lasts, forked from one that has the vocabulary ready (`compiling_process`).
Where processes can't be forked (Windows), jobs are compiled here, one after the other.
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
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

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
FRUGAL = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}  # a thread's own arena would count as a job's memory
LIMITS = f"it takes more than {CPU_SECONDS:.0f} s or {MOST_BYTES >> 20} MiB to compile: ask for less"


class Compiler:
    """Compiles jobs for one event loop. The process is started with the first of them."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_A_TIME if FORKS else 1, "compile")
        self._lock = threading.Lock()
        self._process: _CompilingProcess | None = None
        self._jobs: set[_Running] = set()

    async def outcome(self, job: CompileJob) -> tuple[Outcome, float]:
        """The constraint, or the `InputError` that says why there is none, and the seconds of processor time that it
        took. Cancelled, it stops the job."""
        if len(self._jobs) >= MOST_WAITING:
            raise too_busy(f"{len(self._jobs)} constraints are being compiled: try again soon")
        running = _Running(job)
        self._jobs.add(running)
        try:
            work = running.outcome if FORKS else running.outcome_here
            outcome = await asyncio.get_running_loop().run_in_executor(self._threads, work, self._worker)
            return outcome, running.seconds
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

    def _worker(self, vocabulary: Vocabulary) -> contextlib.AbstractContextManager[_Worker]:
        """A process for one job on this vocabulary."""
        with self._lock:
            if self._process is None or not self._process.serves(vocabulary):
                if self._process is not None:
                    self._process.close()
                self._process = _CompilingProcess(vocabulary)
            return self._process.worker()


class _CompilingProcess:
    """The process that forks, seen from here."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._fingerprint = vocabulary.fingerprint
        self._lock, self._idle, self._closed = threading.Lock(), list[_Worker](), False
        self._control, theirs = socket.socketpair()
        package = Path(diffusiongemma.__file__).parent
        paths = [str(package.parent), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | FRUGAL | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
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

    @contextlib.contextmanager
    def worker(self) -> Iterator[_Worker]:
        """An idle one, or a new one. Another is made ready meanwhile: it has its pages when it is needed."""
        with self._lock:
            worker = self._idle_worker() or self._new_worker()
            if not self._idle:
                self._idle.append(self._new_worker())
        try:
            yield worker
        finally:
            with self._lock:
                if worker.stays and not self._closed and len(self._idle) < AT_A_TIME:
                    self._idle.append(worker)
                else:
                    worker.connection.close()

    def _idle_worker(self) -> _Worker | None:
        while self._idle:
            worker = self._idle.pop()
            if worker.is_there():
                return worker
            worker.connection.close()
        return None

    def _new_worker(self) -> _Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._control, [b"w"], [theirs.fileno()])
        return _Worker(ours)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for worker in self._idle:
                worker.connection.close()
        self._control.close()
        self._process.kill()
        self._process.wait()


class _Worker:
    """A process that takes jobs, seen from here."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection, self.stays = connection, False
        self._pid = 0

    def pid(self) -> int:
        """Known once it is ready, which takes a moment. Raises `EOFError` where it has gone."""
        self._pid = self._pid or receive(self.connection)
        return self._pid

    def is_there(self) -> bool:
        try:
            return self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def outcome(self, job: CompileJob) -> tuple[Any, float]:
        """What it makes of the job, and in how many seconds of processor time."""
        self.stays = False
        self.connection.settimeout(MOST_SECONDS)
        send(self.connection, replace(job, vocabulary=Vocabulary(())))
        outcome, self.stays, seconds = receive(self.connection)
        self.connection.settimeout(None)
        return outcome, seconds


class _Workers(Protocol):
    def __call__(self, vocabulary: Vocabulary) -> contextlib.AbstractContextManager[_Worker]: ...


class _Running:
    """One job on its way: it may be stopped from another thread."""

    def __init__(self, job: CompileJob) -> None:
        self.job, self.seconds, self._stopped, self._pid = job, 0.0, False, 0
        self._lock = threading.Lock()

    def outcome(self, workers: _Workers) -> Outcome:
        if self._stopped:
            return self._unwanted()
        with workers(self.job.vocabulary) as worker:
            try:
                if not self._begins_in(worker.pid()):
                    return self._unwanted()
                outcome, self.seconds = worker.outcome(self.job)
            except (EOFError, ConnectionError, TimeoutError):
                outcome = self.job.too_large(LIMITS)
            finally:
                self._ends(worker)
        if isinstance(outcome, str):
            raise RuntimeError(f"compiling a constraint failed:\n{outcome}")
        result: Outcome = outcome
        return result

    def _unwanted(self) -> Outcome:
        return self.job.too_large("nobody waits for it any more")

    def _begins_in(self, pid: int) -> bool:
        with self._lock:
            self._pid = 0 if self._stopped else pid
            return not self._stopped

    def _ends(self, worker: _Worker) -> None:
        """From now on the process may have another's job, or it is stopped."""
        with self._lock:
            worker.stays &= not self._stopped
            if worker.stays:
                self._pid = 0
        self.stop()

    def outcome_here(self, _: _Workers) -> Outcome:
        began = time.thread_time()
        try:
            return self.job.run()
        except InputError as error:
            return error
        finally:
            self.seconds = time.thread_time() - began

    def stop(self) -> None:
        with self._lock:
            pid, self._pid, self._stopped = self._pid, 0, True
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
