"""Editing: denoising that begins with the text itself, corrupted to a chosen noise level."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Any

from diffusiongemma.chat import Prompt
from diffusiongemma.control.compiling import CompileJob, compiled_here
from diffusiongemma.control.constraint import Constraint
from diffusiongemma.control.inference.holding import Region, Start
from diffusiongemma.control.structure import Structure
from diffusiongemma.diffusion.noise import CORRUPT, Noise
from diffusiongemma.engine.plans.layout import Layout, Strip
from diffusiongemma.engine.plans.plan import Plan, PlanContext
from diffusiongemma.errors import InputError
from diffusiongemma.events import Result
from diffusiongemma.options import STRENGTH
from diffusiongemma.text.diff import Change, share_changed, word_diff
from diffusiongemma.text.seams import is_whole, utf8

Span = tuple[int, int]
BREAK = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class EditResult:
    """`diff` adds up to both texts. `changed_outside`: of the words outside the spans, the share that is not in the
    new text in their place, which is 0; without spans, of all words of the text."""

    text: str
    diff: tuple[Change, ...]
    changed_outside: float
    steps: tuple[int, ...]  # denoise steps of each canvas
    seed: int
    results: tuple[Result, ...]  # of each canvas or run of canvases, in order

    @property
    def lost(self) -> float:
        """The share by which the new text is shorter, spaces not counted; 0 where it is not."""
        size = {kind: 0 for kind in ("same", "delete", "insert")}
        for kind, part in self.diff:
            size[kind] += len("".join(part.split()))
        before = size["same"] + size["delete"]
        return max(0.0, (size["delete"] - size["insert"]) / before) if before else 0.0


def edit_plan(
    context: PlanContext,
    text: str,
    instruction: str | None = None,
    spans: Sequence[Span] | None = None,
    strength: float = STRENGTH,
) -> Plan[EditResult]:
    """Change a text. Each token is replaced by a random one with probability `strength` and denoising enters the
    schedule at that noise level: the model takes no time input, so it cannot tell this from a canvas of its own.

    Strength 0 changes nothing, 1 keeps nothing but the length. An instruction goes into the prompt as a user's
    message, with the text. With `spans` (from, to: characters) all else stays, byte for byte, and each span keeps its
    number of tokens; without, the text may grow and shrink. Without an instruction the tokens that were not replaced
    stay, as nothing says what else to change them for, and so does the number of tokens. Line breaks stay in any case,
    each as it is, and none comes. Texts longer than a canvas are worked through canvas by canvas, each seeing what was
    made of the text before it. Where an instruction may change all, the encoder checks the last one (`verify`).
    """
    if not text.strip():
        raise InputError("the text is empty: give some text to edit", option="text")
    utf8(text)
    if isinstance(strength, bool) or not isinstance(strength, (int, float)) or not 0 <= strength <= 1:
        raise InputError("give a number from 0 (nothing changes) to 1", option="strength", got=strength)
    return _edit(context, text, instruction, None if spans is None else checked_spans(spans, len(text)), strength)


def _edit(
    context: PlanContext, text: str, instruction: str | None, chosen: list[Span] | None, strength: float
) -> Plan[EditResult]:
    results: list[Result] = []
    edited = text
    if strength > 0 and chosen is None:
        whole = (
            _vary_all(context, text, strength)
            if instruction is None
            else _edit_all(context, text, instruction, strength)
        )
        edited, results = yield from whole
    elif strength > 0 and chosen:
        edited, results = yield from _edit_spans(context, text, instruction, chosen, strength)
    outside = 0.0 if chosen is not None else share_changed(text, edited)
    steps = tuple(count for result in results for count in result.steps)
    return EditResult(edited, tuple(word_diff(text, edited)), outside, steps, context.config.seed, tuple(results))


def checked_spans(spans: Sequence[Span], length: int) -> list[Span]:
    """The spans in order. Raises `InputError` for one out of range, empty, or over another."""
    try:
        ordered = sorted((int(start), int(stop)) for start, stop in spans)
    except (TypeError, ValueError):
        raise InputError("give pairs of character positions, (from, to)", option="spans") from None
    for start, stop in ordered:
        if not 0 <= start < stop <= length:
            message = f"{start} to {stop}, in a text of {length:,} characters: give 0 <= from < to <= them"
            raise InputError(message, option="spans")
    for (_, stop), (start, _) in pairwise(ordered):
        if start < stop:
            raise InputError(f"two of them overlap at character {start}: join them", option="spans")
    return ordered


def _prompt(context: PlanContext, text: str, instruction: str | None, written: Sequence[int]) -> Prompt:
    if instruction is None:
        return context.raw_prompt(written)
    return context.chat_prompt(f"{instruction}\n\n{text}", written)


# --- what stays -----------------------------------------------------------------------------------------------------


def _same_lines(context: PlanContext, source: Sequence[int]) -> Constraint:
    """Any text with the line breaks of `source`, in their order, and no others; empty lines stay so, others do not
    become so."""
    parts = re.split(f"({BREAK.pattern})", context.tokens.bytes_of(source).decode("utf-8"))
    lines = ["[^\\r\\n]+" if line else "" for line in parts[::2]]
    pattern = "".join(line + re.escape(mark) for line, mark in zip(lines, [*parts[1::2], ""], strict=True))
    tokens = context.tokens
    return compiled_here(CompileJob.of(Structure(regex=pattern), tokens.vocabulary, tokens.end_ids))


def _breaks_line(context: PlanContext, token: int) -> bool:
    written = context.tokens.bytes_of([token])
    return b"\n" in written or b"\r" in written


def _kept(context: PlanContext, source: Sequence[int], strength: float) -> dict[int, tuple[int, ...]]:
    """Position -> the one token that may stand there: what a start at this strength does not replace, and breaks."""
    uniforms = Noise(context.config.seed, 0).uniforms(0, CORRUPT, len(source)).tolist()  # as `Canvas.start_from` draws
    return {
        i: (token,)
        for i, (token, uniform) in enumerate(zip(source, uniforms, strict=True))
        if uniform >= strength or _breaks_line(context, token)
    }


def _cut_at(context: PlanContext, source: Sequence[int], most: int) -> int:
    """The most leading tokens, at most `most`, behind which neither a character nor a CRLF is cut; at least one."""
    for count in range(min(most, len(source)), 0, -1):
        before, after = context.tokens.bytes_of(source[:count]), context.tokens.bytes_of(source[count : count + 1])
        if is_whole(before) and not (before.endswith(b"\r") and after.startswith(b"\n")):
            return count
    return min(most, len(source))


# --- within spans ---------------------------------------------------------------------------------------------------


def _edit_spans(
    context: PlanContext, text: str, instruction: str | None, spans: list[Span], strength: float
) -> Plan[tuple[str, list[Result]]]:
    """Piece by piece: what follows a piece stands beside it on the canvas as it is so far, later pieces included."""
    texts, pieces = _cut(context, text, spans)
    results: list[Result] = []
    done = texts[0]
    for i, piece in enumerate(pieces):
        rest = texts[i + 1] + "".join(p + t for p, t in zip(pieces[i + 1 :], texts[i + 2 :], strict=True))
        strip = Strip.of([done, rest], context.tokens)
        (seam,), own = strip.seams, context.tokens.encode(piece)
        chat = instruction is not None
        end = context.tail(context.canvas_length, chat)
        layout = Layout.of([seam], strip.texts[1:], [len(own)], context.canvas_length, end)
        source = (*seam.before, *own, *seam.after)
        region = layout.holes[0].region(context.tokens)
        only = region.only if chat else {**region.only, **_kept(context, source, strength)}
        region = replace(region, constraint=_same_lines(context, source), only=only)
        fields: dict[str, Any] = dict(pins=layout.pins, start=Start(source, strength), max_new_tokens=layout.width)
        prompt = _prompt(context, text, instruction, strip.texts[0])
        (result,) = yield [context.request(prompt, 0, regions=(region,), **fields)]
        results.append(result)
        (fill,) = layout.fills(result, context.tokens)
        done += fill + texts[i + 1]
    return done, results


def _cut(context: PlanContext, text: str, spans: list[Span]) -> tuple[list[str], list[str]]:
    """(the texts around the spans, the spans), spans cut into pieces that leave room on a canvas for what follows."""
    texts, pieces, at = [], [], 0
    for start, stop in spans:
        texts.append(text[at:start])
        parts = _pieces(context, text[start:stop], max(1, context.canvas_length // 2))
        pieces += parts
        texts += [""] * (len(parts) - 1)
        at = stop
    return [*texts, text[at:]], pieces


def _pieces(context: PlanContext, span: str, most: int) -> list[str]:
    """The span in pieces of at most `most` tokens (more where a character alone takes more)."""
    pieces: list[list[int]] = [[]]
    for token in context.tokens.encode(span):
        so_far = context.tokens.bytes_of(pieces[-1])
        splits_crlf = so_far.endswith(b"\r") and context.tokens.bytes_of([token]).startswith(b"\n")
        if len(pieces[-1]) >= most and is_whole(so_far) and not splits_crlf:
            pieces.append([])
        pieces[-1].append(token)
    return [context.tokens.bytes_of(piece).decode("utf-8") for piece in pieces]


# --- all of the text ------------------------------------------------------------------------------------------------


def _vary_all(context: PlanContext, text: str, strength: float) -> Plan[tuple[str, list[Result]]]:
    """Canvas by canvas, token for token: what is kept stays in its place."""
    source, written, results = context.tokens.encode(text), list[int](), list[Result]()
    width = context.canvas_length
    while source:
        count = _cut_at(context, source, width)
        chunk, source = source[:count], source[count:]
        kept = _kept(context, chunk, strength)
        if len(kept) < count:
            tail = context.tail(width - count, chat=False)
            region = Region(0, count, _same_lines(context, chunk), kept)
            fields: dict[str, Any] = dict(regions=(region,), pins=dict(enumerate(tail, count)), max_new_tokens=width)
            start = Start((*chunk, *tail), strength)
            (result,) = yield [context.request(context.raw_prompt(written), 0, start=start, **fields)]
            results.append(result)
            chunk = list(result.tokens[:count])
        written += chunk
    return context.tokens.bytes_of(written).decode("utf-8"), results


def _edit_all(
    context: PlanContext, text: str, instruction: str | None, strength: float
) -> Plan[tuple[str, list[Result]]]:
    if instruction is None:
        return (yield from _vary_all(context, text, strength))
    return (yield from _rewrite_all(context, text, instruction, strength))


def _rewrite_all(context: PlanContext, text: str, instruction: str, strength: float) -> Plan[tuple[str, list[Result]]]:
    """Canvas by canvas. Only the last may end the answer, and may run on to one canvas more; it alone is checked.

    Line breaks at the end are set down again: models end their answers without, and write on where they may not.
    """
    text, breaks = (body := text.rstrip("\r\n")), text[len(body) :]
    source, written, results = context.tokens.encode(text), list[int](), list[Result]()
    width = context.canvas_length
    while len(source) >= width:
        count = _cut_at(context, source, width)
        start = Start(tuple(source[:count]), strength)
        region = Region(0, count, _same_lines(context, source[:count]))
        prompt = _prompt(context, text, instruction, written)
        (result,) = yield [context.request(prompt, 0, regions=(region,), start=start, max_new_tokens=count)]
        results.append(result)
        written += result.tokens
        source = source[_consumed(context, source, count, list(result.tokens)) :]
    if source:
        start = Start((*source, *context.tail(width - len(source), chat=True)), strength)
        prompt, form = _prompt(context, text, instruction, written), _same_lines(context, source)
        (result,) = yield [context.request(prompt, 0, form, checks=True, start=start, max_new_tokens=2 * width)]
        results.append(result)
        written += [token for token in result.tokens if token not in context.config.eos_token_ids]
    return context.tokens.bytes_of(written).decode("utf-8") + breaks, results


def _consumed(context: PlanContext, source: list[int], count: int, output: list[int]) -> int:
    """How many tokens of `source` an output stands for that began from `count` of them: up to the last run they share,
    then one for one, but no more and no fewer line breaks than it has."""
    blocks = SequenceMatcher(None, source[: 2 * count], output, autojunk=False).get_matching_blocks()
    last = next((block for block in reversed(blocks) if block.size), None)
    wanted = len(output) if last is None else last.a + len(output) - last.b
    breaks = [i for i, token in enumerate(source) if _breaks_line(context, token)]
    fewest = max((i + 1 for i in breaks if i < count), default=1)
    most = min((i for i in breaks if i >= count), default=len(source))
    wanted = max(fewest, min(wanted, most))
    while wanted < most and not is_whole(context.tokens.bytes_of(source[:wanted])):
        wanted += 1
    return wanted
