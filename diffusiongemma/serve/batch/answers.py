"""The file of answers: appended to as they come, taken up again after a stop, put in order at the end.

A line is written by one call, so a process that is killed leaves at most one torn line, the last. Nothing else is kept
of how far a batch is.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from diffusiongemma.errors import InputError
from diffusiongemma.files import written_whole
from diffusiongemma.serve.batch.requests import RequestFile, numbered_lines


class AnswerFile:
    """The answers to the requests of `asked`. Used as a context, which holds the file against other writers.

    Raises `InputError` for a file that cannot be written, holds something else or is being written already.
    """

    def __init__(self, path: Path, asked: RequestFile):
        self.path, self.asked = path, asked
        self.answered: dict[str, bool] = {}  # by custom_id: whether it was answered with 200
        self._spans: dict[str, tuple[int, int]] = {}  # where its newest line is
        self._lines = 0
        self._given = {place.custom_id for place in asked.places}

    def __enter__(self) -> AnswerFile:
        try:
            # Not in append mode: a torn line is cut off.
            self._file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror or error}") from error
        try:
            hold(self._file)
            self._take_up()
        except BlockingIOError:
            self._file.close()
            message = f"{self.path} is being written by another batch: wait for it, or name another file"
            raise InputError(message) from None
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._file.close()

    @property
    def unanswered(self) -> list[Any]:
        """The places of the requests that have no answer yet, or an answer other than 200: those are asked again."""
        return [place for place in self.asked.places if not self.answered.get(place.custom_id)]

    def add(self, answer: dict[str, Any]) -> None:
        # Half a surrogate pair, which a custom_id may hold, becomes the escape that it was.
        line = (json.dumps(answer, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
        offset = self._file.seek(0, os.SEEK_END)
        if self._file.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._note(answer, offset, len(line))

    def read(self) -> Iterator[dict[str, Any]]:
        """The newest answers, in the order of the requests."""
        for place in self.asked.places:
            if place.custom_id in self._spans:
                offset, length = self._spans[place.custom_id]
                self._file.seek(offset)
                yield json.loads(self._file.read(length))

    def put_in_order(self) -> None:
        """One line for each answer, in the order of the requests; the file is replaced whole."""
        order = [place.custom_id for place in self.asked.places if place.custom_id in self._spans]
        spans = [self._spans[custom_id] for custom_id in order]
        if self._lines == len(spans) and spans == sorted(spans):
            return
        with written_whole(self.path) as ordered:
            for offset, length in spans:
                self._file.seek(offset)
                ordered.write(self._file.read(length))

    def _take_up(self) -> None:
        whole = 0
        for number, offset, line in numbered_lines(self._file):
            if not line.endswith(b"\n"):
                break
            answer = _answer_of(line)
            if answer is None or answer["custom_id"] not in self._given:
                raise InputError(
                    f"{self.path} line {number:,} answers no request of {self.asked.path}: name another file, or "
                    "delete this one"
                )
            self._note(answer, offset, len(line))
            whole = offset + len(line)
        self._file.truncate(whole)

    def _note(self, answer: dict[str, Any], offset: int, length: int) -> None:
        self._lines += 1
        self._spans[answer["custom_id"]] = (offset, length)
        self.answered[answer["custom_id"]] = succeeded(answer)


def succeeded(answer: dict[str, Any]) -> bool:
    response = answer.get("response")
    return isinstance(response, dict) and response.get("status_code") == 200


def _answer_of(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    named = isinstance(value, dict) and isinstance(value.get("custom_id"), str) and "response" in value
    return value if named else None


def hold(file: Any) -> None:
    """Keep other writers out until the file is closed. Raises `BlockingIOError` where one is there."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system: two writers at a time are the user's to avoid
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
