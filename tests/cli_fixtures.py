"""The command line in the process of the test, on nano or on a tiny random model."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import diffusiongemma as dg
from diffusiongemma.cli import main


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


def pipe_in(stdin: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process read this as its standard input; None leaves it alone."""
    if stdin is not None:
        reading, writing = os.pipe()
        os.write(writing, stdin)
        os.close(writing)
        monkeypatch.setattr(sys, "stdin", os.fdopen(reading, encoding="utf-8"))


@pytest.fixture
def cli(capfd, monkeypatch):
    """Run the command line in this process; `stdin` is what is piped in."""

    def call(*arguments: object, stdin: bytes | None = None) -> Outcome:
        pipe_in(stdin, monkeypatch)
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        return Outcome(left.value.code, *capfd.readouterr())

    before = signal.getsignal(signal.SIGTERM)
    yield call
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def tiny(tiny_directory: Path) -> dg.DiffusionGemma:
    return dg.load(tiny_directory)


@pytest.fixture
def model(tiny_directory: Path) -> tuple[str, str]:
    return "--model", str(tiny_directory)
