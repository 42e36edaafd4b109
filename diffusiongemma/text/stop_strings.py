"""Stop strings: the answer ends before the first of them, and no part of one is ever sent."""

from __future__ import annotations


class StopFinder:
    """Text in, in portions; out comes what is sure to stand before any stop string."""

    def __init__(self, stops: tuple[str, ...]):
        self.stops = stops
        self.match: str | None = None  # the stop string that has come
        self._held = ""

    @property
    def found(self) -> bool:
        return self.match is not None

    def push(self, text: str) -> str:
        """What may be sent now."""
        if self.found:
            return ""
        text = self._held + text
        first = min(((at, stop) for stop in self.stops if (at := text.find(stop)) >= 0), default=None)
        if first is not None:
            self.match, self._held = first[1], ""
            return text[: first[0]]
        keep = max((_overlap(text, stop) for stop in self.stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was held back, once the text has ended."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
