"""The page as a visitor meets it: what opens it, its first click, a conversation, and what it says of mistakes."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
from browser import PHONE, check_looks, counter, fits, open_view, page_server, set_options

from diffusiongemma.tasks.sudoku_reader import read_board

pytest_plugins = ["page_fixtures"]

# Notes what the board shows at each picture, and when.
FILM = """() => {
  window.film = [];
  const board = document.querySelector(".sudoku.shown");
  const note = () => {
    const states = [...board.children].map((square) => square.dataset.state);
    const shown = board.textContent + states.join();
    if (shown !== window.film.at(-1)?.shown) window.film.push({ shown, states, at: performance.now() });
  };
  new MutationObserver(note).observe(board, { subtree: true, childList: true, attributes: true, characterData: true });
}"""


def test_a_recording_plays_before_the_server_is_asked(page: Any) -> None:
    page.route("**/v1/**", lambda route: None)  # which never answers
    page.goto("/")
    squares = page.locator(".home .square")
    squares.and_(page.locator("[data-state=n]")).nth(20).wait_for()
    squares.and_(page.locator("[data-state=c]")).nth(20).wait_for()


def test_the_first_click_shows_noise_that_settles_slowly(page: Any) -> None:
    page.goto("/")
    view = page.get_by_role("region", name="Start", exact=True)
    page.evaluate(FILM)
    view.get_by_role("button", name="Watch it solve one now").click()
    view.get_by_role("status").filter(has_text=re.compile("Solved in|Not solved")).wait_for()
    film = page.evaluate("window.film")
    begins = max(i for i, picture in enumerate(film) if set(picture["states"]) == {"given", "n"})
    pictures = film[begins:]
    assert len(pictures) >= 20 and pictures[-1]["at"] - pictures[0]["at"] >= 4000
    assert set(pictures[-1]["states"]) == {"given", "c"}
    board = read_board(view.locator(".square").evaluate_all("all => all.map((one) => one.textContent).join('')"))
    said = view.get_by_role("status").inner_text()
    right = view.locator(".square.wrong").count() == 0
    assert board is not None and right == said.startswith("Solved in") == (view.locator(".solved").count() == 1)
    view.get_by_role("button", name="Another one").wait_for()
    check_looks(page)


def send(view: Any, text: str) -> None:
    view.get_by_label("Message").fill(text)
    view.get_by_label("Message").press("Enter")


def settled(view: Any, count: int) -> None:
    view.get_by_role("button", name="How it settled").nth(count - 1).wait_for()


def test_a_conversation_settles_in_bubbles(page: Any, server: str) -> None:
    view = open_view(page, "Chat")
    assert "million parameters" in view.inner_text() and "sudoku" in view.inner_text()
    set_options(view, seed=3)
    send(view, "Tell me the color of an emerald.")
    view.locator(".bubble.reply .cell").first.wait_for(state="attached")
    settled(view, 1)
    body = {"messages": [{"role": "user", "content": "Tell me the color of an emerald."}], "seed": 3}
    reply = httpx.post(f"{server}/v1/chat/completions", json=body, timeout=60).json()["choices"][0]
    assert view.locator(".answer").inner_text() == reply["message"]["content"].strip()
    assert view.locator(".answer").evaluate("(node) => getComputedStyle(node).fontFamily").find("mono") < 0
    send(view, "Is snow cold?")
    settled(view, 2)
    assert view.locator(".turn").count() == 2
    view.get_by_role("button", name="How it settled").first.click()
    view.locator(".inside .cells").wait_for()
    assert counter(view.locator(".inside"), "step") != "–"
    check_looks(page)
    view.get_by_role("button", name="Edit").first.click()
    assert view.locator(".turn").count() == 0
    assert view.get_by_label("Message").input_value() == "Tell me the color of an emerald."


def test_a_sudoku_in_the_chat_is_read_in_any_spelling(page: Any) -> None:
    asked: list[dict[str, Any]] = []
    page.on("request", lambda it: asked.append(it.post_data_json) if it.url.endswith("/completions") else None)
    view = open_view(page, "Chat")
    view.get_by_role("button", name="Sudoku").click()
    view.get_by_role("button", name="Send").click()
    settled(view, 1)
    assert asked[0]["messages"][-1]["content"].startswith("Solve this sudoku:\n53..7....\n6..195...")
    digits = re.sub(r"\s", "", view.locator(".answer").inner_text())
    assert re.fullmatch("[1-9]{81}", digits) and digits.startswith("53") and digits[4] == "7"


def test_answers_are_markdown_made_of_text_nodes(page: Any) -> None:
    said = (
        "# Title\n\nSome **bold**, *slanted* and `code`, <img src=x onerror=alert(1)>.\n\n1. one\n2. two\n\n"
        "- a\n- b\n\n"
        "```py\nx = 1 < 2\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"
        "[here](https://example.com) [not](javascript:alert(1))"
    )
    page.goto("/")
    page.evaluate(
        """async (said) => {
        const { markdown } = await import("/page/markdown.js");
        const box = document.createElement("div");
        box.id = "made";
        box.append(...markdown(said));
        document.body.append(box);
    }""",
        said,
    )
    made = page.locator("#made")
    for selector, text in (
        ("strong", "bold"), ("em", "slanted"), ("p code", "code"), ("ol li >> nth=1", "two"), ("ul li >> nth=0", "a"),
        ("pre code", "x = 1 < 2"), ("td >> nth=1", "2"), ("[role=heading]", "Title"), ("a", "here"),
    ):  # fmt: skip
        assert made.locator(selector).inner_text() == text
    assert made.locator("img").count() == 0 and made.locator("a").count() == 1
    assert "<img src=x onerror=alert(1)>" in made.inner_text()


def test_a_stopped_answer_keeps_what_was_there_and_can_be_asked_again(page: Any) -> None:
    view = open_view(page, "Chat")
    page.route("**/v1/chat/completions", lambda route: None)
    send(view, "Hello")
    view.get_by_role("button", name="Stop").click()
    view.get_by_role("status").filter(has_text="Stopped").wait_for()
    page.unroute("**/v1/chat/completions")
    view.get_by_role("button", name="Send again").click()
    settled(view, 1)
    assert view.locator(".turn").count() == 1


# --- mistakes -------------------------------------------------------------------------------------------------------


def refusing(status: int, message: str) -> Any:
    body = json.dumps({"error": {"message": message}})
    return lambda route: route.fulfill(status=status, content_type="application/json", body=body)


@pytest.fixture
def quiet(browser: Any, server: str) -> Any:
    """A tab in which requests may fail."""
    context = browser.new_context(base_url=server, viewport=PHONE)
    yield context.new_page()
    context.close()


def test_mistakes_are_told_beside_the_button_in_plain_words(quiet: Any) -> None:
    view = open_view(quiet, "Watch")
    for status, said in ((429, "busy"), (507, "no room"), (400, "cannot do this: steps is 0"), (500, "log says why")):
        quiet.route("**/v1/chat/completions", refusing(status, "steps is 0" if status == 400 else ""))
        view.get_by_role("button", name="Generate").click()
        view.get_by_role("alert").filter(has_text=said).wait_for()
        assert view.get_by_role("alert").evaluate(
            "(node) => { const box = node.getBoundingClientRect(); return box.top >= 0 && box.bottom <= innerHeight; }"
        )
        quiet.unroute("**/v1/chat/completions")


def test_nothing_is_valid_after_an_error(quiet: Any) -> None:
    view = open_view(quiet, "Structure")
    view.get_by_role("button", name="Generate").click()
    view.get_by_role("status").filter(has_text="Generated ").wait_for()
    assert view.locator(".result").is_visible()
    for source, said in (("{", "not JSON"), ('{"$ref": "https://example.com/a.json"}', "example.com")):
        assert view.locator(".stage .cell:not(.swatch)").count() > 0
        view.get_by_label("Schema or expression").fill(source)
        view.get_by_role("button", name="Generate").click()
        view.get_by_role("alert").filter(has_text=said).wait_for()
        quiet.keyboard.press("End")  # nor can it be called back
        assert not view.locator(".result").is_visible() and view.locator(".badge:visible").count() == 0
        assert view.locator(".stage .cell:not(.swatch), .mark").count() == 0
        assert view.locator(".stage .visually-hidden").inner_text() == ""
        assert set(view.locator(".counters dd").all_inner_texts()) == {"–"}
        view.get_by_role("button", name="Person").click()
        view.get_by_role("button", name="Generate").click()
        view.get_by_role("status").filter(has_text="Generated ").wait_for()


def test_a_wrong_key_is_told(browser: Any) -> None:
    with page_server("--api-key", "right-key") as address:
        context = browser.new_context(base_url=address)
        page = context.new_page()
        page.goto("/#watch")
        page.get_by_label("This server asks for an API key").fill("wrong-key")
        page.get_by_role("button", name="Continue").click()
        page.get_by_role("alert").filter(has_text="not one of this server").wait_for()
        page.get_by_label("This server asks for an API key").fill("right-key")
        page.get_by_role("button", name="Continue").click()
        page.get_by_role("region", name="Watch").wait_for()
        context.close()


def test_copying_works_where_the_clipboard_is_closed_to_pages(page: Any) -> None:
    """As it is over plain http."""
    page.goto("/")
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.evaluate("import('/page/util.js').then(({ copy }) => copy('some text'))")
    page.locator("h1").evaluate(
        "() => document.body.append(Object.assign(document.createElement('textarea'), { id: 'into' }))"
    )
    page.locator("#into").press("ControlOrMeta+v")
    assert page.locator("#into").input_value() == "some text"


# --- looks ----------------------------------------------------------------------------------------------------------


def test_the_prompt_shows_whole_lines(page: Any) -> None:
    area = open_view(page, "Watch").get_by_label("Prompt", exact=True)
    for lines in (1, 3, 7):
        area.fill("\n".join("line" for _ in range(lines)))
        assert area.evaluate("(it) => it.scrollHeight <= it.clientHeight"), lines


def test_settled_prose_wraps_between_words(page: Any) -> None:
    page.set_viewport_size({"width": 420, "height": 800})
    view = open_view(page, "Replay")
    words = ["The", *(f" word{i}" for i in range(60)), "."]
    commit = {"v": 1, "n": 0, "canvas": 0, "tokens": [part for word in words for part in (word[:3], word[3:]) if part],
              "steps": 1, "converged": True, "logprobs": [], "entropies": [], "settled": []}  # fmt: skip
    done = {
        "v": 1,
        "n": 0,
        "steps": [],
        "forward_passes": 1,
        "tokens_per_forward": 1,
        "seconds": 1,
        "finish_reason": "stop",
    }
    trace = {"v": 1, "start": {"v": 1, "mode": "ar"}, "events": [["commit", commit], ["done", done]]}
    view.locator("input[type=file]").set_input_files(
        {"name": "trace.json", "mimeType": "application/json", "buffer": json.dumps(trace).encode()}
    )
    page.keyboard.press("End")
    lines = view.locator(".settled").evaluate(
        """(node) => {
        const walk = document.createTreeWalker(node, NodeFilter.SHOW_TEXT), rows = new Map();
        for (let text = walk.nextNode(); text; text = walk.nextNode()) for (let i = 0; i < text.data.length; i++) {
          const range = document.createRange();
          range.setStart(text, i); range.setEnd(text, i + 1);
          const box = range.getBoundingClientRect();
          if (box.width) rows.set(Math.round(box.top), (rows.get(Math.round(box.top)) ?? "") + text.data[i]);
        }
        return [...rows.values()];
    }"""
    )
    assert len(lines) > 3
    assert all(re.fullmatch(r"(The|word\d+)( word\d+)* ?\.?", line) for line in lines), lines


def test_the_inspector_is_a_sheet_on_a_phone(page: Any) -> None:
    page.set_viewport_size(PHONE)
    view = open_view(page, "Watch")
    view.get_by_role("button", name="Generate").click()
    view.get_by_role("status").filter(has_text="Generated ").wait_for()
    page.keyboard.press("Home")
    sheet = view.get_by_role("complementary", name="Cell")
    assert not sheet.is_visible()
    view.locator(".active .cell").nth(3).click()
    assert sheet.evaluate(
        "(it) => it.getBoundingClientRect().bottom <= innerHeight + 1 && getComputedStyle(it).position == 'fixed'"
    )
    sheet.get_by_role("button", name="Close").click()
    assert not sheet.is_visible() and fits(page)


def test_buttons_are_large_enough_for_fingers(browser: Any, server: str) -> None:
    context = browser.new_context(base_url=server, viewport=PHONE, has_touch=True)
    page = context.new_page()
    for name in ("Start", "Chat", "Watch", "Sudoku"):
        view = open_view(page, name)
        heights = view.locator("button:visible, a:visible, .file label").evaluate_all(
            "all => all.map((it) => it.offsetHeight)"
        )
        assert heights and min(heights) >= 44, (name, heights)
    context.close()


def test_the_page_says_what_it_is_and_where_more_is(page: Any) -> None:
    page.goto("/")
    assert "noise" in page.locator("meta[name=description]").get_attribute("content")
    foot = page.get_by_role("contentinfo")
    assert foot.get_by_role("link", name="The API").get_attribute("href") == "/openapi.json"
    foot.get_by_role("link").nth(1).wait_for()


def test_house_words_stay_in_the_house(page: Any) -> None:
    for name in ("Chat", "Watch", "Race", "Edit", "Structure", "Sudoku", "Replay"):
        text = open_view(page, name).text_content().lower()
        for word in ("tokens resolved", "noise again", "as trained", "checked canvases"):
            assert word not in text.replace("noise again: ", ""), (name, word)
