"""What a request holds of its answer (pins, regions, a text to start from), seen from one canvas at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from diffusiongemma.control.constraint import ConstraintState
from diffusiongemma.control.inference.holding import Limits, Patchwork, Plain, Region, Start
from diffusiongemma.control.inference.reader import Constrained
from diffusiongemma.control.tokens.words import LogitBias, together
from diffusiongemma.diffusion.denoise import Canvas
from diffusiongemma.diffusion.pins import Pins
from diffusiongemma.diffusion.readout import OWN, Reader
from diffusiongemma.engine.request import Request
from diffusiongemma.errors import InputError


@dataclass(frozen=True)
class Holds:
    """Positions are those of the answer, from 0, across canvases."""

    pins: Mapping[int, int]
    regions: tuple[Region, ...]
    start: Start | None
    end_ids: tuple[int, ...]
    min_tokens: int = 0
    bias: LogitBias | None = None
    top_p: float = 1.0
    top: int = 0  # of the most probable tokens that are told

    @classmethod
    def of(cls, request: Request) -> Holds:
        ends = tuple(request.config.eos_token_ids)
        config, given = request.config, (request.pins, request.regions, request.start)
        reading = config.reading
        return cls(*given, ends, config.min_tokens, request.bias, reading.top_p, reading.top_logprobs)

    @property
    def any(self) -> bool:
        return bool(self.pins) or self.on_canvas

    @property
    def on_canvas(self) -> bool:
        """Whether there is what only a canvas can hold: text to fill in or to start from."""
        return bool(self.regions) or self.start is not None

    @property
    def no_end_before(self) -> int:
        """The answer may not end before its least length, nor before its last pin: the pin would be lost."""
        last = max(self.pins, default=-1)
        return max(self.min_tokens, last if self.pins.get(last) in self.end_ids else last + 1)

    def canvas_pins(self, offset: int, width: int, device: torch.device) -> Pins | None:
        """Those of the canvas that begins at answer position `offset`; None if it has none."""
        mine = {p - offset: token for p, token in self.pins.items() if offset <= p < offset + width}
        return Pins.of(mine, width, device) if mine else None

    def begin(self, canvas: Canvas, offset: int, vocab_size: int) -> None:
        """Put the tokens to start from on a canvas that was just opened."""
        if self.start is not None and offset < len(self.start.tokens):
            tokens = torch.tensor(self.start.tokens[offset : offset + len(canvas.tokens)])
            canvas.start_from(tokens, self.start.strength, vocab_size)

    def reader(
        self,
        constrained: ConstraintState | None,
        offset: int,
        positions: int,
        device: torch.device,
        frozen: tuple[int, ...] = (),
    ) -> Reader:
        """How up to `positions` tokens from answer position `offset` are read; `frozen` are pinned as early text.

        Raises `InputError` where pins and constraint leave nothing.
        """
        ahead = {p - offset: (token,) for p, token in self.pins.items() if p >= offset}
        ahead |= {position: (token,) for position, token in enumerate(frozen)}
        if constrained is not None:
            chain = constrained.open_canvas(positions, device, ahead)
            mine = {p: token for p, token in ahead.items() if p < chain.positions}
            adjust = together(self.bias, Limits(mine) if mine else None)
            return Constrained(chain, adjust, paths=False, top_p=self.top_p, top=self.top)
        limits = Limits({}, self.end_ids, min(positions, max(0, self.no_end_before - offset)))
        regions = [r for r in self.regions if offset <= r.start < offset + positions]
        if regions:
            return self._patchwork(regions, offset, positions, limits, set(ahead), device)
        open_before = any(p not in ahead for p in range(limits.no_end_before))
        adjust = together(self.bias, limits if limits and open_before else None)
        return Plain(adjust, self.top_p, self.top) if adjust is not None or self.top_p < 1 else OWN

    def _patchwork(
        self, regions: list[Region], offset: int, positions: int, limits: Limits, pinned: set[int], device: torch.device
    ) -> Patchwork:
        free = torch.tensor([p not in pinned for p in range(positions)])
        parts: list[tuple[int, int, Reader]] = []
        for region in regions:
            first, last = region.start - offset, region.stop - offset
            free[first:last] = False
            parts.append((first, last, region.reader(device, self.bias, self.top_p, self.top)))
        return Patchwork(tuple(parts), free, limits, self.bias, self.top_p, self.top)

    def check(self, constrained: ConstraintState | None, request: Request, vocab_size: int, canvas_length: int) -> None:
        """Raises `InputError` for pins, regions or a start that cannot be kept."""
        most, mode = request.config.max_new_tokens, request.config.mode
        for position, token in self.pins.items():
            _check_pin(position, token, most, vocab_size)
        last = max(self.pins, default=-1)
        early_end = next((p for p in sorted(self.pins) if p < last and self.pins[p] in self.end_ids), None)
        if early_end is not None and any(t not in self.end_ids for p, t in self.pins.items() if p > early_end):
            raise InputError(f"position {early_end} is pinned to an end token, and later ones are pinned: drop one")
        if constrained is not None and self.regions:
            raise InputError("a constraint on the whole answer and infilling do not go together: choose one")
        if constrained is not None and self.pins:
            self.reader(constrained, 0, 1 if mode == "ar" else canvas_length, torch.device("cpu"))
        if mode == "ar" and self.on_canvas:
            raise InputError("infilling and editing work on a canvas: leave mode at diffusion")
        if request.config.verify != "never" and self.on_canvas:
            raise InputError("the encoder cannot check what is filled in or edited: leave verify at never")
        for region in self.regions:
            _check_region(region, most, canvas_length)
        if self.start is not None and not 0 < self.start.strength <= 1:
            raise InputError(f"strength is {self.start.strength!r}: give a number above 0 and up to 1")


def _check_pin(position: int, token: int, most: int, vocab_size: int) -> None:
    if isinstance(position, bool) or not isinstance(position, int) or position < 0:
        raise InputError(f"pin position {position!r}: give the number of a token of the answer, from 0")
    if position >= most:
        raise InputError(f"position {position} is pinned, max-new-tokens is {most}: raise it or drop the pin")
    if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < vocab_size:
        raise InputError(
            f"the token pinned at position {position}, {token!r}, is not in the vocabulary of {vocab_size:,}"
        )


def _check_region(region: Region, most: int, canvas_length: int) -> None:
    inside = 0 <= region.start < region.stop <= most
    if not inside or region.start // canvas_length != (region.stop - 1) // canvas_length:
        raise InputError(f"a stretch of {region.stop - region.start} tokens to fill must lie on one canvas")
