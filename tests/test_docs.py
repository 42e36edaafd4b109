"""The documents are true: their programs and commands run, their links and the places they name are there."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from serving import running

import diffusiongemma as dg

ROOT = Path(__file__).parents[1]
PAGES = sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\n+\Z")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
PLACE = re.compile(r"`((?:diffusiongemma|docs|tests|bench|examples|recipes)/[\w./-]*)`")
COMMAND = re.compile(r"^(?:.*\| *)?(?:\.venv/bin/)?(?:diffusiongemma|dgemma) ([^|<>\n]*)", re.MULTILINE)
DEFAULT_ADDRESS = "http://127.0.0.1:8000"  # of `diffusiongemma serve`; a server of the test stands in for it
TRACE = "diffusiongemma run 'Tell me the color of an emerald.' --seed 7 --trace a.trace.npz"
SUDOKU = "530070000600195000098000060800060003400803001700020006060000280000419005000080079"


@dataclass(frozen=True)
class Snippet:
    page: str
    line: int
    language: str
    text: str
    not_run: str  # why, or ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def snippets(page: str) -> list[Snippet]:
    text = (ROOT / page).read_text()
    found = []
    for match in BLOCK.finditer(text):
        before = text[: match.start()]
        why = NOT_RUN.search(before)
        found.append(Snippet(page, before.count("\n") + 1, match[1], match[2], why[1] if why else ""))
    return found


ALL = [snippet for page in PAGES for snippet in snippets(page)]
PROGRAMS = [s for s in ALL if s.language == "python" and not s.not_run]
COMMANDS = [s for s in ALL if s.language == "console" and not s.not_run]


def test_what_is_not_run():
    """The list of snippets that only a reader can try; each says why."""
    assert [(s.page, s.not_run) for s in ALL if s.not_run] == [
        ("CONTRIBUTING.md", "it would call itself"),
        ("README.md", "installs the package"),
        ("README.md", "a server that stays"),
        ("docs/cli.md", "needs a model that sees"),
        ("docs/cli.md", "a server that stays"),
        ("docs/evaluation.md", "minutes"),
        ("docs/evaluation.md", "downloads a model"),
        ("docs/quantization.md", "downloads a model"),
        ("docs/scaling.md", "needs two GPUs"),
        ("docs/scaling.md", "needs torchrun's processes"),
        ("docs/scaling.md", "a server that stays"),
        ("docs/scaling.md", "needs a cluster"),
        ("docs/serving.md", "a server that stays"),
        ("docs/training.md", "minutes"),
        ("docs/training.md", "minutes, or GPUs"),
        ("docs/training.md", "a sketch"),
    ]


@pytest.mark.parametrize("page", sorted({s.page for s in PROGRAMS}))
@pytest.mark.slow
def test_python_blocks_of_a_page(page, monkeypatch, tmp_path):
    """In order, in one namespace, as a reader would type them."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    with ExitStack() as stack:
        for snippet in (s for s in PROGRAMS if s.page == page):
            text = snippet.text
            if DEFAULT_ADDRESS in text:
                text = text.replace(
                    DEFAULT_ADDRESS, stack.enter_context(running(dg.load("nano"), model_name="nano")).address
                )
            exec(compile("\n" * snippet.line + text, page, "exec"), namespace)


@pytest.mark.parametrize("snippet", COMMANDS, ids=str)
@pytest.mark.slow
def test_commands(snippet, tmp_path):
    """In a shell that stops at the first failure, in a folder with the files they speak of."""
    write_files(tmp_path)
    shell = (
        f'diffusiongemma() {{ "{sys.executable}" -m diffusiongemma "$@"; }}\npython() {{ "{sys.executable}" "$@"; }}\n'
    )
    trace = TRACE if "a.trace.npz" in snippet.text else ""
    script = "\n".join(["set -eu -o pipefail", shell, trace, snippet.text])
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]


def write_files(folder: Path) -> None:
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "letter.txt").write_text("In the morning, Jack sends <<>>. Jack watches the boats.\n")
    (folder / "draft.txt").write_text("In the morning, Jack sends flowers. Jack watches the boats.\n")
    (folder / "notes.md").write_text("Jack has <<>> and <<>>.\n")
    (folder / "a.py").write_text("def add(a, b):\n    return ???\n")
    (folder / "my-puzzles.txt").write_text(SUDOKU + "\n")
    body = {"messages": [{"role": "user", "content": "Tell me the color of an emerald."}]}
    request = {"custom_id": "one", "method": "POST", "url": "/v1/chat/completions", "body": body}
    (folder / "requests.jsonl").write_text(json.dumps(request) + "\n")


@pytest.mark.parametrize("snippet", [s for s in ALL if COMMAND.search(s.text)], ids=str)
def test_options_of_commands_exist(snippet):
    """Run or not, every command line of ours is one that the parser takes."""
    import typer

    from diffusiongemma.cli import build

    app = typer.main.get_command(build())
    for line in COMMAND.findall(snippet.text.replace("\\\n", " ")):
        arguments = shlex.split(line, comments=True)
        if not any(word in "…" or word.isupper() for word in arguments):  # a form rather than a command
            parse(app, arguments)


def test_an_option_that_is_not_there_is_noticed():
    import typer

    from diffusiongemma.cli import build

    with pytest.raises(Exception, match=r"(?i)no such option"):
        parse(typer.main.get_command(build()), ["run", "Hello", "--no-such-option"])


def parse(command, arguments):
    """Parse a command line, subcommands first, without running anything."""
    commands = getattr(command, "commands", {})
    if arguments and arguments[0] in commands:
        parse(commands[arguments[0]], arguments[1:])
    elif "--help" not in arguments:
        command.make_context("diffusiongemma", list(arguments))


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = BLOCK.sub("", (ROOT / page).read_text())
    links = [link for link in LINK.findall(text) if "://" not in link]
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page != "docs/log.md"])  # a log names what was there once
def test_places_are_there(page):
    places = PLACE.findall((ROOT / page).read_text())
    assert [place for place in places if not (ROOT / place).exists()] == []


def test_imports_point_down_the_list_of_the_architecture():
    layers = re.search(r"## The layers\n+```\n(.*?)```", (ROOT / "docs/architecture.md").read_text(), re.DOTALL)[1]
    rows = [re.findall(r"[a-z_]+(?=/|\.py)", line[:26]) for line in layers.splitlines() if line[0] != " "]
    place = {name: number for number, row in enumerate(rows) for name in row}
    parts = {path.stem for path in (ROOT / "diffusiongemma").iterdir() if path.is_dir() or path.suffix == ".py"}
    assert set(place) == parts - {"__init__", "__main__", "__pycache__", "assets"}
    upwards = [
        (part, other)
        for part, number in place.items()
        for other in imported(part) & set(place)
        if place[other] < number
    ]
    assert upwards == []


def imported(part: str) -> set[str]:
    """The parts that one part imports when it runs: what only a type checker reads does not count."""
    home = ROOT / "diffusiongemma" / part
    files = home.rglob("*.py") if home.is_dir() else [home.with_suffix(".py")]
    found: set[str] = set()
    for file in files:
        found |= {name.split(".")[1] for name in imports_in(ast.parse(file.read_text()))}
    return found - {part}


def imports_in(node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ImportFrom) and (child.module or "").startswith("diffusiongemma."):
            yield child.module or ""
        elif not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)):
            yield from imports_in(child)


def test_the_site_has_every_page():
    def listed(entries):
        for entry in entries:
            for value in entry.values():
                yield from listed(value) if isinstance(value, list) else [value]

    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    pages = [str(path.relative_to(ROOT / "docs")) for path in ROOT.glob("docs/**/*.md")]
    assert sorted(listed(nav)) == sorted(pages)


def test_names_of_the_reference_exist():
    from importlib import import_module

    def found(name):
        head, _, last = name.rpartition(".")
        try:
            return import_module(name)
        except ModuleNotFoundError:
            return getattr(import_module(head), last)

    names = [name for page in ROOT.glob("docs/api/*.md") for name in re.findall(r"^::: (\S+)", page.read_text(), re.M)]
    assert names and all(found(name) is not None for name in names)


def test_the_reference_has_every_public_name():
    pages = "\n".join(page.read_text() for page in ROOT.glob("docs/api/*.md"))
    modules = set(re.findall(r"^::: (\S+)", pages, re.M))
    homes = {name: f"diffusiongemma.{home}" for name, home in dg._HOME.items()}
    assert [
        n for n, home in homes.items() if n != "Event" and home not in modules and f"{home}.{n}" not in modules
    ] == []
