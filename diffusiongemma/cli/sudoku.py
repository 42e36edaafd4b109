"""`diffusiongemma sudoku`: puzzles in any spelling, solved on the canvas and judged."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffusiongemma.cli import options as given
from diffusiongemma.cli.running import (
    as_object,
    check_watching,
    choose_view,
    generate,
    open_model,
    read_stdin,
    say,
    stdin_holds_text,
    summary,
)
from diffusiongemma.errors import InputError

if TYPE_CHECKING:
    from diffusiongemma.api import DiffusionGemma
    from diffusiongemma.events import Result
    from diffusiongemma.tasks.sudoku_reader import Board

NOT_SOLVED = 1  # exit code
HARD = 30  # givens; a board with fewer is solved by small models about every other time
ROOM = 96  # tokens: 81 digits, 8 line ends, and the end
SOLVED = "✓ solved: every row, column and box holds 1 to 9, and the givens are kept"
FAILED = "✗ not solved"
PASTE = "Type or paste a sudoku: nine lines, blanks as dots, zeros or what you like."


@given.takes("sudoku")
def sudoku(
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE|-|81 CELLS]", help="Puzzles in any spelling; - for stdin.")
    ] = None,
    model: given.Model = "nano",
    *,
    options: given.Options,
    watch: given.Watch = False,
    delay: given.Delay = None,
    as_json: given.Json = False,
    loading: given.Loading,
) -> None:
    """Solve sudoku puzzles and say whether the answer is right.

    Without FILE a puzzle is read from the terminal or from what is piped in. The givens are held.
    Exit code 1: not solved.
    """
    check_watching(watch and not as_json, delay)
    boards = _boards(file)
    loaded = open_model(model, loading)
    if "sudoku" not in loaded.skills:
        say(f"{model} was not taught sudoku as far as it says: nano was", "yellow")
    solver = Solver(loaded, options, watch and not as_json, delay, as_json)
    # All of them are tried, whatever becomes of the first.
    solved = [solver.solve(board) for board in boards]
    if not all(solved):
        raise typer.Exit(NOT_SOLVED)


def _boards(file: str | None) -> Iterator[Board]:
    """The puzzles asked for; the first is read at once. Raises `InputError` where there is none."""
    from itertools import chain

    from diffusiongemma.tasks.sudoku_reader import read_boards

    boards = read_boards(_text(file))
    first = next(boards, None)
    if first is None:
        raise InputError("no sudoku found: give nine lines of nine cells, or 81 in one line", option="file", got=file)
    return chain([first], boards)


def _text(file: str | None) -> str:
    from diffusiongemma.cli.texts import read_text
    from diffusiongemma.tasks.sudoku_reader import cells_in, read_board

    if file is None and sys.stdin is not None and sys.stdin.isatty():
        return _typed()
    if file == "-" or (file is None and stdin_holds_text()):
        return read_stdin()
    if file is None:
        from diffusiongemma.cli.demonstration import PUZZLE

        return PUZZLE
    if not Path(file).exists():
        if read_board(file) is not None:
            return file
        if (cells := cells_in(file)) >= 9:
            raise InputError(f"neither a file nor a sudoku: it has {cells} cells, and a board has 81", option="file")
    return read_text(file, in_place=False)


def _typed() -> str:
    """What is typed, up to the end of the first board or of the input."""
    from diffusiongemma.tasks.sudoku_reader import read_board

    say(PASTE)
    lines: list[str] = []
    for line in sys.stdin:
        lines.append(line)
        if read_board("".join(lines)) is not None:
            break
    return "".join(lines)


def held(model: DiffusionGemma, board: Board) -> dict[str, Any]:
    """The options that hold the givens: pins where every cell is one token, else a form of the answer."""
    from diffusiongemma.tasks.sudoku import format_puzzle, format_solution

    shape = format_solution(board)  # type: ignore[arg-type]
    ids = model.tokenizer.encode(shape, add_special_tokens=False)
    texts = [model.tokenizer.decode([token]) for token in ids]
    if texts == list(shape):
        return {"pins": {place: token for place, token in enumerate(ids) if shape[place] != "0"}}
    cells = format_puzzle(board).partition("\n")[2]  # type: ignore[arg-type]
    return {"regex": cells.replace(".", "[1-9]")}


def respelt(
    model: DiffusionGemma, board: Board, text: str, options: given.Options, quiet: bool = False
) -> tuple[str, given.Options]:
    """The prompt as the model was taught it, its givens held; as it was, where it is spelt so already."""
    from diffusiongemma.tasks.sudoku import format_puzzle

    prompt = format_puzzle(board)  # type: ignore[arg-type]
    if text.strip() == prompt:
        return text, options
    if not quiet:
        say(f"read as a sudoku with {sum(map(bool, board))} givens, which are held")
    return prompt, {**options, **held(model, board)}


def verdict(board: Board, answer: str) -> str:
    """One line on the answer to a puzzle."""
    from diffusiongemma.tasks.sudoku import parse_solution
    from diffusiongemma.tasks.sudoku_reader import about_answer

    found = parse_solution(answer)
    wrong = about_answer(board, None if found is None else found.tolist())
    if not wrong:
        return SOLVED
    givens = sum(map(bool, board))
    hard = f"{givens} givens are few for a small model, and " if givens < HARD else ""
    return f"{FAILED}: {wrong}; {hard}another --seed may do better"


@dataclass
class Solver:
    model: DiffusionGemma
    options: given.Options
    watch: bool
    delay: float | None
    as_json: bool

    def solve(self, board: Board) -> bool:
        """Ask for one puzzle, print the answer and the verdict -> whether it is solved."""
        from diffusiongemma.tasks.sudoku_reader import about_puzzle

        about = about_puzzle(board)
        if about.startswith("no solution"):
            self._print(board, f"{FAILED}: {about}", {})
            return False
        if about and not self.as_json:
            say(about)
        result, paused = self._ask(board)
        told = verdict(board, result.text)
        self._print(board, told, as_object(result))
        if result.finish_reason == "cancelled":
            raise typer.Exit(given.INTERRUPTED)
        if not self.as_json:
            say(summary(result, paused))
        return told == SOLVED

    def _ask(self, board: Board) -> tuple[Result, float]:
        """The answer, and the seconds of it that were spent on being watched."""
        from diffusiongemma.tasks.sudoku import format_puzzle

        prompt = format_puzzle(board)  # type: ignore[arg-type]
        room = max(ROOM, self.model.generation.max_new_tokens)
        asked = {**self.options, **held(self.model, board), "max_new_tokens": room}
        request = self.model.request(prompt, frames=self.watch, **asked)
        view = choose_view(self.model, request.config, watch=self.watch, thoughts=False, delay=self.delay)
        result = generate(self.model, request, None if self.as_json else view)
        return replace(result, seconds=result.seconds - view.paused), view.paused

    def _print(self, board: Board, told: str, result: dict[str, Any]) -> None:
        if not self.as_json:
            say(told, "green" if told == SOLVED else "red")
            return
        puzzle = "".join(map(str, board))
        print(json.dumps({"puzzle": puzzle, "solved": told == SOLVED, "verdict": told, **result}, ensure_ascii=False))
