"""The page in a real browser on a real server: Watch, Race and Edit do their jobs."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
from browser import STORY, answer, check_looks, counter, generate, open_view, saved, set_options, shown, states

pytest_plugins = ["page_fixtures"]


def test_watch_shows_every_step_of_the_canvas(page: Any, server: str) -> None:
    view = open_view(page, "Watch")
    generate(view)
    page.keyboard.press("Home")
    assert counter(view, "step") == "noise" and states(view) == "n" * 96
    page.keyboard.press("ArrowRight")
    assert counter(view, "step").startswith("1 /") and counter(view, "forward passes") == "1"
    assert len(states(view)) == 96 and set(states(view)) <= set("nadps") and "n" in states(view)
    page.keyboard.press("ArrowRight")
    assert counter(view, "step").startswith("2 /")
    view.locator(".heat").click(position={"x": 4, "y": 20})
    assert counter(view, "step") == "noise"

    inspector = view.get_by_role("complementary", name="Cell")
    assert "canvas 1" in inspector.inner_text()
    first, last = inspector.locator(".runs li").first.inner_text(), inspector.locator(".runs .steps").last.inner_text()
    trace = json.loads(saved(page, view.get_by_role("button", name="Save trace")))
    steps = trace["events"][-1][1]["steps"][0]
    assert re.match(r"1\b", first) and re.search(rf"\b{steps}$", last), "the drafts of a cell span all steps"

    view.locator(".heat").click(position={"x": 4, "y": 2})
    candidates = inspector.locator(".candidates li")
    shares = [float(re.match(r"[<> ]*([\d.]+) %", text)[1]) for text in candidates.all_inner_texts()]
    assert len(shares) == 5 and shares == sorted(shares, reverse=True) and min(shares) > 0 and sum(shares) <= 101

    page.keyboard.press("End")
    expected = answer(server, steps=6)
    assert shown(view).strip() == expected.strip()
    view.get_by_role("button", name="Copy text").click()
    view.get_by_role("status").filter(has_text="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == expected
    check_looks(page)


def test_watch_plays_apart_from_generating(page: Any) -> None:
    view = open_view(page, "Watch")
    generate(view)
    page.keyboard.press("Home")
    page.get_by_label("Speed").select_option("8")
    view.get_by_role("button", name="Play", exact=True).click()
    # An answer may be empty: the moment of its commit is there all the same.
    view.locator("[aria-label=Step][aria-valuetext=committed]").wait_for(state="attached")


def test_space_plays_after_a_click_on_generate_and_sends_nothing(page: Any) -> None:
    view = open_view(page, "Watch")
    generate(view)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.keyboard.press("Home")
    page.keyboard.press("Space")
    view.get_by_role("button", name="Pause", exact=True).wait_for()
    page.keyboard.press("Space")
    view.get_by_role("button", name="Play", exact=True).wait_for()
    assert asked == []


def test_the_page_works_though_the_server_does_not_say_what_it_is(browser: Any, server: str) -> None:
    """Asked again once; when that fails too, the views open all the same and the server's own model answers."""
    for failures, model in ((1, "nano · canvas of 96"), (9, "no server")):
        context = browser.new_context(base_url=server)
        page, left = context.new_page(), [True] * failures
        page.route("**/v1/info", broken_at_first(left))
        generate(open_view(page, "Watch"))
        assert page.locator("#model").inner_text().startswith(model)
        if model == "no server":
            left.clear()
            page.get_by_role("button", name="Try again").click()
            page.locator("#model").filter(has_text="canvas of 96").wait_for()
        context.close()


def broken_at_first(left: list[bool]) -> Any:
    """Breaks off as many requests as are left to be broken off."""
    return lambda route: route.abort() if left and left.pop() else route.continue_()


def test_race_runs_both_ways_and_names_the_faster(page: Any, server: str) -> None:
    view = open_view(page, "Race")
    view.get_by_label("Prompt", exact=True).fill(STORY)
    set_options(view, seed=7, steps_per_canvas=6, most_tokens=24)
    view.get_by_role("button", name="Race", exact=True).click()
    verdict = view.locator(".verdict")
    verdict.wait_for()
    text = verdict.inner_text()
    winner = re.match(r"(Diffusion|Autoregressive) was ([\d.]+)× faster here", text)
    times = re.findall(r"(Diffusion|Autoregressive): ([\d.]+) (m?s), (\d+) forward passes for (\d+) tokens", text)
    seconds = {mode: float(time) * (0.001 if unit == "ms" else 1) for mode, time, unit, *_ in times}
    assert winner and len(seconds) == 2 and seconds[winner[1]] == min(seconds.values())
    assert "crossing point" in text and view.locator(".crossing svg").count() == 1
    view.get_by_label("Time", exact=True).press("End")
    for mode, name in (("ar", "Autoregressive"), ("diffusion", "Diffusion")):
        lane = view.get_by_role("article", name=name)
        body = {"model": "nano", "messages": [{"role": "user", "content": STORY}], "seed": 7, "max_tokens": 24}
        body["diffusion"] = {"mode": mode} | ({"steps": 6} if mode == "diffusion" else {})
        reply = httpx.post(f"{server}/v1/chat/completions", json=body, timeout=60).json()
        assert shown(lane).strip() == reply["choices"][0]["message"]["content"].strip()
        assert counter(lane, "forward passes") == str(reply["choices"][0]["diffusion"]["forward_passes"])
    check_looks(page)


def test_edit_fills_the_selection_and_nothing_else(page: Any) -> None:
    view = open_view(page, "Edit")
    area, before = view.get_by_label("Text"), "The cat sat on the mat. It slept."
    area.fill(before)
    area.evaluate("area => { area.focus(); area.setSelectionRange(8, 11); }")
    view.get_by_label("What to do").select_option(label="Fill in the selection")
    view.get_by_label("Seed").fill("3")
    view.get_by_role("button", name="Rewrite").click()
    view.get_by_role("status").filter(has_text=re.compile("to review|unchanged")).wait_for()
    if view.get_by_role("button", name="Accept all").is_visible():
        view.get_by_role("button", name="Accept all").click()
        assert area.input_value() != before
    assert area.input_value().startswith("The cat ") and area.input_value().endswith(" on the mat. It slept.")
    check_canvas(view)


def check_canvas(view: Any) -> None:
    """What has settled can be looked at again, step by step."""
    scrub = view.get_by_label("Step", exact=True)
    assert int(scrub.get_attribute("max")) > 0
    scrub.fill("0")
    assert view.locator('.cell[data-state="n"]').count() > 0
    scrub.fill(scrub.get_attribute("max"))
    assert view.locator('.cells .cell[data-state="c"]').count() > 0


def test_an_edit_is_seen_to_settle(page: Any) -> None:
    """A text of two windows: one canvas after the other. Little noise leaves something of the second one's text."""
    view = open_view(page, "Edit")
    view.get_by_label("Text").fill("Ravi visits the market on Monday. He buys fresh bread and two apples. " * 5)
    view.get_by_label("What to do").select_option(label="Change by instruction")
    view.get_by_label("Instruction").fill("Correct the spelling.")
    view.get_by_label("Strength").fill("0.05")
    view.get_by_label("Seed").fill("3")
    view.get_by_role("button", name="Rewrite").click()
    view.get_by_role("status").filter(has_text=re.compile("to review|unchanged")).wait_for()
    said = view.get_by_role("status").first.inner_text()
    assert "unchanged" in said or "% of the words changed" in said
    check_canvas(view)
    assert view.locator(".cells .cell.opens").count() > 0
    check_looks(page)


def test_edit_takes_each_change_or_leaves_it(page: Any) -> None:
    asked = []

    def reply(route: Any) -> None:
        asked.append(route.request.post_data_json)
        text = asked[-1]["input"].replace("fox", "cat").replace("afraid", "brave")
        answer = {"object": "edit", "text": text, "diff": [], "changed_outside": 0.0, "diffusion": {}}
        route.fulfill(content_type="text/event-stream", body=f"data: {json.dumps(answer)}\n\ndata: [DONE]\n\n")

    page.route("**/v1/edits", reply)
    view = open_view(page, "Edit")
    area = view.get_by_label("Text")
    area.fill("😀 The fox was afraid. The fox hid.")
    area.evaluate("area => { area.focus(); area.setSelectionRange(3, 21); }")
    view.get_by_label("What to do").select_option(label="Change by instruction")
    view.get_by_label("Instruction").fill("Braver")
    view.get_by_label("Strength").fill("0.7")
    view.get_by_role("button", name="Rewrite").click()
    view.get_by_role("status").filter(has_text="3 changes").wait_for()
    assert asked[0]["spans"] == [[2, 20]], "spans are counted in characters, not in UTF-16 units"
    assert asked[0]["strength"] == 0.7 and asked[0]["instruction"] == "Braver"
    check_looks(page)

    view.get_by_role("button", name="Accept change 1").click()
    page.keyboard.press("r")
    page.keyboard.press("a")
    assert area.input_value() == "😀 The cat was afraid. The cat hid."
    view.get_by_role("button", name="Rewrite").click()
    view.get_by_role("status").filter(has_text="1 change ").wait_for()
    assert asked[1]["input"] == "😀 The cat was afraid. The cat hid.", "the next edit starts from the present text"
    view.get_by_role("button", name="Undo").click()
    assert area.input_value() == "😀 The fox was afraid. The fox hid."
