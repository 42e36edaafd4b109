"""The page in a real browser on a real server: Structure, Sudoku and Replay do their jobs."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from browser import (
    STORY,
    board,
    check_looks,
    counter,
    dropped,
    generate,
    open_view,
    opened,
    page_server,
    saved,
    set_options,
    shown,
    states,
)
from PIL import Image
from serving import wait_until

from diffusiongemma.tasks.sudoku import is_valid_solution
from diffusiongemma.weights.locate import ASSETS

pytest_plugins = ["page_fixtures"]


def test_structure_is_valid_at_every_step(page: Any) -> None:
    view = open_view(page, "Structure")
    set_options(view, seed=5, steps_per_canvas=6)
    view.get_by_role("button", name="Generate").click()
    view.get_by_role("status").filter(has_text="Generated ").wait_for()
    marks = view.locator(".mark")
    titles = marks.evaluate_all("marks => marks.map(mark => mark.title)")
    assert len(titles) >= 2 and all(title.endswith(": keeps to the form") for title in titles), titles
    page.keyboard.press("End")
    schema = json.loads(view.get_by_label("Schema or expression").input_value())
    jsonschema.validate(json.loads(view.locator(".output").inner_text()), schema)
    check_looks(page)

    view.get_by_role("button", name="Date").click()
    view.get_by_role("button", name="Generate").click()
    view.get_by_role("status").filter(has_text="Generated ").wait_for()
    marks.first.click()
    assert re.fullmatch(r"20\d\d-[01]\d-[0-3]\d", view.locator(".output").inner_text())
    assert view.locator(".badge").inner_text() == "keeps to the form"


def synthetic_trace() -> dict[str, Any]:
    """Two canvases of four positions, in the protocol's form; one token would be markup if it were taken for it."""
    evil = "<img src=x onerror=alert(1)>"
    step = {"v": 1, "n": 0, "width": 4, "level": 1.0, "temperature": 0.8, "ms": 5.0}

    def canvas(
        place: tuple[int, int], at: str, tokens: list[str], state: str, entropy: str, drafts: dict[str, str]
    ) -> list[Any]:
        changes = {"at": at, "tokens": tokens, "state": state, "entropy": entropy, "drafts": drafts}
        return ["canvas", step | {"canvas": place[0], "step": place[1]} | changes]

    commit = {"v": 1, "n": 0, "converged": True, "logprobs": [-0.1] * 4, "entropies": [0.0] * 4}
    events = [
        canvas((0, 1), "0-3", ["Hi", "qq", "zz", "xx"], "annn", "0zz5", {"1": " there", "2": "?", "3": "\n"}),
        canvas((0, 2), "1-3", [" there", evil, "\n"], "daaa", "0900", {}),
        canvas((0, 3), "1-2", ["kk", "!"], "dnad", "0000", {}),
        ["commit", commit | {"canvas": 0, "tokens": ["Hi", " there", "!", "\n"], "steps": 3, "settled": [1, 1, 3, 1]}],
        canvas((1, 1), "0-3", ["Bye", "<eos>", "<eos>", "<eos>"], "aaaa", "0000", {}),
        ["commit", commit | {"canvas": 1, "tokens": ["Bye", "<eos>"], "steps": 1, "settled": [1, 1]}],
        ["done", {"v": 1, "n": 0, "steps": [3, 1], "forward_passes": 5, "tokens_per_forward": 1.2, "seconds": 0.04,
                  "finish_reason": "stop", "mode": "diffusion", "note": ""}],
    ]  # fmt: skip
    return {"v": 1, "start": {"v": 1, "model": "nano", "mode": "diffusion", "seed": 1, "steps": 8}, "events": events}


def test_replay_draws_what_the_events_say(page: Any, tmp_path: Path) -> None:
    (tmp_path / "trace.json").write_text(json.dumps(synthetic_trace()))
    view = open_view(page, "Replay")
    opened(view, tmp_path / "trace.json")
    view.locator(".cells .cell").first.wait_for(state="attached")
    page.keyboard.press("Home")
    cells = view.locator(".active .cell")
    assert states(view) == "annn" and cells.first.inner_text() == "Hi"
    page.keyboard.press("ArrowRight")
    assert states(view) == "daaa" and view.locator("img").count() == 0, "a token is text, never markup"
    page.keyboard.press("ArrowRight")
    assert states(view) == "dnad" and view.locator(".active .lost").count() == 1, "what was taken back is marked"
    cells.nth(2).hover()
    runs = view.locator(".runs li").all_inner_texts()
    assert [re.sub(r"\s+", " ", run).strip() for run in runs] == ["1 ?", "2 <img src=x onerror=alert(1)>", "3 !"]
    assert counter(view, "forward passes") == "3"
    page.keyboard.press("End")
    assert shown(view) == "Hi there!\nBye" and counter(view, "tokens per forward") == "1.2"
    assert view.locator(".cell.opens").inner_text() == "Bye", "a divider where the second canvas begins"
    assert "does not say how it was asked for" in view.locator(".branch").inner_text()


def trace_file(path: Path) -> Path:
    """What `run --trace` writes: two steps of a canvas of five positions."""
    from diffusiongemma.diffusion.decoding import Decoding
    from diffusiongemma.events import CanvasStep, Result
    from diffusiongemma.recording import save_trace

    texts = {1: "<eos>", 10: "Cats", 11: " sleep", 12: ".", 20: "qq", 21: " zz"}
    ids = np.array([10, 11, 12, 1, 1], np.int32)
    noisy, accepted = np.array([10, 20, 21, 1, 1], np.int32), np.array([True, False, False, True, True])
    entropy = np.array([0, 0.5, 0.5, 0, 0], np.float32)
    steps = (
        CanvasStep(0, 1, noisy, ids, accepted, entropy, 0.8, 0.01),
        CanvasStep(0, 2, ids, ids, np.ones(5, bool), np.zeros(5, np.float32), 0.6, 0.01),
    )
    result = Result(
        "Cats sleep.", (10, 11, 12, 1), "stop", "diffusion", 7, canvases=1, steps=(2,), forward_passes=2, seconds=0.02,
        logprobs=(-0.1,) * 4, entropies=(0.0,) * 4, settled=(1,) * 4, converged=(True,), trace=steps,
    )  # fmt: skip
    config = Decoding.of(eos_token_ids=(1,), steps=2)
    save_trace(path, result, prompt=STORY, prompt_ids=(2,), model="nano", config=config, text_of=texts.__getitem__)
    return path


def test_replay_opens_trace_files_and_refuses_others(page: Any, tmp_path: Path) -> None:
    view = open_view(page, "Replay")
    opened(view, trace_file(tmp_path / "story.npz"))
    view.locator(".cells .cell").first.wait_for(state="attached")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert counter(view, "step") == "2 / 2" and states(view) == "daadd"
    page.keyboard.press("End")
    assert shown(view) == "Cats sleep." and counter(view, "forward passes") == "2"
    broken = tmp_path / "broken.json"
    broken.write_text('{"v": 1, "events": [')
    opened(view, broken)
    view.get_by_role("status").filter(has_text="not JSON to its end").wait_for()


def test_sudoku_judges_boards_before_and_after(page: Any) -> None:
    view = open_view(page, "Sudoku")
    verdict = view.locator(".board-verdict")
    view.get_by_role("button", name="Unsolvable").click()
    assert "no solution" in verdict.inner_text() and view.get_by_role("button", name="Solve").is_disabled()
    view.get_by_role("button", name="Empty").click()
    assert "more than one" in verdict.inner_text()
    view.get_by_label("Row 1, column 1").press("5")
    view.get_by_label("Row 1, column 1").press("ArrowDown")
    page.keyboard.type("5")
    assert "twice" in verdict.inner_text() and view.locator(".square.wrong").count() == 2

    view.get_by_role("button", name="Easy").click()
    assert "exactly one" in verdict.inner_text()
    puzzle = board(view)
    view.get_by_role("button", name="Solve").click()
    view.get_by_role("status").filter(has_text=re.compile("Solved in|Not solved")).wait_for()
    page.keyboard.press("Home")
    assert all(given in (".", cell) for given, cell in zip(puzzle, board(view), strict=True)), "givens are pinned"
    page.keyboard.press("End")
    digits = [np.array([int(c.replace(".", "0")) for c in cells], np.uint8) for cells in (board(view), puzzle)]
    said = view.get_by_role("status").filter(has_text=re.compile("Solved in|Not solved")).inner_text()
    assert is_valid_solution(*digits) == said.startswith("Solved in")
    check_looks(page)


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (96, 96), "white").save(buffer, "PNG")
    return buffer.getvalue()


def test_what_is_dropped_on_the_board_is_read(page: Any) -> None:
    view = open_view(page, "Sudoku")
    puzzle = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
    dropped(page, puzzle.encode(), "text/plain")
    wait_until(lambda: "".join(board(view)) == puzzle)


@pytest.mark.parametrize(
    "skills, words",
    [
        (["sudoku"], "was not taught to see"),
        (["sudoku", "sudoku-pictures"], "Read from the picture and solved|Not solved"),
    ],
)
def test_what_becomes_of_a_picture_depends_on_what_was_taught(
    browser: Any, tmp_path: Path, skills: Any, words: str
) -> None:
    taught = shutil.copytree(ASSETS / "nano", tmp_path / "taught")
    (taught / "skills.json").write_text(json.dumps(skills))
    with page_server("--model", str(taught)) as address:
        page = browser.new_page(base_url=address)
        view = open_view(page, "Sudoku")
        before = board(view)
        dropped(page, picture(), "image/png")
        view.get_by_role("status").filter(has_text=re.compile(words)).wait_for(timeout=90_000)
        assert (board(view) == before) == (skills == ["sudoku"])
        page.close()


def test_a_picture_of_a_board_is_read_by_a_model_that_sees(browser: Any, tiny_directory: Path) -> None:
    with page_server("--model", str(tiny_directory)) as address:
        page = browser.new_page(base_url=address)
        asked: list[Any] = []
        page.on("request", lambda request: asked.append(request.post_data_json) if request.post_data else None)
        view = open_view(page, "Sudoku")
        dropped(page, picture(), "image/png")
        view.get_by_role("status").filter(has_text="Read from the picture").wait_for()
        (body,) = (one for one in asked if "messages" in one)
        assert body["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
        assert set("".join(board(view))) <= set("123456789.") and "".join(board(view)) != "." * 81
        page.close()


def test_replay_branches_and_exports_one_file(page: Any, browser: Any, tmp_path: Path) -> None:
    watch = open_view(page, "Watch")
    generate(watch)
    text = saved(page, watch.get_by_role("button", name="Save trace"))
    (tmp_path / "trace.json").write_text(text, encoding="utf-8")

    view = open_view(page, "Replay")
    opened(view, tmp_path / "trace.json")
    view.locator(".active .cell").first.wait_for(state="attached")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    original = view.locator(".cells").inner_text()
    view.get_by_label("New seed").fill("99")
    view.get_by_role("button", name="Branch", exact=True).click()
    view.get_by_role("button", name="Step 2, seed 99").wait_for()
    view.get_by_role("status").filter(has_text="Generated ").wait_for()
    branch = json.loads(saved(page, view.get_by_role("button", name="Save trace")))
    frames = [[data for name, data in trace["events"] if name == "canvas"] for trace in (json.loads(text), branch)]
    drawn = [[[frame["at"], frame["tokens"], frame["state"]] for frame in run] for run in frames]
    assert drawn[0][:3] == drawn[1][:3] and drawn[0] != drawn[1], "the same up to the step, not after it"
    check_looks(page)

    view.get_by_role("button", name="Original").click()
    exported = tmp_path / "generation.html"
    exported.write_text(saved(page, view.get_by_role("button", name="Share as a page")), encoding="utf-8")
    alone, problems = browser.new_page(), []
    alone.on("console", lambda message: problems.append(message.text))
    alone.on("pageerror", lambda error: problems.append(str(error)))
    alone.on(
        "request", lambda request: None if request.url.startswith(("file:", "data:")) else problems.append(request.url)
    )
    alone.goto(exported.as_uri())
    alone.locator(".cells .cell").first.wait_for(state="attached")
    alone.keyboard.press("Home")
    alone.keyboard.press("ArrowRight")
    alone.keyboard.press("ArrowRight")
    assert alone.locator(".cells").inner_text() == original
    check_looks(alone)
    alone.close()
    assert problems == []
