"""`diffusiongemma run`: one prompt, one answer."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffusiongemma.cli import options as given
from diffusiongemma.cli.running import (
    checked_text,
    choose_view,
    open_model,
    read_stdin,
    say,
    stdin_holds_text,
    summary,
    token_text,
)

if TYPE_CHECKING:
    from diffusiongemma.api import DiffusionGemma
    from diffusiongemma.cli.live import View
    from diffusiongemma.engine.request import Request
    from diffusiongemma.events import Result

Images = Annotated[list[str] | None, typer.Option(metavar="FILE", help="Image before the prompt; may be repeated.")]
Videos = Annotated[list[str] | None, typer.Option(metavar="FILE", help="Video before the prompt; may be repeated.")]


@given.takes("run")
def run(
    prompt: Annotated[str | None, typer.Argument(metavar="[PROMPT|-]", help="Text, or - for stdin.")] = None,
    model: given.Model = "nano",
    system: given.System = None,
    image: Images = None,
    video: Videos = None,
    think: given.Think = False,
    *,
    options: given.Options,
    watch: given.Watch = False,
    delay: given.Delay = None,
    trace: given.Trace = None,
    as_json: given.Json = False,
    device: given.Device = "auto",
    dtype: given.Dtype = "auto",
) -> None:
    """Generate from one prompt.

    Without a prompt what is piped in is taken, and with nothing piped in a sudoku to show the model at work.
    """
    text, demonstration = _prompt(prompt)
    given.check_delay(delay)
    if trace is not None:
        from diffusiongemma.recording import check_writable

        check_writable(trace)
    loaded = open_model(model, device, dtype)
    request = loaded.request(
        _messages(text, system, image or [], video or []),
        think=think,
        trace=trace is not None,
        frames=watch and not as_json,
        **options,
    )
    if demonstration:
        say(text + "\n")
    view = choose_view(loaded, request.config, watch=watch and not as_json, thoughts=think, delay=delay)
    result = _generate(loaded, request, None if as_json else view)
    result = replace(result, seconds=result.seconds - view.paused)
    if trace is not None:
        _save(trace, result, text, request, loaded, model)
    _report(result, view.paused, as_json, think)
    if demonstration and result.finish_reason != "cancelled":
        from diffusiongemma.cli.demonstration import verdict

        say(verdict(result.text), "")
    if result.finish_reason == "cancelled":
        raise typer.Exit(given.INTERRUPTED)


def _prompt(argument: str | None) -> tuple[str, bool]:
    """The prompt, and whether it is the demonstration."""
    from diffusiongemma.cli.demonstration import PROMPT

    if argument == "-" or (argument is None and stdin_holds_text()):
        return checked_text(read_stdin(), "prompt on stdin"), False
    if argument is None:
        return PROMPT, True
    return checked_text(argument, "prompt"), False


def _messages(text: str, system: str | None, images: list[str], videos: list[str]) -> list[dict[str, Any]]:
    media = [{"type": "image", "image": path} for path in images]
    media += [{"type": "video", "video": path} for path in videos]
    content: Any = [*media, {"type": "text", "text": text}] if media else text
    leading = [{"role": "system", "content": checked_text(system, "system message")}] if system is not None else []
    return [*leading, {"role": "user", "content": content}]


def _generate(model: DiffusionGemma, request: Request, view: View | None) -> Result:
    """Run one request, showing its events. After Ctrl-C what was committed, with finish reason "cancelled"."""
    from contextlib import nullcontext

    from diffusiongemma.engine.engine import Engine
    from diffusiongemma.events import Finished

    engine = Engine(model.network, model.tokenizer, 1)
    result = None
    with view or nullcontext():
        try:
            for event in engine.run([request]):
                if view is not None:
                    view.show(event)
                if isinstance(event, Finished):
                    result = event.result
        except KeyboardInterrupt:
            result = result or engine.cancel(request.id)
            if result is None:
                raise
    assert result is not None
    if view is not None:
        view.finish(result)
    return result


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


def _report(result: Result, paused: float, as_json: bool, think: bool) -> None:
    for warning in result.warnings:
        say(f"warning: {warning}")
    if as_json:
        json.dump(as_object(result, think), sys.stdout, ensure_ascii=False)
        print()
        return
    if result.note:
        say(result.note)
    say(summary(result, paused))


def as_object(result: Result, think: bool = False) -> dict[str, Any]:
    """The object that `--json` writes. `note`: why `--mode auto` chose the mode."""
    return {
        "text": result.text,
        "finish_reason": result.finish_reason,
        "tokens": len(result.tokens),
        "canvases": result.canvases,
        "steps": sum(result.steps),
        "converged": sum(result.converged),
        "checked": result.checked,
        "written_by_encoder": result.written_by_encoder,
        "forward_passes": result.forward_passes,
        "tokens_per_forward": round(result.tokens_per_forward, 3),
        "seconds": round(result.seconds, 4),
        "seed": result.seed,
        "mode": result.mode,
        "prompt_tokens": result.prompt_tokens,
        **({"thinking": result.thinking} if think else {}),
        **({"note": result.note} if result.note else {}),
    }
