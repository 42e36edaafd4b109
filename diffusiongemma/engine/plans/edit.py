"""Editing: denoising that begins with the text itself, corrupted to a chosen noise level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise

from diffusiongemma.chat import Prompt
from diffusiongemma.control.inference.holding import Region, Start
from diffusiongemma.engine.plans.layout import Layout, Strip
from diffusiongemma.engine.plans.plan import Plan, PlanContext
from diffusiongemma.errors import InputError
from diffusiongemma.events import Result
from diffusiongemma.options import STRENGTH
from diffusiongemma.text.diff import Change, share_changed, word_diff
from diffusiongemma.text.seams import is_whole, utf8

Span = tuple[int, int]


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
    number of tokens; without, the text may grow and shrink. Texts longer than a canvas are worked through canvas by
    canvas, each seeing what was made of the text before it.
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
        edited, results = yield from _edit_all(context, text, instruction, strength)
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
        start = Start((*seam.before, *own, *seam.after), strength)
        (result,) = yield [layout.request(context, _prompt(context, text, instruction, strip.texts[0]), start=start)]
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
        if len(pieces[-1]) >= most and is_whole(context.tokens.bytes_of(pieces[-1])):
            pieces.append([])
        pieces[-1].append(token)
    return [context.tokens.bytes_of(piece).decode("utf-8") for piece in pieces]


# --- all of the text ------------------------------------------------------------------------------------------------


def _edit_all(
    context: PlanContext, text: str, instruction: str | None, strength: float
) -> Plan[tuple[str, list[Result]]]:
    """Canvas by canvas. Only the last may end the answer, and may run on to one canvas more."""
    source, written, results = context.tokens.encode(text), list[int](), list[Result]()
    chat, width = instruction is not None, context.canvas_length
    while len(source) >= width:
        start = Start(tuple(source[:width]), strength)
        region = Region(0, width, context.tokens.any_text)
        prompt = _prompt(context, text, instruction, written)
        (result,) = yield [context.request(prompt, 0, regions=(region,), start=start, max_new_tokens=width)]
        results.append(result)
        written += result.tokens
        source = source[_consumed(source[: 2 * width], list(result.tokens)) :]
    if source:
        start = Start((*source, *context.tail(width - len(source), chat)), strength)
        prompt, form = _prompt(context, text, instruction, written), context.tokens.any_text
        (result,) = yield [context.request(prompt, 0, form, start=start, max_new_tokens=2 * width)]
        results.append(result)
        written += [token for token in result.tokens if token not in context.config.eos_token_ids]
    return context.tokens.bytes_of(written).decode("utf-8"), results


def _consumed(source: list[int], output: list[int]) -> int:
    """How many tokens of `source` an output stands for: up to the last run they share, then one for one."""
    blocks = [b for b in SequenceMatcher(None, source, output, autojunk=False).get_matching_blocks() if b.size]
    if not blocks:
        return min(len(source), len(output))
    last = blocks[-1]
    return max(1, min(len(source), last.a + len(output) - last.b))
