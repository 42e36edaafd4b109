"""A generation on the terminal: the canvas settling in place, or the text as it is committed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO

import numpy as np
from rich.box import ROUNDED
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.style import Style
from rich.text import Text

from diffusiongemma.cli.cells import (
    PALETTE,
    CanvasView,
    Cell,
    TextOf,
    canvas_cells,
    committed_cells,
    printable,
    rows,
    states_of,
)
from diffusiongemma.events import CanvasCommitted, CanvasStep, Event, Result, TextDelta

FRAME_SECONDS = 0.05  # at most 20 pictures a second
WIDEST, NARROWEST = 100, 40  # columns
TAIL = 512  # committed tokens drawn before the canvas


def can_watch(console: Console) -> bool:
    """Whether a picture can be redrawn in place there."""
    return console.file.isatty() and not console.is_dumb_terminal


# --- one picture ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """A moment of a generation."""

    step: CanvasStep | None  # None between canvases and in autoregressive mode
    accepted_before: np.ndarray | None = None  # [C] of the step before, in the same canvas
    committed: Sequence[int] = ()
    shape: Sequence[int] | None = None  # tokens that lay out the canvas; None takes the model's present guess
    tokens_per_forward: float = 0.0
    seconds: float = 0.0


@dataclass
class Painter:
    """Draws frames of one request. `steps`: the most steps a canvas can take."""

    text_of: TextOf
    stop_ids: frozenset[int]
    steps: int
    _canvas: int = -1
    _size: tuple[int, int] = (0, 0)  # rows and columns this canvas has needed: the frame grows but does not shrink

    def paint(self, frame: Frame, console: Console, whole: bool = False) -> Group:
        """The picture, cut at its top to the height of the screen unless it is wanted `whole`."""
        width = min(console.width, WIDEST)
        below = status(frame, self.steps, width - len("^C"))  # where the terminal echoes it, it must not wrap
        body = self.body(frame, width - 4)
        if not whole:
            body = body[-max(1, console.height - len(below) - 3) :]
        return Group(self._panel(frame, body, width), *below)

    def body(self, frame: Frame, width: int) -> list[Text]:
        """The text so far with the canvas behind it, in rows of `width` columns."""
        cells = list(committed_cells(frame.committed[-TAIL:], self.text_of, self.stop_ids))
        step = frame.step
        if step is not None:
            shape = shape_of(step) if frame.shape is None else frame.shape
            states = states_of(step.accepted, frame.accepted_before)
            view = CanvasView(step.tokens.tolist(), shape, states, step.entropy)
            cells += canvas_cells(view, self.text_of, self.stop_ids)
        return rows(cells, width)

    def _panel(self, frame: Frame, body: list[Text], width: int) -> Panel:
        tall, wide = self._grown(frame, body)
        return Panel(
            Text("\n").join(body + [Text()] * (tall - len(body))),
            box=ROUNDED,
            width=min(width, max(wide, NARROWEST) + 4),
            title=Text(_title(frame, self.steps), Style(dim=False)),
            title_align="left",
            subtitle=_legend() if frame.step is not None else None,
            subtitle_align="right",
            border_style="dim",
        )

    def _grown(self, frame: Frame, body: list[Text]) -> tuple[int, int]:
        canvas = frame.step.canvas if frame.step is not None else self._canvas
        tall, wide = self._size if canvas == self._canvas else (0, 0)
        self._canvas = canvas
        self._size = max(tall, len(body)), max(wide, max(row.cell_len for row in body))
        return self._size


def shape_of(step: CanvasStep) -> list[int]:
    """What the reply would be now: accepted tokens, and the model's best guess where there is noise."""
    return np.where(step.accepted, step.tokens, step.argmax).tolist()


def status(frame: Frame, steps: int, width: int) -> list[Text]:
    """Where the generation is, in rows of `width` columns that break between facts."""
    step = frame.step
    facts = []
    if step is not None:
        facts = [
            ("noise", f"{noise_level(step, steps):.2f}"),
            ("temperature", f"{step.temperature:.2f}"),
            ("entropy", f"{float(step.entropy.mean()):.3f}"),
            ("accepted", f"{float(step.accepted.mean()):.0%}"),
        ]
    speed = f"{frame.tokens_per_forward:.1f}" if frame.committed else "–"
    facts += [("tokens/forward", speed), ("seconds", f"{frame.seconds:.1f}")]
    return rows((cell for fact in facts for cell in _fact(*fact)), width)


def _fact(name: str, value: str) -> Iterator[Cell]:
    yield Cell(f" {name} ", Style(dim=True))
    yield Cell(f"{value} ", Style.null(), joins=True)


def noise_level(step: CanvasStep, steps: int) -> float:
    """Of the canvas that the step has read: 1 at the first."""
    return 1 - (step.step - 1) / max(1, steps)


def _title(frame: Frame, steps: int) -> str:
    if frame.step is None:
        return f"{len(frame.committed)} tokens"
    return f"canvas {frame.step.canvas + 1} · step {frame.step.step}/{steps}"


def _legend() -> Text:
    legend = Text().append("sure ", "dim")
    for _, colour in PALETTE:
        legend.append("■", Style(color=colour, dim=False))
    return legend.append(" unsure", "dim")


# --- views ----------------------------------------------------------------------------------------------------------


class PlainView:
    """Writes text as it is committed; thoughts dimmed to `thoughts`, if given."""

    paused = 0.0

    def __init__(self, out: IO[str], thoughts: Console | None = None):
        self.out, self.thoughts = out, thoughts
        self._written = ""

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            self._think(event.thinking)
            self._write(event.text)

    def finish(self, result: Result) -> None:
        """What was committed and not yet shown, and the end of the line."""
        if result.text.startswith(self._written):
            self._write(result.text[len(self._written) :])
        if self._written and not self._written.endswith("\n"):
            self._write("\n")

    def interrupt(self) -> None:
        """Ctrl-C where no result is to come: what is shown stays."""
        self._write("\n")

    def _write(self, text: str) -> None:
        self._written += text
        # A pipe gets the text as it is; a terminal must not be sent what it would obey.
        self.out.write(printable(text) if self.out.isatty() else text)
        self.out.flush()

    def _think(self, text: str) -> None:
        if text and self.thoughts is not None:
            self.thoughts.print(Text(printable(text), "dim"), end="", soft_wrap=True)


@dataclass
class LiveView:
    """Redraws the canvas in place while it settles, at most every `FRAME_SECONDS`; the text stays when it is done.

    `delay`: seconds to wait after each step, so that a small fast model can be watched. `paused`: how many of them are
    in the seconds of the result, which is made before the last step is shown.
    """

    console: Console
    painter: Painter
    delay: float = 0.0
    thoughts: Console | None = None
    paused: float = 0.0
    _slept: float = 0.0
    _committed: list[int] = field(default_factory=list)
    _text: str = ""
    _last: CanvasStep | None = None
    _passes: int = 0
    _drawn: float = 0.0

    def __enter__(self) -> LiveView:
        self._started = time.perf_counter()
        self._live = Live(
            console=self.console, transient=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        self._live.__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        self._live.__exit__(None, None, None)

    def show(self, event: Event) -> None:
        if isinstance(event, CanvasStep):
            self.paused = self._slept
            # A canvas after the first is opened by encoding the one before.
            self._passes += 2 if event.step == 1 and event.canvas else 1
            same = self._last is not None and self._last.canvas == event.canvas
            self._draw(event, self._last.accepted if same and self._last is not None else None)
            self._last = event
            self._wait()
        elif isinstance(event, CanvasCommitted):
            self._committed += event.tokens
            self._passes += event.written
            if self._last is None:
                self._passes += 1
                self._draw(None, None)
        elif isinstance(event, TextDelta):
            self._text += event.text

    def interrupt(self) -> None:
        """Ctrl-C where no result is to come: what was committed, to be called after the view is closed."""
        PlainView(self.console.file).show(TextDelta(self._text + "\n" * bool(self._text)))

    def finish(self, result: Result) -> None:
        """The text as plain lines, to be called after the view is closed."""
        plain = PlainView(self.console.file, self.thoughts)
        plain.show(TextDelta("", (result.thinking or "") + "\n" * bool(result.thinking)))
        plain.finish(result)

    def _draw(self, step: CanvasStep | None, before: np.ndarray | None) -> None:
        now = time.perf_counter()
        if now - self._drawn < FRAME_SECONDS:
            return
        self._drawn = now
        speed = len(self._committed) / self._passes if self._passes else 0.0
        frame = Frame(step, before, tuple(self._committed), None, speed, now - self._started - self._slept)
        self._live.update(self.painter.paint(frame, self.console), refresh=True)

    def _wait(self) -> None:
        if self.delay:
            time.sleep(self.delay)
            self._slept += self.delay


View = PlainView | LiveView
