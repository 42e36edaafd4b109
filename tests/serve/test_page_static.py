"""The page's JavaScript without a browser: TypeScript's compiler reads it and finds nothing wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "diffusiongemma" / "serve" / "page"
FLAGS = [
    *("--checkJs", "--allowJs", "--noEmit", "--target", "esnext", "--module", "esnext"),
    *("--moduleResolution", "bundler", "--lib", "esnext,dom,dom.iterable", "--strict", "false"),
]
REMEDY = "no TypeScript compiler"


def compiler() -> list[str] | None:
    """`tsc` of the repository, of `DIFFUSIONGEMMA_TSC`, or of the system."""
    local = ROOT / "node_modules" / ".bin" / "tsc"
    found = os.environ.get("DIFFUSIONGEMMA_TSC") or (str(local) if local.exists() else shutil.which("tsc"))
    return [found] if found else None


def problems(*files: Path) -> str:
    command = compiler()
    if command is None:
        pytest.skip(REMEDY)
    asked = [*command, *FLAGS, *map(str, files)]
    return subprocess.run(asked, capture_output=True, text=True, cwd=ROOT).stdout


def test_the_types_of_the_page_agree() -> None:
    """Both entries: what the page runs, and what an exported page runs."""
    assert problems(PAGE / "app.js", PAGE / "exported.js") == ""


def test_every_module_is_reached() -> None:
    text = "\n".join(path.read_text() for path in PAGE.rglob("*.js"))
    for path in PAGE.rglob("*.js"):
        if path.name not in ("app.js", "exported.js"):
            assert f'/{path.name}"' in text, f"{path.name} is imported by nothing"


def test_a_mistake_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "wrong.js").write_text('import { count } from "./util.js";\ncount(1, "step").nothing();\nmissing(1);\n')
    shutil.copy(PAGE / "util.js", tmp_path)
    found = problems(tmp_path / "wrong.js")
    assert "nothing" in found and "missing" in found
