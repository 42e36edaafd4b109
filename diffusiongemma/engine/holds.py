"""What a request holds of its answer (pins, regions, a text to start from), seen from one canvas at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from diffusiongemma.control.constraint import ConstraintState
from diffusiongemma.control.inference.holding import Limits, Patchwork, Plain, Region, Start
from diffusiongemma.control.inference.reader import Constrained
from diffusiongemma.control.tokens.bias import LogitBias, combined
from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.diffusion.denoise import Canvas
from diffusiongemma.diffusion.pins import Pins
from diffusiongemma.diffusion.readout import OWN, Adjust, Reader
from diffusiongemma.engine.request import Request


@dataclass(frozen=True)
class Holds:
    """Positions are those of the answer, from 0, across canvases."""

    pins: Mapping[int, int]
    regions: tuple[Region, ...]
    start: Start | None
    bias: LogitBias | None
    decoding: Decoding

    @classmethod
    def of(cls, request: Request) -> Holds:
        return cls(request.pins, request.regions, request.start, request.bias, request.config)

    @property
    def on_canvas(self) -> bool:
        """Whether there is what only a canvas can hold: text to fill in or to start from."""
        return bool(self.regions) or self.start is not None

    @property
    def no_end_before(self) -> int:
        """The answer may not end before its least length, nor before its last pin: the pin would be lost."""
        last, ends = max(self.pins, default=-1), self.decoding.eos_token_ids
        return max(self.decoding.min_tokens, last if self.pins.get(last) in ends else last + 1)

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
        penalties: Adjust | None = None,
    ) -> Reader:
        """How up to `positions` tokens from answer position `offset` are read; `frozen` are pinned as early text.

        Raises `InputError` where pins and constraint leave nothing.
        """
        reading = self.decoding.reading
        ahead = {p - offset: (token,) for p, token in self.pins.items() if p >= offset}
        ahead |= {position: (token,) for position, token in enumerate(frozen)}
        if constrained is not None:
            chain = constrained.open_canvas(positions, device, ahead)
            mine = {p: token for p, token in ahead.items() if p < chain.positions}
            adjust = combined(self.bias, penalties, Limits(mine) if mine else None, reading.cut or None)
            return Constrained(chain, adjust, paths=False, top_p=reading.top_p, top=reading.top_logprobs)
        limits = Limits({}, self.decoding.eos_token_ids, min(positions, max(0, self.no_end_before - offset)))
        regions = [r for r in self.regions if offset <= r.start < offset + positions]
        if regions:
            bias = combined(self.bias, penalties, reading.cut or None)
            return self._patchwork(regions, offset, positions, limits, set(ahead), device, bias)
        open_before = any(p not in ahead for p in range(limits.no_end_before))
        adjust = combined(self.bias, penalties, limits if limits and open_before else None, reading.cut or None)
        own = adjust is None and reading.top_p == 1
        return OWN if own else Plain(adjust, reading.top_p, reading.top_logprobs)

    def _patchwork(
        self,
        regions: list[Region],
        offset: int,
        positions: int,
        limits: Limits,
        pinned: set[int],
        device: torch.device,
        bias: Adjust | None,
    ) -> Patchwork:
        reading = self.decoding.reading
        top_p, top = reading.top_p, reading.top_logprobs
        free = torch.tensor([p not in pinned for p in range(positions)])
        parts: list[tuple[int, int, Reader]] = []
        for region in regions:
            first, last = region.start - offset, region.stop - offset
            free[first:last] = False
            parts.append((first, last, region.reader(device, bias, top_p, top)))
        return Patchwork(tuple(parts), free, limits, bias, top_p, top)
