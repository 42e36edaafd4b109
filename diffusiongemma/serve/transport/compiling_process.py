"""The process that compiles constraints for a server: `python -m diffusiongemma.serve.transport.compiling_process FD`.

It holds the vocabulary ready and forks workers, which do one job after another, so a job can be stopped at any time.
On the socket FD come the vocabulary, then the sockets of workers. On its own socket a worker says its process id, then
reads what to compile and writes the outcome, whether it takes another job and the processor time that this one took;
without an outcome it was stopped at its limits. A worker ends with the first job that left memory behind. One that has
worked writes to pages of its own: half of what a small schema took in a process forked for it were first writes to
shared ones.

A job has a thread of its own, which is made nice when it takes long: an engine on two cores waits at every product for
both of its threads, so beside somebody of its own rank it takes twice as long.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from diffusiongemma.control.compiling import CompileJob
from diffusiongemma.control.structure import Structure
from diffusiongemma.control.tokens.vocabulary import Vocabulary
from diffusiongemma.errors import InputError

CPU_SECONDS = 2.0
MOST_BYTES = 512 * 2**20  # beyond what the process has when it is forked
MOST_LEFT = 48 * 2**20  # bytes of address space that jobs may leave behind in a worker
NICE_AFTER, NICENESS = 0.02, 10  # seconds of processor time: what takes longer lets the engine's steps go first
FOR_GOOD = sys.platform != "linux"  # the whole process is, and can't take it back
# What most schemas use, compiled once before the first fork: classes of characters, any JSON, numbers, a format.
USUAL = (
    '{"properties":{"a":{"type":"object"},"b":{"pattern":"\\\\d\\\\w\\\\s\\\\p{L}"},"c":{"format":"date-time"},'
    '"d":{"type":"number"},"e":{"type":"array","items":{"type":"integer"}}}}'
)
# What a worker compiles before its first job, so that it has written to most of the pages that jobs write to.
WARMING = (
    '{"type":"object","properties":{"warm":{"type":"string"},"up":{"type":"number"},"now":{"enum":["a","b"]},'
    '"then":{"type":"array","items":{"type":"string"}}},"required":["warm","up"]}'
)
_LENGTH = struct.Struct("<Q")


def send(connection: socket.socket, message: Any) -> None:
    data = pickle.dumps(message, protocol=5)
    connection.sendall(_LENGTH.pack(len(data)))
    connection.sendall(data)


def receive(connection: socket.socket) -> Any:
    """The other side's next message. Raises `EOFError` where it has gone."""
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    return pickle.loads(_exactly(connection, length))


def _exactly(connection: socket.socket, length: int) -> bytearray:
    data = bytearray(length)
    view, done = memoryview(data), 0
    while done < length:
        count = connection.recv_into(view[done:])
        if not count:
            raise EOFError("the other side has gone")
        done += count
    return data


def main(descriptor: int) -> None:
    control = socket.socket(fileno=descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, whose end closes the socket
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the jobs
    vocabulary = Vocabulary(receive(control))
    _ = vocabulary.trie, vocabulary.trie_of_characters, vocabulary.without_bars
    CompileJob.of(Structure(json_schema=USUAL), vocabulary, [0]).run()
    gc.disable()  # looking through what is shared would copy it into every worker
    gc.freeze()
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not data:
            return
        connection = socket.socket(fileno=descriptors[0])
        if os.fork() == 0:
            control.close()
            CompileJob.of(Structure(json_schema=WARMING), vocabulary, [0]).run()
            work(connection, lambda job: replace(job, vocabulary=vocabulary).run())
            os._exit(0)
        connection.close()


def work(connection: socket.socket, run: Callable[[Any], Any]) -> None:
    """What a worker does, in a process forked for it: `run` for what comes, one job after another."""
    began_with, stays = _address_space(), True
    with contextlib.suppress(EOFError, ConnectionError):  # the other side has gone
        send(connection, os.getpid())
        while stays:
            job = _Job(run, receive(connection))
            _limit()
            began = time.process_time()
            job.start()
            while job.is_alive() and not job.is_nice:
                if (left := NICE_AFTER - time.process_time() + began) > 0:
                    job.join(left)
                else:
                    job.make_nice()
            job.join()
            signal.setitimer(signal.ITIMER_PROF, 0)
            if isinstance(job.outcome, MemoryError):
                return
            stays = not (job.is_nice and FOR_GOOD) and _address_space() - began_with <= MOST_LEFT
            send(connection, (job.outcome, stays, time.process_time() - began))
            del job
            gc.collect()


class _Job(threading.Thread):
    """One job, whether it is nice, and its outcome once it has ended."""

    def __init__(self, run: Callable[[Any], Any], asked: Any):
        super().__init__(daemon=True)
        self._do, self._asked, self.is_nice = run, asked, False

    def run(self) -> None:
        try:
            self.outcome: Any = self._do(self._asked)
        except (InputError, MemoryError) as error:
            self.outcome = error
        except BaseException:
            self.outcome = traceback.format_exc()

    def make_nice(self) -> None:
        """From now on let others go first."""
        self.is_nice = True
        assert self.native_id
        if sys.platform == "linux":
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                before = os.getpriority(os.PRIO_PROCESS, self.native_id)
                os.setpriority(os.PRIO_PROCESS, self.native_id, before + NICENESS)
        else:
            os.nice(NICENESS)


def _address_space() -> int:
    """Bytes of this process; 0 where the system does not say."""
    if sys.platform != "linux":
        return 0
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _limit() -> None:
    """The limits of a job that begins now."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    if sys.platform == "linux":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = _address_space() + MOST_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


if __name__ == "__main__":
    main(int(sys.argv[1]))
