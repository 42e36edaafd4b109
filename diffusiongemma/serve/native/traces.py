"""POST /v1/traces: a trace file as the events that a stream of it would have been."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np

from diffusiongemma.api import DiffusionGemma
from diffusiongemma.events import CanvasCommitted, CanvasStep
from diffusiongemma.recording import Recording, load_trace
from diffusiongemma.serve.errors import refusal
from diffusiongemma.serve.native.diffusion_field import SAMPLER_NAMES
from diffusiongemma.serve.native.frames import FrameEncoder, commit_event, done_event
from diffusiongemma.serve.native.replies import AskedAgain, TraceReply
from diffusiongemma.serve.openai.bodies import CompletionRequest
from diffusiongemma.serve.settings import MIB, Settings

MOST_UNPACKED = 256 * MIB  # of a trace: a small file can unpack to gigabytes


def trace_reply(model: DiffusionGemma, settings: Settings, data: bytes) -> TraceReply:
    """A trace file as the events that a stream of it would have been, and the request by which this server gives the
    same again, if there is one. Raises `ApiError` or `InputError` for what is not a trace."""
    _check_size(data)
    recording = load_trace(io.BytesIO(data))  # type: ignore[arg-type]  # numpy reads either
    try:
        asked = _asked(recording, model, settings)
        again = {} if asked is None else {"request": AskedAgain(path="/v1/completions", body=asked)}
        return TraceReply(v=1, start=_start(recording), events=_events(recording), **again)
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise refusal("the trace is damaged: its parts contradict each other", None) from error


def _asked(recording: Recording, model: DiffusionGemma, settings: Settings) -> dict[str, Any] | None:
    """The body of a plain completion that is decoded as the recorded request was; None where that cannot be said."""
    options, same = recording.options, model.generation.options()
    fixed = ("t_min", "t_max", "stability_threshold", "confidence_threshold", "stop_rule", "eos_token_ids")
    changed = any(options.get(name) != json.loads(json.dumps(same[name])) for name in fixed)
    if not recording.complete or changed or recording.model not in (settings.model_name, *settings.aliases):
        return None
    sampler = options.get("sampler")
    if sampler is not None:
        names = {kind.__name__: name for kind, name in SAMPLER_NAMES.items()}
        sampler = {name: value for name, value in sampler.items() if value is not None}
        sampler["name"] = names.get(sampler["name"], "")
    early = {"steps": options["early_steps"], "entropy": options["early_entropy"]} if options["early_steps"] else None
    passed_on = {name: options[name] for name in ("mode", "steps", "entropy_bound", "min_tokens")}
    # Traces from before there were such things lack them.
    passed_on |= {"patience": options.get("patience", 0), "verify": options.get("verify", "never")}
    body = {
        "prompt": list(recording.prompt_ids),
        "seed": options["seed"],
        "max_tokens": options["max_new_tokens"],
        "temperature": options["temperature"],
        "top_p": options.get("top_p"),
        "diffusion": passed_on | {"sampler": sampler, "early_text": early},
    }
    asked: dict[str, Any] = CompletionRequest.model_validate(body).model_dump(exclude_none=True, exclude_defaults=True)
    return asked


def _check_size(data: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise refusal("this is not a trace: make one with `run --trace FILE`", None) from error
    if unpacked > MOST_UNPACKED:
        raise refusal(f"the trace unpacks to {unpacked / MIB:,.0f} MiB, at most {MOST_UNPACKED / MIB:.0f}", None)


def _start(recording: Recording) -> dict[str, Any]:
    result = recording.result
    return {
        "v": 1,
        "request": "",
        "model": recording.model,
        "mode": result.mode,
        "seed": result.seed,
        "canvas_length": max((len(step.tokens) for step in result.trace), default=1),
        "steps": recording.steps,
        "vocab_size": None,
        "prompt_tokens": result.prompt_tokens,
        "prompt": recording.prompt,
    }


def _events(recording: Recording) -> list[Any]:
    result, text_of = recording.result, lambda token: recording.texts.get(token, "\ufffd")
    encode, events, canvas = FrameEncoder(text_of, max(1, recording.steps)), [], 0
    commits = _commits(recording)
    for step in result.trace:
        if step.canvas != canvas and canvas < len(commits):
            events.append(("commit", commit_event(commits[canvas], text_of)))
            canvas = step.canvas
        events.append(("canvas", encode(step)))
    events += [("commit", commit_event(commit, text_of)) for commit in commits[canvas:]]
    return [*events, ("done", done_event(result, result.finish_reason))]


def _sure(step: CanvasStep, recording: Recording) -> bool:
    """Whether a canvas that ended with this step, before its steps ran out, had converged."""
    bound = recording.options["confidence_threshold"] if recording.options.get("patience") else np.inf
    free = ~step.pinned if len(step.pinned) else np.ones(len(step.tokens), np.bool_)
    return not free.any() or bool(step.entropy[free].mean() < bound)


def _commits(recording: Recording) -> list[CanvasCommitted]:
    """The committed tokens, canvas by canvas; in autoregressive mode token by token."""
    result, commits, start = recording.result, [], 0
    sure = {step.canvas: _sure(step, recording) for step in result.trace}
    widths = {step.canvas: len(step.tokens) for step in result.trace}
    count = len(result.steps) if result.trace else len(result.tokens)
    for canvas in range(count):
        end = start + widths.get(canvas, 1)
        cut = slice(start, end)
        steps = result.steps[canvas] if canvas < len(result.steps) else 1
        columns = result.logprobs[cut], result.entropies[cut], result.settled[cut]
        converged = steps < recording.steps and sure.get(canvas, True)
        commits.append(CanvasCommitted(canvas, result.tokens[cut], steps, converged, 0, *columns))
        start = end
    return commits
