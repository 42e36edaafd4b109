"""The canvas on the terminal: cells keep their place, show what is there and nothing else, and cost little."""

from __future__ import annotations

import io
import re
import time
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.style import Style

import diffusiongemma as dg
from diffusiongemma.cli import live
from diffusiongemma.cli.cells import (
    END,
    LINE_BREAK,
    SPACE,
    CanvasView,
    State,
    canvas_cells,
    cell_style,
    committed_cells,
    printable,
    rows,
    states_of,
)
from diffusiongemma.cli.live import Frame, LiveView, Painter, PlainView, can_watch, status
from diffusiongemma.cli.running import token_text
from diffusiongemma.events import CanvasCommitted, CanvasStep, Finished, Result, TextDelta

WORDS = [
    "<eos>",
    "Hello",
    ",",
    " wide",
    " world",
    "\n",
    "漢字",
    ":\n  ",
    " the",
    "\x1b[31m",
    "5",
    "  ",
    "\u202e",
    "x" * 30,
]
EOS, HELLO, COMMA, WIDE, WORLD, NEWLINE, KANJI, INDENT, THE, ESCAPE, FIVE, SPACES, BIDI, LONG = range(len(WORDS))
STOP = frozenset({EOS})
text_of = WORDS.__getitem__


def view(tokens: Sequence[int], accepted: Sequence[bool], shape: Sequence[int] | None = None) -> CanvasView:
    states = states_of(np.array(accepted), np.array(accepted))
    return CanvasView(tokens, tokens if shape is None else shape, states, np.zeros(len(tokens)))


def drawn(canvas: CanvasView, width: int = 80) -> list[str]:
    return [row.plain for row in rows(canvas_cells(canvas, text_of, STOP), width)]


def a_step(tokens: Sequence[int], accepted: Sequence[bool], argmax: Sequence[int] | None = None, **place) -> CanvasStep:
    arrays = np.array(tokens, np.int32), np.array(tokens if argmax is None else argmax, np.int32), np.array(accepted)
    place = dict(canvas=0, step=1, temperature=0.7, seconds=0.01) | place
    return CanvasStep(
        tokens=arrays[0], argmax=arrays[1], accepted=arrays[2], entropy=np.full(len(tokens), 0.5, np.float32), **place
    )


def a_console(width: int = 80, **wanted) -> Console:
    # One colour system in all tests: rich remembers the codes of a style from its first use.
    fixed = dict(file=io.StringIO(), force_terminal=True, height=30, highlight=False, color_system="256")
    return Console(width=width, **fixed, **wanted)


# --- text that a terminal does not obey -----------------------------------------------------------------------------


@given(st.text())
def test_nothing_printable_moves_the_cursor(text: str):
    shown = printable(text)
    assert all(c in "\n\t" or unicodedata.category(c)[0] != "C" or c == "\ufffd" for c in shown)
    assert printable(shown) == shown


def test_ordinary_text_is_left_alone():
    for text in ("Grüße, 漢字 “quoted” €\n\tend", "e\u0301", "plain"):
        assert printable(text) == text
    assert printable("\x1b[2J\x7f\u202e\u200d") == "␛[2J␡"


# --- cells ----------------------------------------------------------------------------------------------------------


def test_settled_tokens_are_their_text():
    assert drawn(view([HELLO, COMMA, WIDE, WORLD, NEWLINE, KANJI], [True] * 6)) == ["Hello, wide world ", "漢字"]
    assert drawn(view([HELLO, INDENT, FIVE], [True] * 3)) == ["Hello: ", "  5"]


def test_a_cell_keeps_its_width_whatever_it_holds():
    shape = [HELLO, COMMA, WIDE, NEWLINE, KANJI]
    for noise in (THE, LONG, ESCAPE, SPACES, KANJI, EOS, NEWLINE, BIDI):
        lines = drawn(view([noise] * 5, [False] * 5, shape))
        assert [cell_len(line) for line in lines] == [len("Hello") + 1 + len(" wide") + 1, 4]


def test_noise_is_the_beginning_of_its_own_token():
    lines = drawn(view([THE, THE, LONG, SPACES, ESCAPE], [False] * 5, [HELLO, FIVE, COMMA, FIVE, FIVE]))
    assert lines == [" the t" + "x" + SPACE + "␛"]


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.lists(st.tuples(st.integers(0, LONG), st.integers(0, LONG), st.booleans()), min_size=1, max_size=60),
    width=st.integers(1, 50),
)
def test_no_row_is_too_wide_and_no_cell_is_lost(tokens, width):
    shown, shape, accepted = zip(*tokens, strict=True)
    cells = list(canvas_cells(view(shown, accepted, shape), text_of, STOP))
    page = rows(cells, width)
    assert all(row.cell_len <= width for row in page)
    if width >= 30:  # everything fits
        # A line break that comes when the row is full is not drawn.
        visible = lambda texts: re.sub(f"[ {LINE_BREAK}]", "", "".join(texts))  # noqa: E731
        assert visible(row.plain for row in page) == visible(cell.text for cell in cells)
    allowed = "".join(map(printable, WORDS)) + SPACE + END + LINE_BREAK + " ␊"
    assert set("".join(row.plain for row in page)) <= set(allowed)


def test_rows_break_between_words():
    tokens = [HELLO, COMMA, WIDE, WORLD]
    assert drawn(view(tokens, [True] * 4), width=11) == ["Hello, wide", " world"]
    assert drawn(view(tokens, [True] * 4), width=8) == ["Hello,", " wide", " world"]
    assert drawn(view([LONG], [True]), width=8) == ["x" * 8]


def test_what_follows_the_end_vanishes_as_it_settles():
    tokens = [HELLO, EOS, THE, FIVE, EOS]
    assert drawn(view(tokens, [True] * 5)) == ["Hello" + END + "   "]
    noisy = drawn(view(tokens, [True, False, False, False, True], [HELLO, EOS, EOS, EOS, EOS]))
    assert noisy == ["Hello" + "<t5" + " "]


def test_committed_text_has_no_stop_token():
    cells = committed_cells([HELLO, NEWLINE, FIVE, EOS], text_of, STOP)
    assert [row.plain for row in rows(cells, 80)] == ["Hello ", "5"]
    assert all(cell.style == Style.null() for cell in committed_cells([HELLO], text_of, STOP))


def test_states_and_their_styles():
    before, now = np.array([False, False, True, True]), np.array([False, True, False, True])
    assert states_of(now, before) == [State.NOISE, State.NEW, State.NOISE, State.ACCEPTED]
    assert states_of(now, None)[3] is State.NEW
    styles = {state: cell_style(state, 0.5) for state in State}
    assert styles[State.NOISE].dim and styles[State.NEW].bold and not styles[State.ACCEPTED].bold
    assert styles[State.COMMITTED] == Style.null()
    colours = [cell_style(State.ACCEPTED, nats).color for nats in (0, 0.05, 0.3, 1, 2, 5, 12.5)]
    assert len({colour.name for colour in colours if colour}) == 6 and colours[-1] == colours[-2]


# --- the picture ----------------------------------------------------------------------------------------------------


def picture(frame: Frame, width: int = 80, painter: Painter | None = None, **wanted) -> str:
    console = a_console(width, **wanted)
    console.print((painter or Painter(text_of, STOP, 48)).paint(frame, console))
    return console.file.getvalue()


def plain(frame: Frame, width: int = 80, **wanted) -> list[str]:
    return re.sub(r"\x1b\[[\d;]*m", "", picture(frame, width, **wanted)).splitlines()


def test_the_status_tells_where_it_is():
    step = a_step([HELLO, THE, FIVE, FIVE], [True, False, False, False], step=13, canvas=1, temperature=0.7)
    lines = plain(Frame(step, None, [FIVE], None, 2.54, 1.23), width=100)
    assert "canvas 2 · step 13/48" in lines[0]
    words = " ".join(lines[-1].split())
    assert words == "noise 0.75 temperature 0.70 entropy 0.500 accepted 25% tokens/forward 2.5 seconds 1.2"


def test_narrow_terminals_wrap():
    frame = Frame(a_step([HELLO, COMMA, WIDE, WORLD], [True] * 4))
    lines = plain(frame, 24)
    assert all(cell_len(line) <= 24 for line in lines)
    facts = " ".join(line.strip() for line in status_lines(frame, 24))
    assert " ".join(facts.split()) == " ".join(status_lines(frame, 200)[0].split())
    assert plain(frame, 5)  # nothing fits, nothing breaks


def status_lines(frame: Frame, width: int) -> list[str]:
    return [row.plain for row in status(frame, 48, width)]


def test_a_tall_canvas_is_cut_to_the_screen():
    frame = Frame(a_step([NEWLINE] * 100 + [FIVE], [True] * 101))
    assert 28 <= len(plain(frame)) <= 30 and "5" in plain(frame)[-4]
    console = a_console()
    console.print(Painter(text_of, STOP, 48).paint(frame, console, whole=True))
    assert console.file.getvalue().count("\n") == 105


def test_the_frame_does_not_jump_within_a_canvas():
    painter = Painter(text_of, STOP, 48)
    long, short = [HELLO, NEWLINE] * 4 + [WIDE] * 12, [FIVE] + [EOS] * 19
    heights = []
    for number, (canvas, shape) in enumerate([(0, long), (0, short), (1, short)]):
        step = a_step(shape, [True] * 20, canvas=canvas, step=number + 1)
        heights.append((len(plain(Frame(step), painter=painter)), len(plain(Frame(step), painter=painter)[0])))
    assert heights[0] == heights[1] and heights[2] < heights[1]


def test_no_colour_where_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch):
    frame = Frame(a_step([HELLO, THE], [True, False], [HELLO, HELLO]))
    assert "38;" in picture(frame)
    monkeypatch.setenv("NO_COLOR", "1")
    without = picture(frame)
    assert "38;" not in without and "\x1b[2m" in without  # states can still be told apart


# --- views ----------------------------------------------------------------------------------------------------------


def test_only_terminals_are_watched(monkeypatch: pytest.MonkeyPatch):
    assert not can_watch(Console(file=io.StringIO(), force_terminal=True))  # FORCE_COLOR is no terminal
    tty = io.StringIO()
    tty.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setenv("TERM", "xterm")
    assert can_watch(Console(file=tty, force_terminal=True))
    monkeypatch.setenv("TERM", "dumb")
    assert not can_watch(Console(file=tty, force_terminal=True))


class Recorder(Painter):
    """Keeps the frames that were drawn."""

    def paint(self, frame, console, whole=False):
        self.__dict__.setdefault("frames", []).append(frame)
        return super().paint(frame, console, whole)


def test_every_step_is_drawn_with_the_counts_of_the_result(tiny_directory: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live, "FRAME_SECONDS", 0.0)
    model = dg.load(tiny_directory)
    painter, console = Recorder(token_text(model.tokenizer), frozenset({1, 5}), 8), a_console()
    with LiveView(console, painter) as watched:
        for event in model.stream("hello", max_new_tokens=48):
            watched.show(event)
    frames, result = painter.__dict__["frames"], event.result
    assert [(f.step.canvas, f.step.step) for f in frames] == [(c, s) for c in range(3) for s in range(1, 9)]
    assert list(frames[-1].committed) == list(result.tokens[:32])
    assert frames[-1].tokens_per_forward == pytest.approx(32 / result.forward_passes)
    np.testing.assert_array_equal(frames[5].accepted_before, frames[4].step.accepted)
    assert frames[8].accepted_before is None

    console.file.truncate(0), console.file.seek(0)
    watched.finish(result)
    assert console.file.getvalue() == result.text + "\n"


def test_autoregressive_text_is_shown_as_it_grows(tiny_directory: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live, "FRAME_SECONDS", 0.0)
    model = dg.load(tiny_directory)
    painter = Recorder(token_text(model.tokenizer), frozenset({1, 5}), 8)
    with LiveView(a_console(), painter) as watched:
        for event in model.stream("hello", mode="ar", max_new_tokens=5):
            watched.show(event)
    assert [len(frame.committed) for frame in painter.__dict__["frames"]] == [1, 2, 3, 4, 5]
    assert "5 tokens" in plain(painter.__dict__["frames"][-1], painter=painter)[0]


def test_at_most_twenty_pictures_a_second_and_little_time_for_them():
    step, painter = a_step([HELLO, THE] * 128, [True, False] * 128), Recorder(text_of, STOP, 48)
    started = time.perf_counter()
    with LiveView(a_console(100), painter) as watched:
        for _ in range(20_000):
            watched.show(step)
            if time.perf_counter() - started > 0.5:
                break
    seconds = time.perf_counter() - started
    frames = len(painter.__dict__["frames"])
    assert 1 <= frames <= seconds / live.FRAME_SECONDS + 1

    started = time.process_time()
    console = a_console(100)
    for _ in range(20):
        console.print(Painter(text_of, STOP, 48).paint(Frame(step), console))
    assert (time.process_time() - started) / 20 < live.FRAME_SECONDS  # 5 ms here, for a canvas of 256


def test_the_cursor_comes_back_even_after_an_error():
    console = a_console()
    with pytest.raises(KeyboardInterrupt), LiveView(console, Painter(text_of, STOP, 48)) as watched:
        watched.show(a_step([HELLO], [True]))
        raise KeyboardInterrupt
    written = console.file.getvalue()
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l") and "\x1b[?1049h" not in written


def test_delays_are_counted_as_pauses(monkeypatch: pytest.MonkeyPatch):
    slept = []
    monkeypatch.setattr(live.time, "sleep", slept.append)
    with LiveView(a_console(), Painter(text_of, STOP, 48), delay=0.25) as watched:
        for number in (1, 2, 3):
            watched.show(a_step([HELLO], [True], step=number))
    assert slept == [0.25] * 3 and watched.paused == 0.5  # a result is made before its last step is shown


def test_seconds_without_pauses_are_those_of_the_model(tiny_directory: Path):
    model = dg.load(tiny_directory)
    with LiveView(a_console(), Painter(token_text(model.tokenizer), STOP, 8), delay=0.03) as watched:
        for event in model.stream("hello", trace=True):
            watched.show(event)
    computing = sum(step.seconds for step in event.result.trace)
    assert watched.paused == pytest.approx(0.03 * 15)
    assert computing < event.result.seconds - watched.paused < computing + 0.4


def a_result(text: str, thinking: str | None = None) -> Result:
    counts = dict(canvases=1, steps=(3,), forward_passes=3, seconds=0.1)
    return Result(text, (1, 2), "stop", "diffusion", 0, **counts, thinking=thinking)


def test_plain_text_is_written_once_and_ends_its_line():
    out, thoughts = io.StringIO(), io.StringIO()
    writer = PlainView(out, Console(file=thoughts))
    for event in (TextDelta("", "hm"), TextDelta("Hel"), CanvasCommitted(0, (1,), 3, True), TextDelta("lo\x1b")):
        writer.show(event)
    assert (out.getvalue(), thoughts.getvalue()) == ("Hello\x1b", "hm")  # a pipe gets the text as it is
    writer.finish(a_result("Hello\x1b, world"))
    writer.show(Finished(a_result("")))
    assert out.getvalue() == "Hello\x1b, world\n"

    empty = io.StringIO()
    PlainView(empty).finish(a_result(""))
    assert empty.getvalue() == ""


def test_a_terminal_gets_no_control_characters():
    out = io.StringIO()
    out.isatty = lambda: True  # type: ignore[method-assign]
    PlainView(out).finish(a_result("a\x1b[2Jb\n"))
    assert out.getvalue() == "a␛[2Jb\n"


def test_interrupting_a_view_leaves_what_was_committed():
    console = a_console()
    with LiveView(console, Painter(text_of, STOP, 48)) as watched:
        watched.show(TextDelta("Hello,"))
    console.file.truncate(0), console.file.seek(0)
    watched.interrupt()
    assert console.file.getvalue() == "Hello,\n"
    watched.finish(a_result("Hello", thinking="hm"))
    assert console.file.getvalue() == "Hello,\nHello\n"
