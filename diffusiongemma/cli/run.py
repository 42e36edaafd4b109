"""`diffusiongemma run`: one prompt, one answer."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffusiongemma.cli import options as given
from diffusiongemma.cli.demonstration import PROMPT
from diffusiongemma.cli.running import (
    as_object,
    check_watching,
    checked_text,
    choose_view,
    generate,
    open_model,
    read_prompt,
    read_stdin,
    say,
    stdin_holds_text,
    summary,
    token_text,
)
from diffusiongemma.cli.sudoku import respelt, verdict
from diffusiongemma.errors import InputError

if TYPE_CHECKING:
    from diffusiongemma.api import DiffusionGemma
    from diffusiongemma.engine.request import Request
    from diffusiongemma.events import Result
    from diffusiongemma.tasks.sudoku_reader import Board

Images = Annotated[list[str] | None, typer.Option(metavar="FILE", help="Image before the prompt; may be repeated.")]
Videos = Annotated[list[str] | None, typer.Option(metavar="FILE", help="Video before the prompt; may be repeated.")]


PromptFile = Annotated[Path | None, typer.Option("--file", "-f", metavar="FILE", help="Read the prompt from it.")]
Answers = Annotated[int, typer.Option("--n", metavar="N", help="So many answers, each with the seed after.")]


@given.takes("run")
def run(
    prompt: Annotated[str | None, typer.Argument(metavar="[PROMPT|-]", help="Text, or - for stdin.")] = None,
    file: PromptFile = None,
    model: given.Model = "nano",
    system: given.System = None,
    image: Images = None,
    video: Videos = None,
    think: given.Think = False,
    *,
    options: given.Options,
    no_show_schema: given.NoShowSchema = False,
    n: Answers = 1,
    watch: given.Watch = False,
    delay: given.Delay = None,
    trace: given.Trace = None,
    as_json: given.Json = False,
    quiet: given.Quiet = False,
    verbose: given.Verbose = False,
    loading: given.Loading,
) -> None:
    """Generate from one prompt.

    Without a prompt what is piped in is taken, and with nothing piped in a sudoku to show the model at work.
    """
    text, demonstration = _prompt(prompt, file, pictured=bool(image or video))
    check_watching(watch and not as_json, delay)
    _check_several(n, trace)
    loaded = open_model(model, loading, quiet)
    _check_sight(loaded, model, image, video, quiet)
    text = text or (_request_of_pictures(loaded) if image else "")
    if loaded.about and not quiet and sys.stderr.isatty():
        say(loaded.about)
    if think and loaded.skills and "thinking" not in loaded.skills and not quiet:
        say(f"{model} was not taught to think first: its answer may be worse for it", "yellow")
    board = None if image or video or think else _sudoku(loaded, text, options)
    if board is not None:
        text, options = respelt(loaded, board, text, options, quiet)
    elif demonstration:  # of a model that was not taught it: the verdict says so
        from diffusiongemma.tasks.sudoku_reader import read_board

        board = read_board(text)
    request = loaded.request(
        _messages(text, system, image or [], video or []),
        think=think,
        trace=trace is not None,
        frames=watch and not as_json,
        show_schema=not no_show_schema,
        **options,
    )
    if demonstration and not quiet:
        say(text + "\n")
    answers = Answering(loaded, model, board, watch and not as_json, delay, think, as_json, quiet, verbose)
    for index in range(n):
        one = request.with_seed((request.config.seed + index) % 2**64) if index else request
        result = answers.ask(one)
        if trace is not None:
            _save(trace, result, text, one, loaded, model)
        if result.finish_reason == "cancelled":
            raise typer.Exit(given.INTERRUPTED)


@dataclass
class Answering:
    """How answers are shown, and what is said of them."""

    model: DiffusionGemma
    name: str
    board: Board | None
    watch: bool
    delay: float | None
    think: bool
    as_json: bool
    quiet: bool
    verbose: bool

    def ask(self, request: Request) -> Result:
        view = choose_view(self.model, request.config, watch=self.watch, thoughts=self.think, delay=self.delay)
        result = generate(self.model, request, None if self.as_json else view)
        result = replace(result, seconds=result.seconds - view.paused)
        for warning in result.warnings if not self.quiet else ():
            say(f"warning: {warning}")
        if self.as_json:
            print(json.dumps(as_object(result, self.think), ensure_ascii=False))
        elif not self.quiet:
            self._say(request, result, view.paused)
        return result

    def _say(self, request: Request, result: Result, paused: float) -> None:
        if result.note:
            say(result.note)
        say(summary(result, paused))
        if self.verbose:
            steps = ", ".join(map(str, result.steps)) or "–"
            say(f"{self.name} on {self.model.placement or self.model.device} · seed {result.seed} · mode {result.mode}")
            say(f"{request.config.sampler} · {result.prompt_tokens} prompt tokens · steps of each canvas: {steps}")
        if self.board is not None and result.finish_reason != "cancelled":
            say(verdict(self.board, result.text), "")


def _check_several(n: int, trace: Path | None) -> None:
    if n < 1:
        raise InputError("give a whole number of at least 1", option="n", got=n)
    if n > 1 and trace is not None:
        raise InputError("a trace is of one answer: leave it out, or `n`", option="trace")
    if trace is not None:
        from diffusiongemma.recording import check_writable

        check_writable(trace)


def _check_sight(
    model: DiffusionGemma, name: str, image: list[str] | None, video: list[str] | None, quiet: bool
) -> None:
    from diffusiongemma.weights.skills import sees, sees_sudokus_alone

    if (image or video) and not sees(model.skills):
        raise InputError(f"{name} was never taught to see: leave it out", option="images" if image else "videos")
    if image and sees_sudokus_alone(model.skills) and not quiet:
        say(f"{name} was taught square pictures of one sudoku: whatever else it sees, it makes something up", "yellow")


def _request_of_pictures(model: DiffusionGemma) -> str:
    """What a model that was taught pictures of sudokus alone is asked, where nothing else is."""
    from diffusiongemma.tasks.sudoku import PROMPT
    from diffusiongemma.weights.skills import sees_sudokus_alone

    return PROMPT.strip() if sees_sudokus_alone(model.skills) else ""


def _prompt(argument: str | None, file: Path | None, pictured: bool) -> tuple[str, bool]:
    """The prompt, and whether it is the demonstration. Where something is `pictured`, none is needed."""
    if file is not None:
        if argument is not None:
            raise InputError("the prompt is given already: leave one of them out", option="file")
        return checked_text(read_prompt(file), f"prompt in {file}"), False
    if argument == "-" or (argument is None and stdin_holds_text()):
        return checked_text(read_stdin(), "prompt on stdin"), False
    if argument is None:
        return ("", False) if pictured else (PROMPT, True)
    return checked_text(argument, "prompt"), False


def _sudoku(model: DiffusionGemma, text: str, options: given.Options) -> Board | None:
    """The board of a prompt that is a sudoku, for a model that was taught them, where nothing else is asked for."""
    from diffusiongemma.request_options import FORMS, WORDS
    from diffusiongemma.tasks.sudoku_reader import sudoku_of

    if "sudoku" not in model.skills or any(name in options for name in (*FORMS, *WORDS)):
        return None
    return sudoku_of(text)


def _messages(text: str, system: str | None, images: list[str], videos: list[str]) -> list[dict[str, Any]]:
    media = [{"type": "image", "image": path} for path in images]
    media += [{"type": "video", "video": path} for path in videos]
    content: Any = [*media, *([{"type": "text", "text": text}] if text else [])] if media else text
    leading = [{"role": "system", "content": checked_text(system, "system message")}] if system is not None else []
    return [*leading, {"role": "user", "content": content}]


def _save(path: Path, result: Result, text: str, request: Request, model: DiffusionGemma, name: str) -> None:
    from diffusiongemma.recording import save_trace

    save_trace(
        path,
        result,
        prompt=text,
        prompt_ids=request.prompt.ids,
        model=name,
        config=request.config,
        text_of=token_text(model.tokenizer),
        complete=request.plain,
    )
