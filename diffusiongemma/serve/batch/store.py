"""Files and batches kept in a directory: all there is of them, so that they outlive the server.

    files/ID.json, files/ID.data      a file: what is said of it, and its bytes
    batches/ID.json                   a batch, as it was when it was last written
    batches/ID.cancel                 there when its end has been asked for
    batches/ID.answers                the answers that it has so far

Several servers may share the directory: one of them, which holds `lock`, works on batches.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import time
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

from pydantic import Field

from diffusiongemma.errors import InputError
from diffusiongemma.files import write_whole, written_whole
from diffusiongemma.serve.body_types import Reply
from diffusiongemma.serve.errors import ApiError

Status = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]  # fmt: skip
ENDED = ("failed", "completed", "expired", "cancelled")
ID = re.compile(r"(file-|batch_)[0-9a-f]{28}")
Moment = int | None  # seconds since 1970
Kept = TypeVar("Kept", "FileObject", "BatchObject")


class FileObject(Reply):
    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int = Field(default_factory=lambda: int(time.time()))
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: Literal["processed"] = "processed"
    expires_at: Moment = None


class BatchMistake(Reply):
    code: str
    message: str
    line: int | None = None
    param: str | None = None


class BatchMistakes(Reply):
    object: Literal["list"] = "list"
    data: list[BatchMistake]


class RequestCounts(Reply):
    total: int = 0
    completed: int = 0
    failed: int = 0


class BatchObject(Reply):
    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: BatchMistakes | None = None
    input_file_id: str
    completion_window: str
    status: Status = "validating"
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int = Field(default_factory=lambda: int(time.time()))
    in_progress_at: Moment = None
    expires_at: int
    finalizing_at: Moment = None
    completed_at: Moment = None
    failed_at: Moment = None
    expired_at: Moment = None
    cancelling_at: Moment = None
    cancelled_at: Moment = None
    request_counts: RequestCounts = Field(default_factory=RequestCounts)
    metadata: dict[str, str] | None = None


class Store:
    """Raises `InputError` for a directory that cannot be used."""

    def __init__(self, root: Path):
        self.files, self.batches, self.lock = root / "files", root / "batches", root / "lock"
        try:
            for folder in (self.files, self.batches):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot keep batches in {root}: {error.strerror}", option="batch_dir") from error

    # Files.

    def add_file(self, source: IO[bytes], filename: str, purpose: Any) -> FileObject:
        """Keep what `source` still has. It is there, whole, when this returns."""
        file_id = _new_id("file-")
        with written_whole(self.data_of(file_id)) as data:
            shutil.copyfileobj(source, data)
        size = self.data_of(file_id).stat().st_size
        kept = FileObject(id=file_id, bytes=size, filename=filename, purpose=purpose)
        write_whole(self.files / f"{file_id}.json", kept.model_dump_json())
        return kept

    def file(self, file_id: str) -> FileObject:
        return _read(FileObject, self.files, file_id)

    def all_files(self) -> list[FileObject]:
        """Oldest first."""
        return _all(FileObject, self.files)

    def data_of(self, file_id: str) -> Path:
        return self.files / f"{file_id}.data"

    def delete_file(self, file_id: str) -> None:
        self.file(file_id)
        using = next((b for b in self.all_batches() if b.status not in ENDED and b.input_file_id == file_id), None)
        if using is not None:
            raise ApiError(409, f"{using.id} still reads this file: cancel it first", code="file_in_use")
        (self.files / f"{file_id}.json").unlink(missing_ok=True)
        self.data_of(file_id).unlink(missing_ok=True)

    # Batches.

    def add_batch(self, **fields: Any) -> BatchObject:
        batch = BatchObject(id=_new_id("batch_"), **fields)
        self.save(batch)
        return batch

    def save(self, batch: BatchObject) -> None:
        write_whole(self.batches / f"{batch.id}.json", batch.model_dump_json())

    def batch(self, batch_id: str) -> BatchObject:
        batch = _read(BatchObject, self.batches, batch_id)
        if batch.status not in ENDED and self.is_cancelled(batch_id):
            batch.status, batch.cancelling_at = "cancelling", int(self.cancel_mark(batch_id).stat().st_mtime)
        return batch

    def all_batches(self) -> list[BatchObject]:
        """Oldest first."""
        return [self.batch(batch.id) for batch in _all(BatchObject, self.batches)]

    def cancel(self, batch_id: str) -> BatchObject:
        if (batch := self.batch(batch_id)).status in ENDED:
            raise ApiError(409, f"{batch_id} is {batch.status}: there is nothing to cancel", code="batch_ended")
        self.cancel_mark(batch_id).touch(exist_ok=True)
        return self.batch(batch_id)

    def is_cancelled(self, batch_id: str) -> bool:
        return self.cancel_mark(batch_id).exists()

    def cancel_mark(self, batch_id: str) -> Path:
        return self.batches / f"{batch_id}.cancel"

    def answers_of(self, batch_id: str) -> Path:
        return self.batches / f"{batch_id}.answers"


def _new_id(prefix: str) -> str:
    """Ids sort as they were made."""
    return f"{prefix}{time.time_ns():016x}{secrets.token_hex(6)}"


def _read(kind: type[Kept], folder: Path, name: str) -> Kept:
    if ID.fullmatch(name):
        with contextlib.suppress(OSError):
            return kind.model_validate_json((folder / f"{name}.json").read_bytes())
    raise ApiError(404, f"there is no {kind.model_fields['object'].default} {name[:100]!r} here")


def _all(kind: type[Kept], folder: Path) -> list[Kept]:
    found = []
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(ApiError):  # deleted meanwhile
            found.append(_read(kind, folder, path.stem))
    return found
