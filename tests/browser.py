"""A chromium of the system, or of `make browser`, on a server of its own: steps that the tests of the page share."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1200, "height": 900}
DOWNLOADED = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH", Path.home() / ".cache/ms-playwright"))  # `make browser`
STORY = "Tell a story."


def chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    of_system = next((path for path in map(shutil.which, names) if path), None)
    return of_system or next(iter(sorted(map(str, DOWNLOADED.glob("chromium-*/chrome-linux*/chrome")))), None)


@contextmanager
def page_server(*options: str) -> Iterator[str]:
    """`diffusiongemma serve` on a free port -> the address of the page."""
    command = [sys.executable, "-m", "diffusiongemma", "serve", "--port", "0", *options]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    try:
        assert process.stdout is not None
        told = []
        for line in process.stdout:
            told.append(line)
            address = re.match(r"page\s+(http\S+?)/?\s*$", line)
            if address:
                break
        else:
            raise AssertionError("the server did not start:\n" + "".join(told))
        # A pipe that nobody reads would fill up and stop the server.
        drain = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
        yield address[1]
    finally:
        process.terminate()
        process.wait(30)
    drain.wait(10)


def fits(page: Any) -> bool:
    """Whether the document is no wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def accessibility_problems(page: Any) -> list[str]:
    """What axe-core finds wrong, one line each."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{it['id']}: {node['html'][:160]} {node['failureSummary']}" for it in found for node in it["nodes"]]


def check_looks(page: Any) -> None:
    """Labels and contrast in light and dark, and the width of a phone."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        problems = accessibility_problems(page)
        assert not problems, f"{scheme}: " + "\n".join(problems)
    page.set_viewport_size(PHONE)
    assert fits(page), "the page scrolls sideways on a phone"
    page.set_viewport_size(DESKTOP)


def open_view(page: Any, name: str) -> Any:
    page.goto(f"/#{name.lower()}")
    view = page.get_by_role("region", name=name, exact=True)
    view.wait_for()
    return view


def set_options(view: Any, **values: Any) -> None:
    view.get_by_text("Options", exact=True).click()
    for label, value in values.items():
        view.get_by_label(label.replace("_", " ").capitalize(), exact=True).fill(str(value))


def opened(view: Any, file: Path) -> None:
    """Give a file to the button that opens traces."""
    view.locator("input[type=file]").set_input_files(file)


def generate(view: Any, prompt: str = STORY, seed: int = 7, steps: int = 6) -> None:
    view.get_by_label("Prompt", exact=True).fill(prompt)
    set_options(view, seed=seed, steps_per_canvas=steps)
    view.get_by_role("button", name="Generate").click()
    view.get_by_role("status").filter(has_text="Generated ").wait_for()


def counter(view: Any, name: str) -> str:
    return view.locator(".counters div").filter(has=view.page.get_by_text(name, exact=True)).locator("dd").inner_text()


def shown(view: Any) -> str:
    """The text on the canvas once it is committed."""
    return view.locator(".cells").first.evaluate("cells => cells.textContent")


def answer(server: str, prompt: str = STORY, seed: int = 7, **diffusion: Any) -> str:
    body = {"model": "nano", "messages": [{"role": "user", "content": prompt}], "seed": seed, "diffusion": diffusion}
    response = httpx.post(f"{server}/v1/chat/completions", json=body, timeout=60).raise_for_status()
    return response.json()["choices"][0]["message"]["content"]


def states(view: Any) -> str:
    return view.locator(".active .cell").evaluate_all("cells => cells.map(cell => cell.dataset.state).join('')")


def saved(page: Any, button: Any) -> str:
    with page.expect_download() as download:
        button.click()
    return Path(download.value.path()).read_text(encoding="utf-8")


def board(view: Any) -> list[str]:
    return view.locator(".sudoku input").evaluate_all("cells => cells.map(cell => cell.value || '.')")


DROP = """
([data, type]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], "board", { type }));
  const event = new DragEvent("drop", { dataTransfer: transfer, bubbles: true });
  document.querySelector("section[aria-label=Sudoku]").dispatchEvent(event);
}
"""


def dropped(page: Any, data: bytes, kind: str) -> None:
    page.evaluate(DROP, [base64.b64encode(data).decode(), kind])
