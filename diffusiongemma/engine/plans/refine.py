"""Self-correction: find the tokens that the model itself finds unlikely, and write only those anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from diffusiongemma.control.inference.leave_one_out import leave_one_out
from diffusiongemma.engine.plans.layout import Layout, Seam
from diffusiongemma.engine.plans.plan import Desk, Plan
from diffusiongemma.errors import InputError
from diffusiongemma.events import Result
from diffusiongemma.text.diff import Change, word_diff
from diffusiongemma.text.seams import TextTokens, is_whole, utf8

Run = tuple[int, int]  # token positions, from and to


@dataclass(frozen=True)
class RefineResult:
    """`diff` adds up to both texts; `unlikely` are the character spans of the text that were written anew."""

    text: str
    diff: tuple[Change, ...]
    unlikely: tuple[tuple[int, int], ...]
    steps: tuple[int, ...]
    seed: int
    results: tuple[Result, ...]


def refine_plan(desk: Desk, text: str, threshold: float = 0.001, level: float = 0.1) -> Plan[RefineResult]:
    """Denoise anew the tokens whose leave-one-out probability is below `threshold`; all others are pinned.

    `level` is the share of wrong tokens assumed when a token's own testimony is weighed (`leave_one_out`). A text
    longer than a canvas is worked through canvas by canvas.
    """
    if not text.strip():
        raise InputError("the text is empty: give some text to refine")
    for name, value in (("threshold", threshold), ("level", level)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
            raise InputError(f"{name} is {value!r}: give a number above 0 and up to 1")
    utf8(text)
    return _refine(desk, text, threshold, level)


def _refine(desk: Desk, text: str, threshold: float, level: float) -> Plan[RefineResult]:
    source, done, width = desk.tokens.encode(text), list[int](), desk.canvas_length
    steps: list[int] = []
    results: list[Result] = []
    unlikely: list[tuple[int, int]] = []
    for first in range(0, len(source), width):
        chunk = source[first : first + width]
        prompt = desk.raw_prompt(done)
        canvas = [*chunk, *desk.tail(width - len(chunk), chat=False)]
        (scored,) = yield [desk.request(prompt, 0, score=tuple(canvas), max_new_tokens=width)]
        alone = leave_one_out(torch.tensor(scored.logprobs[: len(chunk)]), level, desk.model.vocab_size)
        low = (alone < torch.log(torch.tensor(threshold))).tolist()
        runs = whole_runs(low, chunk, desk.tokens)
        unlikely += [_characters(source, first + a, first + b, desk.tokens) for a, b in runs]
        if runs:
            layout = _layout(chunk, runs, width, desk.tail(width, chat=False))
            (result,) = yield [layout.request(desk, prompt)]
            results.append(result)
            steps += result.steps
            chunk = list(result.tokens[: len(chunk)])
        done += chunk
    refined = desk.tokens.bytes_of(done).decode("utf-8")
    return RefineResult(
        refined, tuple(word_diff(text, refined)), tuple(unlikely), tuple(steps), desk.config.seed, tuple(results)
    )


def whole_runs(low: Sequence[bool], tokens: Sequence[int], text: TextTokens) -> list[Run]:
    """Runs of low tokens, widened until each begins and ends between characters."""
    runs: list[Run] = []
    for i, is_low in enumerate(low):
        if is_low and (not runs or i >= runs[-1][1]):
            start, stop = i, i + 1
            while start > 0 and not _boundary(tokens, start, text):
                start -= 1
            while stop < len(tokens) and not _boundary(tokens, stop, text):
                stop += 1
            runs.append((start, stop))
    joined: list[Run] = []
    for start, stop in runs:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    # At a canvas's edge a character may be cut; such a run cannot be whole, and its text is left as it is.
    return [run for run in joined if is_whole(text.bytes_of(tokens[slice(*run)]))]


def _boundary(tokens: Sequence[int], at: int, text: TextTokens) -> bool:
    """Whether a character begins with token `at`."""
    return text.bytes_of(tokens[at : at + 1])[:1] < b"\x80" or text.bytes_of(tokens[at : at + 1])[:1] >= b"\xc0"


def _layout(chunk: Sequence[int], runs: Sequence[Run], width: int, end: Sequence[int]) -> Layout:
    bounds = [*[start for start, _ in runs[1:]], len(chunk)]
    texts = [chunk[stop:bound] for (_, stop), bound in zip(runs, bounds, strict=True)]
    lengths = [stop - start for start, stop in runs]
    return Layout.of([Seam()] * len(runs), texts, lengths, width, end, lead=chunk[: runs[0][0]])


def _characters(source: Sequence[int], start: int, stop: int, text: TextTokens) -> tuple[int, int]:
    before = text.bytes_of(source[:start]).decode("utf-8", errors="ignore")
    return len(before), len(before) + len(text.bytes_of(source[start:stop]).decode("utf-8"))
