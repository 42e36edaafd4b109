"""`make screenshots`: every view of the page, light, dark and on a phone, into docs/pictures.

With --recordings: the recordings that the page opens with. Needs playwright and a chromium.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests")]
from browser import chromium, page_server  # noqa: E402

PICTURES, RECORDINGS = ROOT / "docs" / "pictures", ROOT / "diffusiongemma" / "serve" / "page" / "recordings"
LOOKS = {
    "light": {"viewport": {"width": 1200, "height": 860}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1200, "height": 860}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "has_touch": True},
}
PUZZLE = "2..65....68.7...5....23..1..19.2.5..7..18...45284.9.........8.9864..2.7.3..847.62"
SENTENCE = "Rewrite in the past tense.\n\nAfter lunch, Anna will paint a picture in the garden."


def ready(page: Page, name: str) -> None:
    """Bring a view to where there is something to see."""
    page.goto(f"/#{name}")
    view = page.locator(f"section[aria-label={name.capitalize()}]")
    view.wait_for()
    button = {"chat": None, "watch": "Generate", "race": "Race", "structure": "Generate", "sudoku": "Solve"}.get(name)
    if name == "start":
        page.locator(".square[data-state=a], .square[data-state=d]").nth(6).wait_for()
    elif name == "chat":
        for chip in ("Ask", "Find facts"):
            if view.get_by_role("button", name=chip, exact=True).count():
                view.get_by_role("button", name=chip, exact=True).click()
                view.get_by_role("button", name="Send", exact=True).click()
                view.locator(".bubble-actions .hint").last.wait_for()
                if chip == "Ask":
                    view.get_by_role("button", name="New conversation").click()
        view.locator(".turn").last.scroll_into_view_if_needed()
    elif name == "edit":
        view.get_by_role("button", name="Past tense").click()
        view.get_by_role("status").filter(has_text="review").or_(view.get_by_text("unchanged")).first.wait_for()
    elif name == "replay":
        page.evaluate("location.hash = '#watch'")
    elif button:
        view.get_by_role("button", name=button, exact=True).click()
        if name == "race":
            view.locator(".verdict h2").wait_for(timeout=60_000)
        page.wait_for_timeout(6000)
        if name in ("watch", "structure"):
            page.keyboard.press("Home")
            page.keyboard.press("ArrowRight")
            page.keyboard.press("ArrowRight")
            page.wait_for_timeout(300)


def screenshots(address: str, views: list[str]) -> None:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        for look, options in LOOKS.items():
            for name in views:
                context = browser.new_context(base_url=address, **options)  # type: ignore[arg-type]
                page = context.new_page()
                page.on("console", lambda message: print(message.type, message.text) if message.type == "error" else 0)
                page.on("pageerror", lambda error: print("error", error))
                ready(page, name)
                picture = Image.open(io.BytesIO(page.screenshot(full_page=name != "start")))
                picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=96).save(
                    PICTURES / f"{name}-{look}.png", optimize=True
                )
                print(PICTURES / f"{name}-{look}.png")
                context.close()
        browser.close()


def recordings(address: str) -> None:
    """A sudoku and a sentence, as the page keeps them; the givens stand beside the first."""
    lines = "\n".join(PUZZLE[i : i + 9] for i in range(0, 81, 9))
    asked = {
        "sudoku": ("Solve this sudoku:\n" + lines, {"regex": lines.replace(".", "[1-9]")}, {"givens": PUZZLE}),
        "sentence": (SENTENCE, {"verify": "never"}, {}),
    }
    for name, (prompt, options, more) in asked.items():
        trace = recorded(address, prompt, options, more)
        (RECORDINGS / f"{name}.json").write_text(json.dumps(trace, ensure_ascii=False, separators=(",", ":")) + "\n")


def recorded(address: str, prompt: str, options: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": prompt}], "seed": 3, "stream": True}
    body["diffusion"] = {"frames": "noise", **options}
    events: list[Any] = []
    start, name, text = {}, "message", ""
    with httpx.stream("POST", f"{address}/v1/chat/completions", json=body, timeout=120) as response:
        for line in response.iter_lines():
            if line.startswith("event:"):
                name = line.partition(":")[2].strip()
            elif line.startswith("data:") and "[DONE]" not in line:
                value = json.loads(line.partition(":")[2])
                if name == "start":
                    start = value
                elif name == "message":
                    text += value["choices"][0]["delta"].get("content") or ""
                else:
                    events.append([name, value])
                name = "message"
    request = {"path": "/v1/chat/completions", "body": body, **more}
    return {"v": 1, "start": start | {"request": ""}, "request": request, "events": events, "text": text}


VIEWS = ["start", "chat", "watch", "race", "edit", "structure", "sudoku", "replay"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("views", nargs="*", default=VIEWS)
    parser.add_argument("--recordings", action="store_true", help="make the recordings only")
    options = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    RECORDINGS.mkdir(exist_ok=True)
    with page_server() as address:
        if options.recordings:
            recordings(address)
        else:
            screenshots(address, options.views)


if __name__ == "__main__":
    main()
