"""Files of requests in OpenAI's batch format: a JSON object a line, with `custom_id`, `method`, `url` and `body`."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusiongemma.errors import InputError

FIELDS = ("custom_id", "method", "url", "body")
LONGEST_ID = 512  # characters


@dataclass(frozen=True)
class Place:
    """Where a request is in its file: a file of any size is not held in memory."""

    custom_id: str
    number: int  # of the line, from 1
    offset: int
    length: int


@dataclass(frozen=True)
class BadLine:
    """A line that is no request, and why."""

    number: int
    reason: str


@dataclass(frozen=True)
class BatchRequest:
    custom_id: str
    url: str
    body: dict[str, Any]


class RequestFile:
    """The requests of a file, in order; what is wrong is in `bad`. A line may name one of `urls`, of None any.

    Raises `InputError` where the file cannot be read.
    """

    def __init__(self, path: Path, urls: Collection[str] | None = None):
        self.path, self.urls = path, urls
        self.places: list[Place] = []
        self.bad: list[BadLine] = []
        try:
            self._look_through()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from error

    def _look_through(self) -> None:
        seen: dict[str, int] = {}
        with self.path.open("rb") as file:
            for number, offset, line in numbered_lines(file):
                try:
                    request = request_of(line, self.urls)
                    if (before := seen.setdefault(request.custom_id, number)) != number:
                        raise InputError(f"custom_id {request.custom_id[:80]!r} is that of line {before:,} too")
                except InputError as error:
                    self.bad.append(BadLine(number, error.message))
                else:
                    self.places.append(Place(request.custom_id, number, offset, len(line)))

    def read(self, places: Collection[Place]) -> Iterator[BatchRequest]:
        """The requests at these places, one after the other."""
        with self.path.open("rb") as file:
            for place in places:
                file.seek(place.offset)
                yield request_of(file.read(place.length), self.urls)


def numbered_lines(file: Any) -> Iterator[tuple[int, int, bytes]]:
    """Number (from 1), offset and bytes of each line that is not blank."""
    offset = 0
    for number, line in enumerate(file, 1):
        if line.strip():
            yield number, offset, line
        offset += len(line)


def request_of(line: bytes, urls: Collection[str] | None = None) -> BatchRequest:
    """Raises `InputError` for a line that is no request."""
    value = _object_of(line)
    if missing := next((name for name in FIELDS if name not in value), None):
        raise InputError(f"{missing} is missing: a request has {', '.join(FIELDS)}")
    if unknown := next((name for name in value if name not in FIELDS), None):
        raise InputError(f"unknown field {unknown[:80]!r}: a request has {', '.join(FIELDS)}")
    custom_id, method, url, body = (value[name] for name in FIELDS)
    if not (isinstance(custom_id, str) and 0 < len(custom_id) <= LONGEST_ID):
        raise InputError(f"custom_id must be a text of 1 to {LONGEST_ID} characters")
    if method != "POST":
        raise InputError("method must be POST")
    if not isinstance(url, str) or (urls is not None and url not in urls):
        raise InputError(f"url must be {' or '.join(urls)}" if urls else "url must be a text")
    if not isinstance(body, dict):
        raise InputError("body must be a JSON object")
    return BatchRequest(custom_id, url, body)


def _object_of(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise InputError("not UTF-8 text") from None
    except (ValueError, RecursionError):
        raise InputError("not JSON") from None
    if not isinstance(value, dict):
        raise InputError("not a JSON object")
    return value
