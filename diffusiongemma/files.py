"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any


@contextmanager
def written_whole(path: str | Path) -> Iterator[IO[Any]]:
    """A binary file to write, which takes the place of `path` when the block ends, and goes away if it raises.

    The bytes are on the disk before the name is theirs. A file that was there keeps its permissions, a link its
    target's name; a device or a pipe is not replaced but written to. Raises `OSError` where that cannot be done; what
    was there is then as it was.
    """
    target = Path(path).resolve()
    if _is_no_file(target):
        with target.open("wb") as device:
            yield device
        return
    handle, name = _partial(target)
    try:
        with os.fdopen(handle, "wb") as partial:
            yield partial
            partial.flush()
            os.fsync(partial.fileno())
        os.chmod(name, _mode_for(target))
        os.replace(name, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def check_replaceable(path: str | Path) -> None:
    """Raises the `OSError` that `written_whole` would at its start, before there is something to write."""
    target = Path(path).resolve()
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if not _is_no_file(target):
        handle, name = _partial(target)
        os.close(handle)
        os.unlink(name)


def write_whole(path: str | Path, content: bytes | str) -> None:
    """`written_whole` of bytes, or of a text as UTF-8."""
    with written_whole(path) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


def _is_no_file(target: Path) -> bool:
    return target.exists() and not target.is_file()


def _partial(target: Path) -> tuple[int, str]:
    return tempfile.mkstemp(prefix=f".{target.name[:200]}.", suffix=".partial", dir=target.parent)


def _mode_for(target: Path) -> int:
    try:
        return stat.S_IMODE(target.stat().st_mode)
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
