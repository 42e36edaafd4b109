"""Trace files: one generation on disk, to be looked at without its model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffusiongemma.chat.reply import ToolCall
from diffusiongemma.errors import UserError
from diffusiongemma.events import CanvasStep, Result
from diffusiongemma.files import check_replaceable, written_whole

if TYPE_CHECKING:
    from diffusiongemma.diffusion.decoding import Decoding

FORMAT, VERSION = "diffusiongemma trace", 1
# Fields of a result that are kept as JSON, with the type they are read back as.
_SCALARS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("text", "finish_reason", "mode", "note"), str),
    **dict.fromkeys(("seed", "canvases", "forward_passes", "prompt_tokens", "cached_tokens"), int),
    "seconds": float,
}
_SCALARS_SINCE = {"checked": int, "written_by_encoder": int}  # as the others; older files lack them, and 0 is meant

_PER_TOKEN = {"tokens": np.uint32, "logprobs": np.float32, "entropies": np.float32, "settled": np.uint32}
_PER_STEP = {"canvas": np.uint32, "step": np.uint32, "temperature": np.float32, "seconds": np.float32}


@dataclass(frozen=True)
class Recording:
    """What a trace file holds: the request, its result with every step, and the text of each token that occurs."""

    result: Result
    model: str
    prompt: str
    prompt_ids: tuple[int, ...]
    options: dict[str, Any]  # the flat options of the request's `Decoding`
    texts: dict[int, str]
    complete: bool = False  # prompt ids and options say all there is to the request, so that it can be asked again

    @property
    def steps(self) -> int:
        """The most steps a canvas could take."""
        return int(self.options.get("steps") or max((s.step for s in self.result.trace), default=1))

    @property
    def stop_ids(self) -> frozenset[int]:
        return frozenset(int(token) for token in self.options.get("eos_token_ids") or ())


def save_trace(
    path: str | Path,
    result: Result,
    *,
    prompt: str,
    prompt_ids: Sequence[int],
    model: str,
    config: Decoding,
    text_of: Callable[[int], str],
    complete: bool = False,
) -> None:
    """Write a generation that was run with `trace=True`; `text_of` gives the text of a token id, `complete` says that
    nothing but the prompt and the config decided it.

    Measured at a vocabulary of 262,144, a step of 256 positions takes 0.6 kB when the canvas is settled, 1.2 kB when
    half of it is noise and 1.8 kB when all is; each different token that occurs takes 6 bytes more, once, for its id
    and text. Entropies are rounded to 11 bits, all else is exact to float32. The file appears whole or not at all:
    raises `UserError` when it cannot be written.
    """
    header = {"model": model, "prompt": prompt, "complete": complete, "options": _json_options(config)}
    ids = _ids_in(result)
    arrays: dict[str, Any] = {
        "header": _json_bytes(header | _header_of(result)),
        "prompt_ids": np.array(prompt_ids, np.uint32),
        "text_ids": _byte_planes(np.diff(ids, prepend=np.uint32(0)).astype("<u4")),
        "texts": _json_bytes([text_of(int(token)) for token in ids]),
        "steps": np.array(result.steps, np.uint32),
        **{f"token_{name}": np.array(getattr(result, name), dtype) for name, dtype in _PER_TOKEN.items()},
        **_pack_steps(result.trace),
    }
    check_writable(path)
    try:
        with written_whole(path) as file:
            np.savez_compressed(file, **arrays)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write the trace {path}: {reason}, free some space or choose another place") from error


def _header_of(result: Result) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "result": {name: getattr(result, name) for name in (*_SCALARS, *_SCALARS_SINCE)},
        "converged": result.converged,
        "thinking": result.thinking,
        "tool_calls": [asdict(call) for call in result.tool_calls],
    }


def check_writable(path: str | Path) -> None:
    """Raises the `UserError` that `save_trace` would, before the work is done."""
    target = Path(path)
    try:
        # Replacing a device or a folder would destroy it.
        if target.exists() and not target.is_file():
            raise UserError(f"cannot write the trace {target}: it is not a file, choose another name")
        check_replaceable(target)
    except OSError as error:
        raise UserError(f"cannot write the trace {target}: {error.strerror}, choose another place") from None


def load_trace(path: str | Path) -> Recording:
    """Read a trace file. Raises `UserError` for one that is missing, damaged, or not a trace; unpickles nothing."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return _recording(dict(arrays))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except OSError as error:
        raise UserError(f"cannot read the trace {path}: {error.strerror or error}") from None
    except Exception as error:  # whatever the zip and array readers raise for bytes that are not theirs
        raise UserError(f"{path} is not a trace, or is damaged: make one with `run --trace FILE`") from error


def _recording(arrays: Mapping[str, np.ndarray]) -> Recording:
    header = json.loads(arrays["header"].tobytes())
    if header["format"] != FORMAT:
        raise ValueError(header["format"])
    if header["version"] > VERSION:
        raise UserError(f"trace version {header['version']}, this program reads up to {VERSION}: update diffusiongemma")
    texts = json.loads(arrays["texts"].tobytes())
    ids = np.cumsum(_from_byte_planes(arrays["text_ids"], "<u4", len(texts)).astype(np.int64))
    columns: dict[str, Any] = {name: cast(header["result"][name]) for name, cast in _SCALARS.items()}
    columns |= {name: cast(header["result"].get(name, 0)) for name, cast in _SCALARS_SINCE.items()}
    columns |= {name: tuple(arrays[f"token_{name}"].tolist()) for name in _PER_TOKEN}
    result = Result(
        **columns,
        steps=tuple(arrays["steps"].tolist()),
        converged=tuple(map(bool, header.get("converged", ()))),
        thinking=None if header["thinking"] is None else str(header["thinking"]),
        tool_calls=tuple(ToolCall(str(call["name"]), dict(call["arguments"])) for call in header["tool_calls"]),
        trace=tuple(_unpack_steps(arrays)),
    )
    return Recording(
        result,
        str(header["model"]),
        str(header["prompt"]),
        tuple(arrays["prompt_ids"].tolist()),
        dict(header["options"]),
        {token: str(text) for token, text in zip(ids.tolist(), texts, strict=True)},
        header.get("complete") is True,
    )


# --- steps ----------------------------------------------------------------------------------------------------------


def _pack_steps(trace: Sequence[CanvasStep]) -> dict[str, np.ndarray]:
    """Columns over all steps, written so that what does not change from step to step is zero."""
    argmax = [step.argmax.astype("<u4") for step in trace]
    tokens = [step.tokens.astype("<u4") for step in trace]
    changes = [now ^ before for now, before in zip(argmax, _references(trace, argmax), strict=True)]
    departures = [now ^ best for now, best in zip(tokens, argmax, strict=True)]
    return {
        **{f"step_{name}": np.array([getattr(s, name) for s in trace], dtype) for name, dtype in _PER_STEP.items()},
        "width": np.array([len(step.tokens) for step in trace], np.uint32),
        "argmax": _byte_planes(_joined(changes, "<u4")),
        "tokens": _byte_planes(_joined(departures, "<u4")),
        "entropy": _byte_planes(_joined([step.entropy for step in trace], "<f2")),
        "accepted": np.packbits(_joined([step.accepted for step in trace], np.bool_)),
        **_pack_pins(trace),
    }


def _pack_pins(trace: Sequence[CanvasStep]) -> dict[str, np.ndarray]:
    """Nothing where nothing was pinned, as in files from before there were pins."""
    if not any(len(step.pinned) or step.sent for step in trace):
        return {}
    pinned = [step.pinned if len(step.pinned) else np.zeros(len(step.tokens), np.bool_) for step in trace]
    return {"pinned": np.packbits(_joined(pinned, np.bool_)), "sent": np.array([s.sent for s in trace], np.uint32)}


def _unpack_pins(arrays: Mapping[str, np.ndarray], cuts: np.ndarray, total: int) -> list[tuple[np.ndarray, int]]:
    """Pinned positions and the number of sent ones, of every step."""
    if "pinned" not in arrays:
        return [(np.zeros(0, np.bool_), 0)] * len(cuts)
    if len(arrays["pinned"]) != -(-total // 8) or len(arrays["sent"]) != len(cuts):
        raise ValueError("pinned or sent")
    pinned = np.split(np.unpackbits(arrays["pinned"], count=total).astype(np.bool_), cuts[:-1])
    return [
        (part if part.any() else part[:0], sent) for part, sent in zip(pinned, arrays["sent"].tolist(), strict=False)
    ]


def _unpack_steps(arrays: Mapping[str, np.ndarray]) -> Iterator[CanvasStep]:
    columns = [arrays[f"step_{name}"].tolist() for name in _PER_STEP]
    cuts = np.cumsum(arrays["width"].astype(np.int64))
    total = int(cuts[-1]) if len(cuts) else 0
    if not all(0 <= seconds < np.inf for seconds in columns[-1]) or len(arrays["accepted"]) != -(-total // 8):
        raise ValueError("seconds or accepted")
    changes, departures = (_from_byte_planes(arrays[name], "<u4", total) for name in ("argmax", "tokens"))
    entropy = _from_byte_planes(arrays["entropy"], "<f2", total).astype(np.float32)
    accepted = np.unpackbits(arrays["accepted"], count=total).astype(np.bool_)
    previous, argmax = -1, np.zeros(0, np.uint32)
    parts = (np.split(column, cuts[:-1]) for column in (changes, departures, accepted, entropy))
    pins = _unpack_pins(arrays, cuts, total)
    for (canvas, step, temperature, seconds), (pinned, sent), change, departure, mask, nats in zip(
        zip(*columns, strict=True), pins, *parts, strict=False
    ):
        argmax = change ^ argmax if canvas == previous and len(change) == len(argmax) else change
        previous = canvas
        tokens = (argmax ^ departure).astype(np.int32)
        marks = {"pinned": pinned, "sent": sent}
        yield CanvasStep(canvas, step, tokens, argmax.astype(np.int32), mask, nats, temperature, seconds, **marks)


def _references(trace: Sequence[CanvasStep], argmax: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """What each step's argmax is compared with: that of the step before in the same canvas, else zeros."""
    for i, now in enumerate(argmax):
        same = i > 0 and trace[i - 1].canvas == trace[i].canvas and len(argmax[i - 1]) == len(now)
        yield argmax[i - 1] if same else np.zeros_like(now)


def _joined(parts: Sequence[np.ndarray], dtype: Any) -> np.ndarray:
    return np.concatenate([part.astype(dtype) for part in parts]) if parts else np.zeros(0, dtype)


def _byte_planes(flat: np.ndarray) -> np.ndarray:
    """First bytes, then second bytes, …: the high bytes of token ids are nearly all zero and compress together."""
    return np.ascontiguousarray(flat.view(np.uint8).reshape(-1, flat.itemsize).T).ravel()


def _from_byte_planes(planes: np.ndarray, dtype: str, count: int) -> np.ndarray:
    return np.ascontiguousarray(planes.reshape(np.dtype(dtype).itemsize, count).T).view(dtype).ravel()


def _ids_in(result: Result) -> np.ndarray:
    parts = [array for step in result.trace for array in (step.tokens, step.argmax)]
    return np.unique(_joined([*parts, np.array(result.tokens, np.uint32)], np.uint32))


# --- the file -------------------------------------------------------------------------------------------------------


def _json_options(config: Decoding) -> dict[str, Any]:
    return {name: _json_rule(value) if is_dataclass(value) else value for name, value in config.options().items()}


def _json_rule(rule: Any) -> dict[str, Any]:
    """A sampler or stop rule as its class name and numbers."""
    return {"name": type(rule).__name__, **asdict(rule)}


def _json_bytes(value: Any) -> np.ndarray:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    return np.frombuffer(text.encode("utf-8", errors="replace"), np.uint8)
