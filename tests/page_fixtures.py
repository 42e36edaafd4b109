"""Fixtures of the tests of the page: one server and one chromium for each file, a fresh tab for each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from browser import DESKTOP, chromium, page_server


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with page_server() as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if chromium() is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, server: str) -> Iterator[Any]:
    """A fresh tab; anything the console calls an error fails the test."""
    context = browser.new_context(base_url=server, viewport=DESKTOP, permissions=["clipboard-read", "clipboard-write"])
    page, problems = context.new_page(), []
    page.set_default_timeout(90_000)  # for machines that do much else
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    context.close()
    assert problems == []
