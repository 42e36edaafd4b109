"""Filling holes in a text: what stands before is encoded, what stands after is pinned on the canvas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from diffusiongemma.chat import Prompt
from diffusiongemma.engine.plans.layout import Layout, Strip
from diffusiongemma.engine.plans.plan import Plan, PlanContext
from diffusiongemma.errors import InputError
from diffusiongemma.events import Result
from diffusiongemma.text.seams import utf8

Length = int | tuple[int, int] | str
BLANK = "[...]"  # a hole, where a message shows the text
LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192)
MOST_CANDIDATES = 8
DEFAULT_INSTRUCTION = "Write the text below again, with the gap {blank} filled in so that all of it reads well."


@dataclass(frozen=True)
class InfillResult:
    """`text` is the caller's text with `fills` in its holes. `lengths` are the fills' own tokens; a token that a fill
    shares with the text beside it is not counted. `candidates` has, for each hole whose length was open, the lengths
    that were tried with their scores (calibrated mean log-probability after one step). `result` is the engine's last.
    """

    text: str
    fills: tuple[str, ...]
    result: Result
    lengths: tuple[int, ...]
    candidates: tuple[tuple[tuple[int, float], ...], ...]
    seed: int
    steps: tuple[int, ...]  # denoise steps of each canvas


def infill_plan(
    context: PlanContext, texts: Sequence[str], instruction: str | None = None, length: Length = "auto"
) -> Plan[InfillResult]:
    """Fill the holes between `texts` (n + 1 texts, n holes).

    Without an instruction the text is simply gone on with; with one it is an answer to a message that shows it. What
    is after a hole is pinned on its canvas; where that is too long, its nearest part is, and the message shows all of
    it. Holes that share a canvas are filled together, others in order.

    `length` is the number of tokens of each hole, a range, or "auto". A length that is open is chosen after one step:
    candidates run in one batch, and the one that the model is surest of wins, once what it says of a hole of that
    length without any context is taken off (the confidence of a first step depends on the length itself; arXiv
    2602.00476 finds its peak near the true length when calibrated).
    """
    if len(texts) < 2:
        raise InputError("there is no hole to fill: mark one", option="hole")
    for text in texts:
        utf8(text)
    return _infill(context, texts, instruction, *length_bounds(length, context.canvas_length, len(texts) - 1))


def _infill(
    context: PlanContext, texts: Sequence[str], instruction: str | None, least: int, most: int
) -> Plan[InfillResult]:
    shown = None if instruction is None else _message(instruction, texts)
    fills: list[str] = []
    lengths: list[int] = []
    steps: list[int] = []
    tried: list[tuple[tuple[int, float], ...]] = []
    result = None
    while len(fills) < len(texts) - 1:
        done = "".join(part for pair in zip(texts, fills, strict=False) for part in pair) + texts[len(fills)]
        window = Window.of(context, [done, *texts[len(fills) + 1 :]], most, shown)
        chosen, scores = yield from window.choose(least, most)
        layout = window.layout(chosen)
        (result,) = yield [layout.request(context, window.prompt)]
        fills += layout.fills(result, context.tokens)
        lengths += chosen
        tried += scores
        steps += result.steps
    assert result is not None
    text = "".join(part for pair in zip(texts, fills, strict=False) for part in pair) + texts[-1]
    return InfillResult(text, tuple(fills), result, tuple(lengths), tuple(tried), context.config.seed, tuple(steps))


@dataclass(frozen=True)
class Window:
    """As many of the next holes as fit one canvas, with the text around them."""

    context: PlanContext
    prompt: Prompt
    strip: Strip
    count: int  # holes on the canvas
    chat: bool

    @classmethod
    def of(cls, context: PlanContext, texts: Sequence[str], most: int, shown: str | None) -> Window:
        strip = Strip.of(texts, context.tokens)
        after = strip.texts[1:]
        count = 1
        while count < len(strip.seams) and _fits(context, strip, count + 1, most):
            count += 1
        overflows = Layout.needed(strip.seams[:count], after[:count], [most] * count) + len(after[count - 1]) > (
            context.canvas_length
        )
        if shown is None and (overflows or count < len(strip.seams)):
            # The canvas alone cannot hold what comes after; a message can.
            shown = _message(DEFAULT_INSTRUCTION.format(blank=BLANK), texts)
        written = strip.texts[0]
        prompt = context.raw_prompt(written) if shown is None else context.chat_prompt(shown, written)
        return cls(context, prompt, strip, count, shown is not None)

    def layout(self, lengths: Sequence[int]) -> Layout:
        whole = self.count == len(self.strip.seams)
        end = self.context.tail(self.context.canvas_length, self.chat) if whole else []
        after = self.strip.texts[1 : self.count + 1]
        return Layout.of(self.strip.seams[: self.count], after, lengths, self.context.canvas_length, end)

    def choose(self, least: int, most: int) -> Plan[tuple[list[int], list[tuple[tuple[int, float], ...]]]]:
        """A length for each hole of the canvas, and the scores of those that were tried."""
        lengths = candidate_lengths(least, most)
        if len(lengths) == 1:
            return lengths * self.count, [()] * self.count
        layouts = [self.layout([length] * self.count) for length in lengths]
        first_step = self.context.config.with_options(steps=1)
        bare, endless = self.context.raw_prompt([]), first_step.with_options(eos_token_ids=())
        requests = [layout.request(self.context, self.prompt, i, config=first_step) for i, layout in enumerate(layouts)]
        alone = [
            replace(layout, pins={}).request(self.context, bare, len(layouts) + i, config=endless)
            for i, layout in enumerate(layouts)
        ]
        results = yield requests + alone
        rows = [
            [here - there for here, there in zip(layout.confidence(a), layout.confidence(b), strict=True)]
            for layout, a, b in zip(layouts, results[: len(layouts)], results[len(layouts) :], strict=True)
        ]
        scores = [tuple(zip(lengths, column, strict=True)) for column in zip(*rows, strict=True)]
        return [max(hole, key=lambda pair: pair[1])[0] for hole in scores], scores


def length_bounds(length: Length, canvas_length: int, holes: int) -> tuple[int, int]:
    """(least, most) tokens of a hole. Raises `InputError` for a length that is none, or that no canvas holds."""
    room = canvas_length - 2  # a token at either end may be shared with the text
    if length == "auto":
        return 1, max(1, min(64, room // (2 * min(holes, 4))))
    whole = isinstance(length, int) and not isinstance(length, bool)
    bounds: Any = (length, length) if whole else length
    if not isinstance(bounds, (tuple, list)) or len(bounds) != 2 or not all(type(n) is int for n in bounds):
        raise InputError("give a number of tokens, two of them as a range, or auto", option="length", got=length)
    least, most = bounds
    if not 1 <= least <= most:
        raise InputError("give at least 1 token, and the smaller number first", option="length", got=length)
    if most > room:
        raise InputError(f"a hole of this model holds at most {room} tokens: ask for fewer", option="length", got=most)
    return least, most


def candidate_lengths(least: int, most: int) -> list[int]:
    """Up to eight lengths of the range, close together where it is short."""
    lengths = sorted({least, most} | {n for n in LENGTHS if least < n < most})
    if most - least < MOST_CANDIDATES:
        return list(range(least, most + 1))
    while len(lengths) > MOST_CANDIDATES:
        # Drop the one that its neighbours stand in for best.
        ratios = [lengths[i + 1] / lengths[i - 1] for i in range(1, len(lengths) - 1)]
        del lengths[1 + ratios.index(min(ratios))]
    return lengths


def _fits(context: PlanContext, strip: Strip, count: int, most: int) -> bool:
    needed = Layout.needed(strip.seams[:count], strip.texts[1 : count + 1], [most] * count)
    return needed <= context.canvas_length


def _message(instruction: str, texts: Sequence[str]) -> str:
    return f"{instruction}\n\n{BLANK.join(texts)}"
