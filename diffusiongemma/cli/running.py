"""What `run` and `chat` share: reading texts, opening a model, choosing a view, summing up."""

from __future__ import annotations

import os
import stat
import sys
import time
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffusiongemma.cli.options import DTYPES, Loading
from diffusiongemma.errors import InputError

if TYPE_CHECKING:
    from diffusiongemma.api import DiffusionGemma
    from diffusiongemma.cli.cells import TextOf
    from diffusiongemma.cli.live import View
    from diffusiongemma.diffusion.decoding import Decoding
    from diffusiongemma.engine.request import Request
    from diffusiongemma.events import Result

WATCH_DELAY = 0.08  # seconds after each step of a model too fast to watch
SMALL_PARAMETERS = 50_000_000
SLOW_LOADING = 20.0  # seconds of loading that are told


# --- input ----------------------------------------------------------------------------------------------------------


def read_stdin() -> str:
    """All of stdin. Raises `InputError` where it is closed or not UTF-8."""
    if sys.stdin is None:
        raise InputError("stdin is closed: give the prompt as an argument")
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"stdin is not UTF-8 text (byte {error.start + 1:,}): convert it first") from None


def stdin_holds_text() -> bool:
    """Whether something was piped or redirected in; not so for a terminal, /dev/null or a service's socket."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def checked_text(text: str, what: str) -> str:
    """Raises `InputError` for a text that is empty or, from a terminal or an argument, not UTF-8."""
    if not text.strip():
        raise InputError(f"the {what} is empty: write some text")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(f"the {what} is not UTF-8 text: convert it first") from None
    return text


def read_prompt(path: Path) -> str:
    """The text of a file. Raises `InputError`."""
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start + 1:,}): convert it first") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None


# --- the model ------------------------------------------------------------------------------------------------------


def open_model(name: str, how: Loading, quiet: bool = False) -> DiffusionGemma:
    """Load a model, saying so on a terminal, and how long it took where that was long. Raises `UserError`."""
    if how.dtype not in DTYPES:
        raise InputError(f"give {', '.join(DTYPES)}", option="dtype", got=how.dtype)
    from rich.console import Console

    started = time.monotonic()
    with Console(stderr=True, quiet=quiet).status(f"loading {name}"):
        from diffusiongemma.api import load

        try:
            loaded = load(name, **asdict(how))
        except OSError as error:
            raise InputError(f"cannot read the model {name}: {error.strerror or error}") from error
        except (RuntimeError, AssertionError) as error:  # what torch raises for a device that is not there
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            where = how.devices or how.device
            raise InputError(f"cannot load {name} on device {where} ({reason}): try --device cpu") from error
    if (took := time.monotonic() - started) > SLOW_LOADING and not quiet and sys.stderr.isatty():
        say(f"loaded {name} in {took:.0f} s")
    return loaded


def token_text(tokenizer: Any) -> TextOf:
    """The text of one token id, markup included."""
    from diffusiongemma.chat import decode

    return lru_cache(maxsize=None)(lambda token: decode([token], tokenizer, skip_special=False))


# --- output ---------------------------------------------------------------------------------------------------------


def check_watching(watch: bool, delay: float | None) -> None:
    """Raises `InputError` for a delay out of range, or where nothing is watched."""
    if delay is not None and not 0 <= delay <= 60:
        raise InputError("give seconds from 0 to 60", option="delay", got=delay)
    if delay is not None and not watch:
        raise InputError("`delay` has a meaning with `watch` only: add it or leave this out")


def choose_view(model: DiffusionGemma, config: Decoding, *, watch: bool, thoughts: bool, delay: float | None) -> View:
    """The live canvas where it is wanted and stdout is a terminal, else plain text."""
    from rich.console import Console

    from diffusiongemma.cli.live import LiveView, Painter, PlainView, can_watch

    out, notes = Console(highlight=False), Console(stderr=True, highlight=False) if thoughts else None
    if not (watch and can_watch(out)):
        return PlainView(sys.stdout, notes)
    painter = Painter(token_text(model.tokenizer), frozenset(config.eos_token_ids), config.steps)
    return LiveView(out, painter, _watch_delay(model) if delay is None else delay, notes)


def _watch_delay(model: DiffusionGemma) -> float:
    small = sum(p.numel() for p in model.network.parameters()) < SMALL_PARAMETERS
    return WATCH_DELAY if small else 0.0


def generate(model: DiffusionGemma, request: Request, view: View | None) -> Result:
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


def summary(result: Result, paused: float = 0.0) -> str:
    """One line: what it took. `paused`: seconds spent waiting for eyes, which are not among the result's."""
    parts = [
        *([f"{sum(result.steps)} steps"] if result.mode != "ar" else []),
        *([f"{result.forward_passes} forward passes"] if result.mode == "ar" or result.checked else []),
        f"{len(result.tokens)} tokens",
        f"{result.tokens_per_forward:.1f} tokens per forward",
        f"{result.seconds:.2f} s",
    ]
    if open_canvases := result.converged.count(False):
        parts.append(f"{open_canvases} of {len(result.converged)} canvases not converged")
    if result.checked:
        parts.append(f"{result.checked} checked, {result.written_by_encoder} tokens written by the encoder one by one")
    if result.finish_reason != "stop":
        parts.append({"length": "cut at the token limit", "cancelled": "interrupted"}[result.finish_reason])
    if paused:
        parts.append(f"and {paused:.1f} s of pauses to watch (--delay 0 for none)")
    return " · ".join(parts)


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


def say(text: str, style: str = "dim") -> None:
    """A line about the run, on stderr."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, highlight=False)
    console.print(Text(text, style), soft_wrap=not console.is_terminal)
