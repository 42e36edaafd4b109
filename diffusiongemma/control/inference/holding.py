"""What a request demands of single positions: pinned tokens, few permitted ones, stretches with a form of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from diffusiongemma.control.constraint import Constraint
from diffusiongemma.control.inference.chain import CanvasChain
from diffusiongemma.control.inference.reader import Constrained
from diffusiongemma.control.tokens.bias import combined
from diffusiongemma.diffusion.readout import NEVER, Adjust, Head, Prediction, Reader, ReadOptions, read


@dataclass(frozen=True)
class Limits:
    """Which tokens may stand where on one canvas, as a change of its logits."""

    only: Mapping[int, tuple[int, ...]] = field(default_factory=dict)  # position -> the tokens that may stand there
    end_ids: tuple[int, ...] = ()
    no_end_before: int = 0  # end tokens may not stand at earlier positions

    def __call__(self, logits: Tensor, first: int) -> None:
        """Lower what may not stand at positions first, first + 1, … of logits [n, V], in place."""
        if first < self.no_end_before and self.end_ids:
            logits[: self.no_end_before - first, list(self.end_ids)] = NEVER
        for position, tokens in self.only.items():
            if first <= position < first + len(logits):
                row, chosen = logits[position - first], torch.tensor(tokens, device=logits.device)
                kept = row[chosen]
                row.fill_(NEVER)
                row[chosen] = kept

    def __bool__(self) -> bool:
        return bool(self.only) or (self.no_end_before > 0 and bool(self.end_ids))


@dataclass(frozen=True, eq=False)
class Region:
    """Answer positions start .. stop - 1 write a text that `constraint` accepts, in exactly so many tokens.

    `only` are the tokens that may stand at some of these positions, counted from the start of the region.
    """

    start: int
    stop: int
    constraint: Constraint
    only: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    def chain(self, device: torch.device | str = "cpu") -> CanvasChain:
        """Raises `InputError` where no text of so many tokens fits."""
        size = self.stop - self.start
        return self.constraint.begin(size, size).open_canvas(size, device, self.only)

    def reader(
        self, device: torch.device | str, bias: Adjust | None = None, top_p: float = 1.0, top: int = 0
    ) -> Constrained:
        return Constrained(self.chain(device), combined(bias, Limits(self.only)), top_p=top_p, top=top)


@dataclass(frozen=True)
class Start:
    """Begin the answer's canvases with these tokens in place of noise, each replaced by a random one with probability
    `strength` (above 0, at most 1), and at the step of the schedule that has this noise level."""

    tokens: tuple[int, ...]
    strength: float


@dataclass(frozen=True)
class Plain(Reader):
    """Reads the model's own distribution, some tokens left out."""

    adjust: Adjust | None
    top_p: float = 1.0
    top: int = 0

    def __call__(self, head: Head, hidden: Tensor, temperature: float, uniforms: Tensor, greedy: bool) -> Prediction:
        full = torch.full((len(hidden),), temperature, device=hidden.device)
        at_best = torch.full((len(hidden),), greedy, device=hidden.device)
        uniforms = uniforms.to(hidden.device)
        return read(head, hidden, full, uniforms, at_best, ReadOptions(self.adjust, self.top_p, self.top))


@dataclass(frozen=True)
class Patchwork(Reader):
    """Reads each region of a canvas through its own chain and what is free beside them plainly.

    Positions outside the regions are only read where `free` [C] says so; at the others, which are pinned, the
    prediction is a blank.
    """

    parts: tuple[tuple[int, int, Reader], ...]  # start, stop, reader
    free: Tensor
    limits: Limits
    bias: Adjust | None = None  # of the free positions; the readers of the parts have their own
    top_p: float = 1.0  # likewise
    top: int = 0

    def __call__(self, head: Head, hidden: Tensor, temperature: float, uniforms: Tensor, greedy: bool) -> Prediction:
        pieces = [
            (torch.arange(a, b), reader(head, hidden[a:b], temperature, uniforms[a:b], greedy))
            for a, b, reader in self.parts
        ]
        rows = self.free.nonzero()[:, 0].cpu()
        if len(rows):
            one_by_one = Limits({}, self.limits.end_ids, int((rows < self.limits.no_end_before).sum()))
            plain = Plain(combined(self.bias, one_by_one), self.top_p, self.top)
            pieces.append((rows, plain(head, hidden[rows], temperature, uniforms[rows], greedy)))
        return _assembled(len(hidden), pieces)


def _assembled(width: int, pieces: list[tuple[Tensor, Prediction]]) -> Prediction:
    """One prediction [width] of predictions at some rows each, zeros elsewhere."""
    columns = []
    for column in fields(Prediction):
        parts = [(rows, getattr(prediction, column.name)) for rows, prediction in pieces]
        whole = torch.zeros(width, *parts[0][1].shape[1:], dtype=parts[0][1].dtype, device=parts[0][1].device)
        for rows, part in parts:
            whole[rows.to(whole.device)] = part.to(whole.dtype)
        columns.append(whole)
    return Prediction(*columns)
