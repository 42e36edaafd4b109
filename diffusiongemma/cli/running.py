"""What `run` and `chat` share: reading texts, opening a model, choosing a view, summing up."""

from __future__ import annotations

import os
import stat
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rich.console import Console

from diffusiongemma.cli.options import DTYPES
from diffusiongemma.errors import InputError

if TYPE_CHECKING:
    from diffusiongemma.api import DiffusionGemma
    from diffusiongemma.cli.cells import TextOf
    from diffusiongemma.cli.live import View
    from diffusiongemma.diffusion.decoding import Decoding
    from diffusiongemma.events import Result

WATCH_DELAY = 0.08  # seconds after each step of a model too fast to watch
SMALL_PARAMETERS = 50_000_000


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


# --- the model ------------------------------------------------------------------------------------------------------


def open_model(name: str, device: str, dtype: str) -> DiffusionGemma:
    """Load a model, saying so on a terminal. Raises `UserError`."""
    if dtype not in DTYPES:
        raise InputError(f"give {', '.join(DTYPES)}", option="dtype", got=dtype)
    with Console(stderr=True).status(f"loading {name}"):
        from diffusiongemma.api import load

        try:
            return load(name, device=device, dtype=dtype)
        except OSError as error:
            raise InputError(f"cannot read the model {name}: {error.strerror or error}") from error
        except (RuntimeError, AssertionError) as error:  # what torch raises for a device that is not there
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(f"cannot load {name} on device {device} ({reason}): try --device cpu") from error


def token_text(tokenizer: Any) -> TextOf:
    """The text of one token id, markup included."""
    from diffusiongemma.chat import decode

    return lru_cache(maxsize=None)(lambda token: decode([token], tokenizer, skip_special=False))


# --- output ---------------------------------------------------------------------------------------------------------


def choose_view(model: DiffusionGemma, config: Decoding, *, watch: bool, thoughts: bool, delay: float | None) -> View:
    """The live canvas where it is wanted and stdout is a terminal, else plain text."""
    from diffusiongemma.cli.live import LiveView, Painter, PlainView, can_watch

    out, notes = Console(highlight=False), Console(stderr=True, highlight=False) if thoughts else None
    if not (watch and can_watch(out)):
        return PlainView(sys.stdout, notes)
    painter = Painter(token_text(model.tokenizer), frozenset(config.eos_token_ids), config.steps)
    return LiveView(out, painter, _watch_delay(model) if delay is None else delay, notes)


def _watch_delay(model: DiffusionGemma) -> float:
    small = sum(p.numel() for p in model.network.parameters()) < SMALL_PARAMETERS
    return WATCH_DELAY if small else 0.0


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
        parts.append(f"{result.checked} checked, {result.written_by_encoder} tokens written by the encoder")
    if result.finish_reason != "stop":
        parts.append({"length": "cut at the token limit", "cancelled": "interrupted"}[result.finish_reason])
    if paused:
        parts.append(f"and {paused:.1f} s of pauses to watch (--delay 0 for none)")
    return " · ".join(parts)


def say(text: str, style: str = "dim") -> None:
    """A line about the run, on stderr."""
    from rich.text import Text

    console = Console(stderr=True, highlight=False)
    console.print(Text(text, style), soft_wrap=not console.is_terminal)
