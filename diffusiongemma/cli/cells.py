"""The canvas as cells on a screen: how wide each token is drawn, where lines break, which colour it has."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.style import Style
from rich.text import Text

TextOf = Callable[[int], str]

# Entropy in nats up to which a colour is used: from settled to wide open.
PALETTE = ((0.01, "#5faf87"), (0.1, "#87af5f"), (0.5, "#afaf5f"), (1.5, "#d7875f"), (3.0, "#d75f5f"), (99.0, "#af5f87"))
LINE_BREAK, SPACE, END = "↵", "␣", "∎"
_CONTROL_PICTURES = {code: chr(0x2400 + code) for code in range(32)} | {0x7F: "␡"}


def printable(text: str, keep: str = "\n\t") -> str:
    """The text with nothing in it that a terminal would obey: control characters are shown as pictures, invisible
    ones (directions, joiners) left out. Characters in `keep` stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep else _visible(c) for c in text)


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cf":
        return ""
    if category in ("Zl", "Zp"):
        return LINE_BREAK
    if category[0] == "C":
        return _CONTROL_PICTURES.get(ord(character), "\ufffd")
    return character


class State(Enum):
    """What a position of the canvas holds after a step."""

    NOISE = "a random token, drawn anew"
    NEW = "accepted in this step"
    ACCEPTED = "accepted before, and again"
    COMMITTED = "part of the text for good"


@dataclass(frozen=True)
class Cell:
    """One token, or the part of it on one line. `joins`: it goes on with the word before it."""

    text: str
    style: Style
    breaks: bool = False  # a new line begins after it
    joins: bool = False


@dataclass(frozen=True)
class CanvasView:
    """What is drawn of one canvas. Arrays have one entry per position."""

    tokens: Sequence[int]  # held after the step
    shape: Sequence[int]  # tokens that set the width of the cells and break the lines
    states: Sequence[State]
    entropy: np.ndarray  # [C] nats


def states_of(accepted: np.ndarray, before: np.ndarray | None) -> list[State]:
    """States after a step; `before` are the positions that were accepted in the step before."""
    earlier = np.zeros_like(accepted) if before is None else before
    names = {(False, False): State.NOISE, (False, True): State.NOISE, (True, False): State.NEW}
    return [names.get((bool(a), bool(b)), State.ACCEPTED) for a, b in zip(accepted, earlier, strict=True)]


def canvas_cells(view: CanvasView, text_of: TextOf, stop_ids: frozenset[int]) -> Iterator[Cell]:
    """Cells that stay in their place as long as `shape` does; noise is cut to the cell. What follows the first stop
    token is drawn one column wide, and blank once it is settled: it will not be part of the text."""
    ended = False
    for token, shape, state, nats in zip(view.tokens, view.shape, view.states, view.entropy.tolist(), strict=True):
        style = cell_style(state, nats)
        if ended or shape in stop_ids:
            settled = " " if ended else END
            yield Cell(settled if state is not State.NOISE else _cut(text_of(token), 1), style)
            ended = True
        else:
            yield from _token_cells(text_of(token), text_of(shape), style)


def committed_cells(tokens: Iterable[int], text_of: TextOf, stop_ids: frozenset[int]) -> Iterator[Cell]:
    for token in tokens:
        if token not in stop_ids:
            yield from _token_cells(text_of(token), text_of(token), Style.null())


def _token_cells(shown: str, shape: str, style: Style) -> Iterator[Cell]:
    """`shown` in the room that `shape` takes: a cell for each of its lines, the first of which holds all that fits."""
    lines = shape.split("\n")
    for number, line in enumerate(lines):
        last = number == len(lines) - 1
        if last and number and not line:
            return
        text = printable(line, keep="")
        if shown == shape:
            text += "" if last else LINE_BREAK if style.reverse else " "
        else:
            text = _cut("" if number else shown, max(1, cell_len(text)))
        yield Cell(text, style, breaks=not last, joins=not line[:1].isspace())


def _cut(text: str, width: int) -> str:
    """A token in a cell that was not made for it: what fits, spaces only where there is room for them."""
    text = printable(text, keep="").replace(_CONTROL_PICTURES[10], LINE_BREAK)
    if cell_len(text) > width:
        text = text.lstrip() or SPACE
    return set_cell_size(text, width)


def cell_style(state: State, nats: float) -> Style:
    if state is State.COMMITTED:
        return Style.null()
    colour = next(colour for limit, colour in PALETTE if nats <= limit or limit == PALETTE[-1][0])
    return Style(color=colour, dim=state is State.NOISE, bold=state is State.NEW, reverse=state is State.NEW)


def rows(cells: Iterable[Cell], width: int) -> list[Text]:
    """Cells in lines of at most `width` columns, wrapped between words where a word fits on a line."""
    page = _Page(width)
    for word in _words(cells):
        page.place(word)
    return page.rows


class _Page:
    def __init__(self, width: int):
        self.width = max(1, width)
        self.rows, self.column = [Text()], 0

    def place(self, word: list[Cell]) -> None:
        length = sum(cell_len(cell.text) for cell in word)
        if self.column and self.column + length > self.width >= length:
            self._new_row()
        for cell in word:
            self._put(cell)

    def _put(self, cell: Cell) -> None:
        text = set_cell_size(cell.text, min(cell_len(cell.text), self.width))
        if self.column + cell_len(text) > self.width:
            # A line break that no longer fits is not drawn, rather than drawn on a line of its own.
            if cell.breaks and text.strip() in ("", LINE_BREAK):
                return self._new_row()
            self._new_row()
        self.rows[-1].append(text, cell.style)
        self.column += cell_len(text)
        if cell.breaks:
            self._new_row()

    def _new_row(self) -> None:
        self.rows.append(Text())
        self.column = 0


def _words(cells: Iterable[Cell]) -> Iterator[list[Cell]]:
    word: list[Cell] = []
    for cell in cells:
        if word and not cell.joins:
            yield word
            word = []
        word.append(cell)
        if cell.breaks:
            yield word
            word = []
    if word:
        yield word
