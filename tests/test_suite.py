"""The suite itself: what it says of skipped tests, and that it runs where SIGINT is ignored."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from conftest import SLOW, TESTS, pytest_collection_modifyitems, skips

IS_INTERRUPTIBLE = "import signal, sys; sys.exit(signal.getsignal(signal.SIGINT) is not signal.default_int_handler)"


def test_a_child_can_be_interrupted():
    assert subprocess.run([sys.executable, "-c", IS_INTERRUPTIBLE]).returncode == 0


def test_a_child_can_be_interrupted_where_the_tests_cannot():
    test = f"{Path(__file__)}::test_a_child_can_be_interrupted"
    command = f"trap '' INT; exec {sys.executable} -m pytest -q -p no:cacheprovider {test}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stdout


def test_what_was_skipped_is_told_with_its_remedy():
    lines = skips(["no chromium on this machine"] * 12 + ["needs a GPU", "reasoning-gym is not installed"])
    assert lines[1].startswith("skipped 12: no chromium on this machine; to run them: `make browser`, or")
    assert lines[0].startswith("skipped 1: needs a GPU; to run them: ")
    assert lines[2] == "skipped 1: reasoning-gym is not installed"


def test_tests_are_marked_by_what_they_need():
    def marks(path: str, *fixtures: str) -> list[str]:
        item = SimpleNamespace(path=TESTS / path, fixturenames=fixtures, marks=[])
        item.add_marker = lambda mark: item.marks.append(mark.name)
        pytest_collection_modifyitems([item])
        return item.marks

    assert marks("serve/test_page.py", "page", "browser") == ["browser"]
    assert marks("train/test_sft.py", "tmp_path") == ["slow"] and marks("tasks/test_tasks.py") == []


def test_every_slow_place_exists():
    files = [str(path.relative_to(TESTS)) for path in TESTS.rglob("test_*.py")]
    assert all(any(file.startswith(place) for file in files) for place in SLOW)
