"""`infill` and `edit`: bytes in, bytes out, and files that change whole or not at all."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli_fixtures import pipe_in

import diffusiongemma as dg
from diffusiongemma.cli import main, texts
from diffusiongemma.cli.edit import span_of_lines
from diffusiongemma.cli.infill import parsed_length
from diffusiongemma.engine.plans.edit import EditResult

FAST = ("--steps", "2", "--seed", "3")


@dataclass
class Outcome:
    code: int
    out: bytes
    err: str


@pytest.fixture
def cli(capfdbinary, monkeypatch, tiny_directory):
    """Run the command line in this process on the tiny model; `stdin` is what is piped in."""

    def call(command: str, *arguments: object, stdin: bytes | None = None) -> Outcome:
        pipe_in(stdin, monkeypatch)
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as left:
            main([command, *map(str, arguments), "--model", str(tiny_directory)])
        out, err = capfdbinary.readouterr()
        return Outcome(left.value.code, out, err.decode())

    return call


@pytest.fixture(scope="module")
def model(tiny_directory) -> dg.DiffusionGemma:
    return dg.load(tiny_directory)


TEXT = "Dear <<>>,\r\n\tit was naïve ☃ of you.\r\nYours, <<>>"


def test_infill_writes_the_bytes_and_nothing_else(cli, model):
    expected = model.infill_text(TEXT, length=2, steps=2, seed=3)
    done = cli("infill", "-", "--length", 2, *FAST, stdin=TEXT.encode())
    assert (done.code, done.out) == (0, expected.text.encode())
    assert b",\r\n\tit was na\xc3\xafve \xe2\x98\x83 of you.\r\nYours, " in done.out


def test_infill_as_json(cli, model):
    done = cli("infill", "-", "--hole", "??", "--length", "1-3", "--json", *FAST, stdin=b"a ?? b")
    told = json.loads(done.out)
    expected = model.infill_text("a ?? b", "??", length=(1, 3), steps=2, seed=3)
    assert (told["text"], told["fills"], told["seed"]) == (expected.text, list(expected.fills), 3)
    assert list(told["candidates"][0]) == ["1", "2", "3"] and told["lengths"] == list(expected.lengths)


@pytest.mark.parametrize(("command", "more"), [("infill", ["--length", "2"]), ("edit", ["Change it."])])
def test_what_it_took_is_told(cli, monkeypatch, command, more):
    from rich.status import Status

    shown: list[str] = []
    monkeypatch.setattr(Status, "update", lambda self, status, **_: shown.append(status))
    done = cli(command, "-", *more, *FAST, stdin=b"Dear <<>>, it was nice.")
    assert re.search(r"\d+ steps · \d+ forward passes · \d+ tokens · [\d.]+ s", done.err), done.err
    assert any("step 2" in status for status in shown) and (command == "infill" or "% of the text" in shown[-1])
    assert cli(command, "-", *more, *FAST, "-q", stdin=b"Dear <<>>, it was nice.").err == ""
    told = json.loads(cli(command, "-", *more, *FAST, "--json", stdin=b"Dear <<>>, it was nice.").out)
    assert told["forward_passes"] >= told["steps"] > 0 and told["seconds"] > 0


def test_in_place_keeps_the_mode_and_follows_links(cli, tmp_path):
    file, link = tmp_path / "a.txt", tmp_path / "link.txt"
    file.write_bytes(TEXT.encode())
    file.chmod(0o640)
    link.symlink_to(file)
    done = cli("infill", link, "--in-place", "--length", 2, *FAST)
    assert (done.code, done.out) == (0, b"") and link.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert file.read_bytes() != TEXT.encode() and file.read_bytes().startswith(b"Dear ")
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "link.txt"], "no backup, no partial file"


def test_a_write_that_fails_changes_nothing(tmp_path, monkeypatch):
    file = tmp_path / "a.txt"
    file.write_text("before")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(dg.InputError, match="nothing was changed"):
        texts.replace_text(file, "after")
    assert file.read_text() == "before" and os.listdir(tmp_path) == ["a.txt"]


def test_edit_lines_only(cli, model, tmp_path):
    text = "first line\nsecond line\r\nthird ☃\n"
    file = tmp_path / "a.txt"
    file.write_bytes(text.encode())
    expected = model.edit(text, "Change it.", spans=[(11, 22)], strength=0.7, steps=2, seed=3)
    done = cli("edit", file, "Change it.", "--lines", 2, *FAST)
    assert (done.code, done.out) == (0, expected.text.encode())
    assert done.out.startswith(b"first line\n") and done.out.endswith("\r\nthird ☃\n".encode())
    assert file.read_bytes() == text.encode()


def test_edit_shows_its_changes(cli, model):
    text = "one two three"
    expected = model.edit(text, strength=1.0, steps=2, seed=3)
    done = cli("edit", "-", "--strength", 1, "--diff", *FAST, stdin=text.encode())
    assert done.out.decode() == "".join(
        {"same": part, "delete": f"[-{part}-]", "insert": f"{{+{part}+}}"}[kind] for kind, part in expected.diff
    )
    told = json.loads(cli("edit", "-", "--strength", 1, "--json", *FAST, stdin=text.encode()).out)
    assert told["text"] == expected.text and [tuple(change) for change in told["diff"]] == list(expected.diff)
    assert told["changed_outside"] == pytest.approx(expected.changed_outside, abs=1e-4)


def test_strength_zero_is_cat(cli):
    text = "☃ exactly\r\nthis, no line end".encode()
    assert cli("edit", "-", "--strength", 0, *FAST, stdin=text).out == text


@pytest.mark.parametrize(
    ("command", "stdin", "arguments", "words"),
    [
        ("infill", b"no hole here", (), "no hole <<>>"),
        ("infill", b"a <<>><<>> b", (), "side by side"),
        ("infill", b"a <<>>", ("--hole", ""), "marker is empty"),
        ("infill", b"\xff\xfe <<>>", (), "not UTF-8"),
        ("infill", b"", (), "empty"),
        ("infill", b"a <<>>", ("--length", "much"), "length"),
        ("infill", b"a <<>>", ("--length", "5-2"), "length"),
        ("infill", b"a <<>>", ("--length", "999"), "at most"),
        ("infill", b"a <<>>", ("--in-place",), "needs a file"),
        ("infill", b"a <<>>", ("--steps", "0"), "steps"),
        ("edit", b" \n", (), "empty"),
        ("edit", b"one\ntwo\n", ("--lines", "2-3"), "has 2"),
        ("edit", b"one\ntwo\n", ("--lines", "0"), "has 2"),
        ("edit", b"one\ntwo\n", ("--lines", "2-1"), "has 2"),
        ("edit", b"one\ntwo\n", ("--lines", "x"), "lines"),
        ("edit", b"one\n\ntwo\n", ("--lines", "2"), "empty"),
        ("edit", b"one", ("--strength", "1.1"), "strength"),
        ("edit", b"one", ("--diff", "--json"), "--diff"),
        ("edit", b"one", ("--backup",), "--backup: goes with --in-place"),
    ],
)
def test_mistakes_are_told_in_one_line(cli, command, stdin, arguments, words):
    done = cli(command, "-", *arguments, stdin=stdin)
    assert (done.code, done.out) == (2, b"") and words in done.err and done.err.count("\n") == 1


@pytest.mark.parametrize("command", ["infill", "edit"])
def test_files_that_cannot_be_read(cli, tmp_path, command):
    for file in (tmp_path / "missing.txt", tmp_path):
        done = cli(command, file)
        assert done.code == 2 and "cannot read" in done.err


def test_lines_of_a_text():
    text = "a\nbc\r\n\nlast"
    assert [text[slice(*span_of_lines(text, lines))] for lines in ("1", "2", "4", "1-2", "1-4", "2-4")] == [
        "a", "bc", "last", "a\nbc", text, "bc\r\n\nlast",
    ]  # fmt: skip
    assert span_of_lines("one\n", "1") == (0, 3)


def test_lengths_on_the_command_line():
    assert [parsed_length(text) for text in ("auto", "4", "4-12")] == ["auto", 4, (4, 12)]
    for wrong in ("", "-", "4-", "-4", "a", "1-2-3", "4.5"):
        with pytest.raises(dg.InputError, match="length"):
            parsed_length(wrong)


@pytest.mark.slow
def test_as_a_filter_of_an_editor(tiny_directory: Path):
    """A process of its own between two pipes, in a locale that is not UTF-8."""
    arguments = ["infill", "-", "--length", "2", "--model", str(tiny_directory), *FAST]
    done = subprocess.run(
        [sys.executable, "-m", "diffusiongemma", *arguments],
        input=TEXT.encode(),
        capture_output=True,
        env=os.environ | {"PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
    )
    parts = TEXT.encode().split(b"<<>>")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(parts[0]) and parts[1] in done.stdout and done.stdout.endswith(parts[2])


def test_an_edit_that_loses_the_text_writes_only_if_forced(cli, tmp_path, monkeypatch):
    def nothing_left(*_, **__):
        return EditResult("a", (("same", "a"), ("delete", " long text\n")), 0.9, (), 0, ())
        yield

    monkeypatch.setattr(dg.DiffusionGemma, "edit_plan", nothing_left)
    file = tmp_path / "a.txt"
    file.write_text("a long text\n")
    refused = cli("edit", file, "--in-place", *FAST)
    assert refused.code == 2 and "loses 89% of the text" in refused.err and "--force" in refused.err
    assert file.read_text() == "a long text\n" and list(tmp_path.iterdir()) == [file]
    warned = cli("edit", file, *FAST)
    assert (warned.code, warned.out) == (0, b"a") and "loses 89% of the text" in warned.err
    forced = cli("edit", file, "--in-place", "--force", "--backup", *FAST)
    assert forced.code == 0 and file.read_text() == "a"
    assert (tmp_path / "a.txt~").read_text() == "a long text\n"
