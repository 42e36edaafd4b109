"""Editing: denoising that begins with the text itself, corrupted to a chosen noise level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise

from diffusiongemma.chat import Prompt
from diffusiongemma.control.inference.holding import Region, Start
from diffusiongemma.engine.plans.layout import Layout, Strip
from diffusiongemma.engine.plans.plan import Desk, Plan
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
    desk: Desk,
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
        raise InputError("the text is empty: give some text to edit")
    utf8(text)
    if isinstance(strength, bool) or not isinstance(strength, (int, float)) or not 0 <= strength <= 1:
        raise InputError(f"strength is {strength!r}: give a number from 0 (nothing changes) to 1")
    return _edit(desk, text, instruction, None if spans is None else checked_spans(spans, len(text)), strength)


def _edit(
    desk: Desk, text: str, instruction: str | None, chosen: list[Span] | None, strength: float
) -> Plan[EditResult]:
    results: list[Result] = []
    edited = text
    if strength > 0 and chosen is None:
        edited, results = yield from _edit_all(desk, text, instruction, strength)
    elif strength > 0 and chosen:
        edited, results = yield from _edit_spans(desk, text, instruction, chosen, strength)
    outside = 0.0 if chosen is not None else share_changed(text, edited)
    steps = tuple(count for result in results for count in result.steps)
    return EditResult(edited, tuple(word_diff(text, edited)), outside, steps, desk.config.seed, tuple(results))


def checked_spans(spans: Sequence[Span], length: int) -> list[Span]:
    """The spans in order. Raises `InputError` for one out of range, empty, or over another."""
    try:
        ordered = sorted((int(start), int(stop)) for start, stop in spans)
    except (TypeError, ValueError):
        raise InputError("spans: give pairs of character positions, (from, to)") from None
    for start, stop in ordered:
        if not 0 <= start < stop <= length:
            raise InputError(f"span {start} to {stop}: the text has {length:,} characters, give 0 <= from < to <= them")
    for (_, stop), (start, _) in pairwise(ordered):
        if start < stop:
            raise InputError(f"two spans overlap at character {start}: join them")
    return ordered


def _prompt(desk: Desk, text: str, instruction: str | None, written: Sequence[int]) -> Prompt:
    if instruction is None:
        return desk.raw_prompt(written)
    return desk.chat_prompt(f"{instruction}\n\n{text}", written)


# --- within spans ---------------------------------------------------------------------------------------------------


def _edit_spans(
    desk: Desk, text: str, instruction: str | None, spans: list[Span], strength: float
) -> Plan[tuple[str, list[Result]]]:
    """Piece by piece: what follows a piece stands beside it on the canvas as it is so far, later pieces included."""
    texts, pieces = _cut(desk, text, spans)
    results: list[Result] = []
    done = texts[0]
    for i, piece in enumerate(pieces):
        rest = texts[i + 1] + "".join(p + t for p, t in zip(pieces[i + 1 :], texts[i + 2 :], strict=True))
        strip = Strip.of([done, rest], desk.tokens)
        (seam,), own = strip.seams, desk.tokens.encode(piece)
        chat = instruction is not None
        end = desk.tail(desk.canvas_length, chat)
        layout = Layout.of([seam], strip.texts[1:], [len(own)], desk.canvas_length, end)
        start = Start((*seam.before, *own, *seam.after), strength)
        (result,) = yield [layout.request(desk, _prompt(desk, text, instruction, strip.texts[0]), start=start)]
        results.append(result)
        (fill,) = layout.fills(result, desk.tokens)
        done += fill + texts[i + 1]
    return done, results


def _cut(desk: Desk, text: str, spans: list[Span]) -> tuple[list[str], list[str]]:
    """(the texts around the spans, the spans), spans cut into pieces that leave room on a canvas for what follows."""
    texts, pieces, at = [], [], 0
    for start, stop in spans:
        texts.append(text[at:start])
        parts = _pieces(desk, text[start:stop], max(1, desk.canvas_length // 2))
        pieces += parts
        texts += [""] * (len(parts) - 1)
        at = stop
    return [*texts, text[at:]], pieces


def _pieces(desk: Desk, span: str, most: int) -> list[str]:
    """The span in pieces of at most `most` tokens (more where a character alone takes more)."""
    pieces: list[list[int]] = [[]]
    for token in desk.tokens.encode(span):
        if len(pieces[-1]) >= most and is_whole(desk.tokens.bytes_of(pieces[-1])):
            pieces.append([])
        pieces[-1].append(token)
    return [desk.tokens.bytes_of(piece).decode("utf-8") for piece in pieces]


# --- all of the text ------------------------------------------------------------------------------------------------


def _edit_all(desk: Desk, text: str, instruction: str | None, strength: float) -> Plan[tuple[str, list[Result]]]:
    """Canvas by canvas. Only the last may end the answer, and may run on to one canvas more."""
    source, written, results = desk.tokens.encode(text), list[int](), list[Result]()
    chat, width = instruction is not None, desk.canvas_length
    while len(source) >= width:
        start = Start(tuple(source[:width]), strength)
        region = Region(0, width, desk.tokens.any_text)
        prompt = _prompt(desk, text, instruction, written)
        (result,) = yield [desk.request(prompt, 0, regions=(region,), start=start, max_new_tokens=width)]
        results.append(result)
        written += result.tokens
        source = source[_consumed(source[: 2 * width], list(result.tokens)) :]
    if source:
        start = Start((*source, *desk.tail(width - len(source), chat)), strength)
        fields = dict(constraint=desk.tokens.any_text, start=start, max_new_tokens=2 * width)
        (result,) = yield [desk.request(_prompt(desk, text, instruction, written), 0, **fields)]
        results.append(result)
        written += [token for token in result.tokens if token not in desk.config.eos_token_ids]
    return desk.tokens.bytes_of(written).decode("utf-8"), results


def _consumed(source: list[int], output: list[int]) -> int:
    """How many tokens of `source` an output stands for: up to the last run they share, then one for one."""
    blocks = [b for b in SequenceMatcher(None, source, output, autojunk=False).get_matching_blocks() if b.size]
    if not blocks:
        return min(len(source), len(output))
    last = blocks[-1]
    return max(1, min(len(source), last.a + len(output) - last.b))
