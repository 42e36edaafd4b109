"""The process that compiles constraints for a server: `python -m diffusiongemma.serve.transport.compiling_process FD`.

It holds the vocabulary ready and forks for every job, so a job can be stopped at any time and leaves no memory behind.
On the socket FD come the vocabulary, then the sockets of jobs. On its own socket a job says its process id, reads what
to compile and writes the outcome; without an outcome it was stopped at its limits.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import socket
import struct
import sys
import traceback
from dataclasses import replace
from typing import Any

from diffusiongemma.control.compiling import CompileJob
from diffusiongemma.control.structure import Structure
from diffusiongemma.control.tokens.vocabulary import Vocabulary
from diffusiongemma.errors import InputError

CPU_SECONDS = 2.0
MOST_BYTES = 512 * 2**20  # beyond what the process has when it is forked
NICE_AFTER, NICENESS = 0.1, 10  # seconds: what takes longer lets the engine's steps go first
# What most schemas use, compiled once before the first fork: classes of characters, any JSON, numbers, a format.
USUAL = (
    '{"properties":{"a":{"type":"object"},"b":{"pattern":"\\\\d\\\\w\\\\s"},"c":{"format":"date-time"},'
    '"d":{"type":"number"},"e":{"type":"array","items":{"type":"integer"}}}}'
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
    gc.disable()  # looking through what is shared would copy it into every job, and jobs end soon
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not data:
            return
        connection = socket.socket(fileno=descriptors[0])
        if os.fork() == 0:
            control.close()
            _work(connection, vocabulary)
            os._exit(0)
        connection.close()


def _work(connection: socket.socket, vocabulary: Vocabulary) -> None:
    """One job, in the process forked for it."""
    send(connection, os.getpid())
    job: CompileJob = replace(receive(connection), vocabulary=vocabulary)
    _limit()
    try:
        outcome: Any = job.run()
    except InputError as error:
        outcome = error
    except MemoryError:
        return
    except BaseException:
        outcome = traceback.format_exc()
    send(connection, outcome)


def _limit() -> None:
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    signal.signal(signal.SIGVTALRM, lambda *_: os.nice(NICENESS))
    signal.setitimer(signal.ITIMER_VIRTUAL, NICE_AFTER)
    if sys.platform == "linux":
        import resource

        with open("/proc/self/statm") as statm:
            have = int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (have + MOST_BYTES, have + MOST_BYTES))


if __name__ == "__main__":
    main(int(sys.argv[1]))
