"""`diffusiongemma replay`: a recorded generation, played again without its model."""

from __future__ import annotations

import io
import json
import math
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffusiongemma.cli import options as given
from diffusiongemma.cli.running import say, summary
from diffusiongemma.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from diffusiongemma.cli.live import Frame, Painter
    from diffusiongemma.events import CanvasStep
    from diffusiongemma.recording import Recording

SHORTEST_STEP, LONGEST_SHOW = 0.08, 30.0  # seconds, at --speed 1


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `run --trace FILE` wrote.")],
    speed: Annotated[float, typer.Option(metavar="X", help="2 plays twice as fast.")] = 1.0,
    canvas: Annotated[int | None, typer.Option(metavar="K", help="Only this canvas; 1 is the first.")] = None,
    step: Annotated[int | None, typer.Option(metavar="N", help="Show one step and stop; 1 is the first.")] = None,
    svg: Annotated[Path | None, typer.Option(metavar="OUT", help="Draw four of the steps as an SVG file.")] = None,
    gif: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Draw the first canvas settling as a GIF file.")
    ] = None,
    as_json: given.Json = False,
) -> None:
    """Play a trace.

    Steps take as long as they took, but at least 0.08 s each and 30 s in all, divided by the speed.
    """
    from rich.console import Console

    from diffusiongemma.cli.live import can_watch
    from diffusiongemma.recording import load_trace

    if not 0 < speed <= 1000:
        raise InputError("give a number above 0, up to 1000", option="speed", got=speed)
    recording = load_trace(file)
    scenes = list(_scenes(recording, canvas, step))
    console = Console(highlight=False)
    if as_json:
        print(json.dumps(as_object(recording), ensure_ascii=False))
    elif gif is not None:
        _draw_moving(recording, gif)
    elif svg is not None:
        _draw(recording, scenes, svg)
    elif step is not None:
        console.print(_painter(recording).paint(scenes[0], console, whole=True))
    elif can_watch(console):
        _play(recording, scenes, console, speed)
    else:
        _print_last(recording, scenes)


def _painter(recording: Recording) -> Painter:
    from diffusiongemma.cli.live import Painter

    return Painter(lambda token: recording.texts.get(token, "\ufffd"), recording.stop_ids, recording.steps)


def _scenes(recording: Recording, canvas: int | None, step: int | None) -> Iterator[Frame]:
    """Frames of all steps or of those chosen. Raises `InputError` where there is no such canvas or step."""
    frames = list(_frames(recording))
    if canvas is None and step is None:
        return iter(frames)
    if not recording.result.trace:
        raise InputError("this trace has no steps, it was decoded token by token: leave out `step` and `canvas`")
    wanted = canvas if canvas is not None else 1
    chosen = [f for f in frames if f.step is not None and f.step.canvas == wanted - 1]
    if not chosen:
        raise InputError(f"no canvas {wanted}: the trace has {1 + recording.result.trace[-1].canvas}, 1 is the first")
    if step is None:
        return iter(chosen)
    if not 1 <= step <= len(chosen):
        raise InputError(f"no step {step}: canvas {wanted} has {len(chosen)}, 1 is the first")
    return iter([chosen[step - 1]])


def _frames(recording: Recording) -> Iterator[Frame]:
    """Every step as it would have been drawn, laid out from the start as its canvas ended."""
    from diffusiongemma.cli.live import Frame

    result = recording.result
    last: dict[int, CanvasStep] = {step.canvas: step for step in result.trace}
    committed, passes, seconds = 0, 0, 0.0
    before: CanvasStep | None = None
    for step in result.trace:
        if before is not None and before.canvas != step.canvas:
            committed, passes, before = committed + len(before.tokens), passes + 1, None
        passes, seconds = passes + 1, seconds + step.seconds
        yield Frame(
            step,
            before.accepted if before is not None else None,
            result.tokens[:committed],
            last[step.canvas].argmax.tolist(),
            committed / passes,
            seconds,
        )
        before = step
    if not result.trace:
        for count in range(1, len(result.tokens) + 1):
            yield Frame(None, None, result.tokens[:count], None, 1.0, result.seconds * count / len(result.tokens))


def _draw(recording: Recording, scenes: list[Frame], path: Path) -> None:
    """The first, the last and two scenes between, side by side in pairs."""
    from rich.columns import Columns
    from rich.console import Console

    from diffusiongemma.files import write_whole

    painter = _painter(recording)
    chosen = [scenes[round(i * (len(scenes) - 1) / 3)] for i in range(4)]
    sheet = Console(record=True, file=io.StringIO(), width=100, force_terminal=True, color_system="truecolor")
    half = Console(file=io.StringIO(), width=49, force_terminal=True, color_system="truecolor")
    sheet.print(Columns([painter.paint(scene, half, whole=True) for scene in chosen], width=49))
    try:
        write_whole(path, sheet.export_svg(title=f"{recording.model}, seed {recording.result.seed}"))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def _draw_moving(recording: Recording, path: Path) -> None:
    """Steps of the first canvas, and what it became. Raises `InputError` where there are none."""
    from diffusiongemma.files import write_whole
    from diffusiongemma.pictures import Frame as Picture
    from diffusiongemma.pictures import animated

    steps = [step for step in recording.result.trace if step.canvas == 0]
    if not steps:
        raise InputError("this trace has no steps, it was decoded token by token", option="gif")
    ended = [token for token in recording.result.tokens[: len(steps[0].tokens)] if token not in recording.stop_ids]
    pictures, accepted = [], steps[0].accepted & False
    for step in steps:
        texts = [recording.texts.get(token, "") for token in step.tokens.tolist()]
        unsure = [min(1.0, math.log2(1 + 8 * nats) / 5.8) for nats in step.entropy.tolist()]
        pictures.append(Picture(texts, (~step.accepted).tolist(), (step.accepted & ~accepted).tolist(), unsure))
        accepted = accepted | step.accepted
    try:
        write_whole(path, animated(pictures, [recording.texts.get(token, "") for token in ended]))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def _play(recording: Recording, scenes: list[Frame], console: Console, speed: float) -> None:
    from rich.live import Live

    say(recording.prompt + "\n")
    painter = _painter(recording)
    try:
        with Live(console=console, transient=True, auto_refresh=False) as live:
            for scene, pause in zip(scenes, _pauses(scenes, speed), strict=True):
                live.update(painter.paint(scene, console), refresh=True)
                time.sleep(pause)
    finally:
        _print_text(recording)
        say(_line(recording))


def _pauses(scenes: list[Frame], speed: float) -> list[float]:
    """Seconds to show each scene."""
    starts = [0.0, *(scene.seconds for scene in scenes)]
    pauses = [max(b - a, SHORTEST_STEP) for a, b in pairwise(starts)]
    scale = min(1.0, LONGEST_SHOW / max(sum(pauses), SHORTEST_STEP)) / speed
    return [pause * scale for pause in pauses]


def _print_last(recording: Recording, scenes: list[Frame]) -> None:
    """Where nothing can move: how each canvas went and what it became; for a trace without steps its text."""
    last = {scene.step.canvas: scene for scene in scenes if scene.step is not None}
    for scene in last.values():
        assert scene.step is not None
        start = len(scene.committed)
        tokens = recording.result.tokens[start : start + len(scene.step.tokens)]
        print(_heading(scene.step, len(tokens)))
        print("".join(recording.texts[token] for token in tokens if token not in recording.stop_ids))
    if not last:
        _print_text(recording)
    say(_line(recording))


def _heading(step: CanvasStep, committed: int) -> str:
    facts = [f"{step.step} steps", f"entropy {float(step.entropy.mean()):.3f}", f"{committed} tokens committed"]
    return " · ".join([f"canvas {step.canvas + 1}", *facts])


def _print_text(recording: Recording) -> None:
    from diffusiongemma.cli.live import PlainView

    PlainView(sys.stdout).finish(recording.result)


def _line(recording: Recording) -> str:
    return f"{recording.model} · seed {recording.result.seed} · {summary(recording.result)}"


def as_object(recording: Recording) -> dict[str, Any]:
    """The object that `--json` writes: that of `run`, the request, and how each canvas went."""
    from diffusiongemma.cli.running import as_object as result_object

    trace = recording.result.trace
    canvases = [[step for step in trace if step.canvas == canvas] for canvas in sorted({s.canvas for s in trace})]
    return {
        "model": recording.model,
        "prompt": recording.prompt,
        "options": recording.options,
        **result_object(recording.result),
        "canvas_steps": [
            {
                "steps": len(steps),
                "seconds": round(sum(step.seconds for step in steps), 4),
                "entropy": [round(float(step.entropy.mean()), 4) for step in steps],
                "accepted": [round(float(step.accepted.mean()), 4) for step in steps],
            }
            for steps in canvases
        ],
    }
