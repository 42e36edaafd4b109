"""A file is written whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from diffusiongemma.files import check_replaceable, write_whole, written_whole


def test_what_was_there_keeps_its_place_until_all_is_written(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"before")
    with pytest.raises(RuntimeError), written_whole(path) as file:
        file.write(b"half")
        file.flush()
        assert path.read_bytes() == b"before"
        raise RuntimeError
    assert path.read_bytes() == b"before" and os.listdir(tmp_path) == ["a.txt"]
    write_whole(path, "naïve")
    assert path.read_bytes() == "naïve".encode() and os.listdir(tmp_path) == ["a.txt"]


def test_permissions_and_links_stay(tmp_path: Path):
    path, link = tmp_path / "a.txt", tmp_path / "link"
    path.write_bytes(b"before")
    path.chmod(0o640)
    link.symlink_to(path.name)
    write_whole(link, b"after")
    assert link.is_symlink() and path.read_bytes() == b"after" and stat.S_IMODE(path.stat().st_mode) == 0o640
    mask = os.umask(0o027)
    try:
        write_whole(tmp_path / "new.txt", b"")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "new.txt").stat().st_mode) == 0o640


def test_what_cannot_be_written_is_known_before(tmp_path: Path):
    check_replaceable(tmp_path / "a.txt")
    assert os.listdir(tmp_path) == []
    for call in (check_replaceable, lambda path: write_whole(path, b"")):
        with pytest.raises(FileNotFoundError):
            call(tmp_path / "absent" / "a.txt")


def test_what_is_no_file_is_not_replaced(tmp_path: Path):
    for call in (check_replaceable, lambda path: write_whole(path, b"")):
        with pytest.raises(IsADirectoryError):
            call(tmp_path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_replaceable(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_whole(pipe, b"text")
    assert os.read(reading, 9) == b"text" and stat.S_ISFIFO(pipe.stat().st_mode)
    os.close(reading)
