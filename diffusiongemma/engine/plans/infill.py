"""Filling holes in a text: what stands before is encoded, what stands after is pinned on the canvas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from diffusiongemma.chat import Prompt
from diffusiongemma.engine.plans.layout import Layout, Strip
from diffusiongemma.engine.plans.plan import Desk, Plan
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
    desk: Desk, texts: Sequence[str], instruction: str | None = None, length: Length = "auto"
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
        raise InputError("there is no hole to fill: mark one")
    for text in texts:
        utf8(text)
    return _infill(desk, texts, instruction, *length_bounds(length, desk.canvas_length, len(texts) - 1))


def _infill(desk: Desk, texts: Sequence[str], instruction: str | None, least: int, most: int) -> Plan[InfillResult]:
    shown = None if instruction is None else _message(instruction, texts)
    fills: list[str] = []
    lengths: list[int] = []
    steps: list[int] = []
    tried: list[tuple[tuple[int, float], ...]] = []
    result = None
    while len(fills) < len(texts) - 1:
        done = "".join(part for pair in zip(texts, fills, strict=False) for part in pair) + texts[len(fills)]
        window = Window.of(desk, [done, *texts[len(fills) + 1 :]], most, shown)
        chosen, scores = yield from window.choose(least, most)
        layout = window.layout(chosen)
        (result,) = yield [layout.request(desk, window.prompt)]
        fills += layout.fills(result, desk.tokens)
        lengths += chosen
        tried += scores
        steps += result.steps
    assert result is not None
    text = "".join(part for pair in zip(texts, fills, strict=False) for part in pair) + texts[-1]
    return InfillResult(text, tuple(fills), result, tuple(lengths), tuple(tried), desk.config.seed, tuple(steps))


@dataclass(frozen=True)
class Window:
    """As many of the next holes as fit one canvas, with the text around them."""

    desk: Desk
    prompt: Prompt
    strip: Strip
    count: int  # holes on the canvas
    chat: bool

    @classmethod
    def of(cls, desk: Desk, texts: Sequence[str], most: int, shown: str | None) -> Window:
        strip = Strip.of(texts, desk.tokens)
        after = strip.texts[1:]
        count = 1
        while count < len(strip.seams) and _fits(desk, strip, count + 1, most):
            count += 1
        overflows = Layout.needed(strip.seams[:count], after[:count], [most] * count) + len(after[count - 1]) > (
            desk.canvas_length
        )
        if shown is None and (overflows or count < len(strip.seams)):
            # The canvas alone cannot hold what comes after; a message can.
            shown = _message(DEFAULT_INSTRUCTION.format(blank=BLANK), texts)
        written = strip.texts[0]
        prompt = desk.raw_prompt(written) if shown is None else desk.chat_prompt(shown, written)
        return cls(desk, prompt, strip, count, shown is not None)

    def layout(self, lengths: Sequence[int]) -> Layout:
        whole = self.count == len(self.strip.seams)
        end = self.desk.tail(self.desk.canvas_length, self.chat) if whole else []
        after = self.strip.texts[1 : self.count + 1]
        return Layout.of(self.strip.seams[: self.count], after, lengths, self.desk.canvas_length, end)

    def choose(self, least: int, most: int) -> Plan[tuple[list[int], list[tuple[tuple[int, float], ...]]]]:
        """A length for each hole of the canvas, and the scores of those that were tried."""
        lengths = candidate_lengths(least, most)
        if len(lengths) == 1:
            return lengths * self.count, [()] * self.count
        layouts = [self.layout([length] * self.count) for length in lengths]
        first_step = self.desk.config.with_options(steps=1)
        bare, endless = self.desk.raw_prompt([]), first_step.with_options(eos_token_ids=())
        requests = [layout.request(self.desk, self.prompt, i, config=first_step) for i, layout in enumerate(layouts)]
        alone = [
            replace(layout, pins={}).request(self.desk, bare, len(layouts) + i, config=endless)
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
    if isinstance(length, int) and not isinstance(length, bool):
        length = (length, length)
    if not isinstance(length, (tuple, list)) or len(length) != 2 or not all(type(n) is int for n in length):
        raise InputError(f"length is {length!r}: give a number of tokens, two of them as a range, or auto")
    least, most = length
    if not 1 <= least <= most:
        raise InputError(f"length {least} to {most}: give at least 1 token, and the smaller number first")
    if most > room:
        raise InputError(f"length is {most} tokens, a hole of this model holds at most {room}: ask for fewer")
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


def _fits(desk: Desk, strip: Strip, count: int, most: int) -> bool:
    needed = Layout.needed(strip.seams[:count], strip.texts[1 : count + 1], [most] * count)
    return needed <= desk.canvas_length


def _message(instruction: str, texts: Sequence[str]) -> str:
    return f"{instruction}\n\n{BLANK.join(texts)}"
