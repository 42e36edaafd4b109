"""Texts and holes in turn, laid out on one canvas: what is pinned, what is free, and how it is read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from diffusiongemma.chat import Prompt
from diffusiongemma.control.inference.holding import Region
from diffusiongemma.engine.plans.plan import PlanContext
from diffusiongemma.engine.request import Request
from diffusiongemma.events import Result
from diffusiongemma.text.seams import TextTokens, is_whole


@dataclass(frozen=True)
class Seam:
    """A hole's share in its neighbours. The token at an end of a text is opened up: the hole's first token must begin
    with all of `before` and its last end with all of `after`, so that a word the text breaks off can go on."""

    before: tuple[int, ...] = ()  # the token taken from the text before; at most one
    after: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        return len(self.before) + len(self.after)


@dataclass(frozen=True)
class Strip:
    """texts[0] hole texts[1] hole … texts[-1] as tokens; the holes' seams have been taken out of the texts."""

    texts: tuple[tuple[int, ...], ...]
    seams: tuple[Seam, ...]

    @classmethod
    def of(cls, texts: Sequence[str], tokens: TextTokens) -> Strip:
        """At least two texts, a hole between each two."""
        ids = [tokens.encode(text) for text in texts]
        seams = []
        for i in range(len(texts) - 1):
            # Of a single token between two holes the later one takes its share: words go on more than they begin.
            after = ids[i + 1][:1] if len(ids[i + 1]) > 1 or i + 2 == len(texts) else []
            seam = Seam(_opened(ids[i][-1:], tokens, at_end=True), _opened(after, tokens, at_end=False))
            ids[i] = ids[i][: len(ids[i]) - len(seam.before)]
            ids[i + 1] = ids[i + 1][len(seam.after) :]
            seams.append(seam)
        return cls(tuple(map(tuple, ids)), tuple(seams))


def _opened(token: Sequence[int], tokens: TextTokens, at_end: bool) -> tuple[int, ...]:
    """The token if others go on where it ends (begin before it begins), and it has no part of a character."""
    written = tokens.bytes_of(token)
    if not written or not is_whole(written):
        return ()
    others = tokens.starting_with(written) if at_end else tokens.ending_with(written)
    return tuple(token) if len(others) > 1 else ()


@dataclass(frozen=True)
class Placed:
    """One hole on the canvas."""

    seam: Seam
    start: int
    length: int  # tokens of its own, those shared with the texts beside it not counted

    @property
    def stop(self) -> int:
        return self.start + self.length + self.seam.size

    @property
    def own(self) -> slice:
        """The canvas positions of its own tokens."""
        return slice(self.start + len(self.seam.before), self.stop - len(self.seam.after))

    def region(self, tokens: TextTokens) -> Region:
        only = {}
        if self.seam.before:
            only[0] = tokens.starting_with(tokens.bytes_of(self.seam.before))
        if self.seam.after:
            only[self.stop - self.start - 1] = tokens.ending_with(tokens.bytes_of(self.seam.after))
        return Region(self.start, self.stop, tokens.any_text, only)

    def fill(self, answer: Sequence[int], tokens: TextTokens) -> str:
        """What the hole came to, its neighbours' characters taken off."""
        before, after = tokens.bytes_of(self.seam.before), tokens.bytes_of(self.seam.after)
        written = tokens.bytes_of(answer[self.start : self.stop])
        assert written.startswith(before) and written.endswith(after), "a seam was not kept"
        return written[len(before) : len(written) - len(after)].decode("utf-8")


@dataclass(frozen=True)
class Layout:
    """A canvas: pinned texts, holes, and the end of the answer if it is in sight."""

    holes: tuple[Placed, ...]
    pins: dict[int, int]
    width: int

    @classmethod
    def of(
        cls,
        seams: Sequence[Seam],
        texts: Sequence[Sequence[int]],
        lengths: Sequence[int],
        width: int,
        end: Sequence[int],
    ) -> Layout:
        """texts[i] follows hole i; the last text is cut where the canvas ends, or followed by `end`."""
        at, holes, pins = 0, list[Placed](), dict[int, int]()
        for seam, text, length in zip(seams, texts, lengths, strict=True):
            holes.append(Placed(seam, at, length))
            at = holes[-1].stop
            assert at <= width, "the holes do not fit the canvas"
            pins |= dict(zip(range(at, width), text, strict=False))
            at += len(text)
        pins |= dict(zip(range(at, width), end, strict=False))
        return cls(tuple(holes), pins, width)

    @staticmethod
    def needed(seams: Sequence[Seam], texts: Sequence[Sequence[int]], lengths: Sequence[int]) -> int:
        """The positions up to the end of the last hole."""
        between = sum(len(text) for text in texts[: len(seams) - 1])
        return sum(seam.size + length for seam, length in zip(seams, lengths, strict=True)) + between

    def request(self, context: PlanContext, prompt: Prompt, id: int = 0, **fields: Any) -> Request:
        regions = tuple(hole.region(context.tokens) for hole in self.holes)
        return context.request(prompt, id, pins=self.pins, regions=regions, max_new_tokens=self.width, **fields)

    def fills(self, result: Result, tokens: TextTokens) -> tuple[str, ...]:
        return tuple(hole.fill(result.tokens, tokens) for hole in self.holes)

    def confidence(self, result: Result) -> list[float]:
        """Of each hole, the mean log-probability of its own tokens."""
        return [sum(result.logprobs[hole.own]) / hole.length for hole in self.holes]
