"""What changes logits before they are divided by the temperature: cuts and penalties. Each is a value, and a call
changes logits [n, V] of positions first, first + 1, … in place."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusiongemma.diffusion.readout import NEVER

UNSETTLED = -1
# The canvas's own tokens [C] as far as they have settled, UNSETTLED elsewhere; None where no canvas is open.
Settled = Callable[[], Tensor | None]


@dataclass(frozen=True)
class Cut:
    """Leaves the `top_k` most probable tokens of each position (0: all), and of them those at least `min_p` times as
    probable as the most probable one. Tokens as probable as the last of them stay too."""

    top_k: int = 0
    min_p: float = 0.0

    def __bool__(self) -> bool:
        return self.top_k > 0 or self.min_p > 0

    def __call__(self, logits: Tensor, first: int) -> None:
        best = logits.topk(min(self.top_k or 1, logits.shape[-1])).values  # [n, k]
        least = best[:, -1:] if self.top_k else torch.full_like(best[:, :1], -math.inf)
        if self.min_p:
            least = torch.maximum(least, best[:, :1] + math.log(self.min_p))
        logits.masked_fill_(logits < least, NEVER)


@dataclass(frozen=True)
class Penalties:
    """Make tokens less likely that have been written: by `frequency` for each time and `presence` once, both taken from
    the logits, and by `repetition`, which divides logits above 0 and multiplies those below, in the prompt too.

    Written is what is committed, and on the open canvas every other position whose most probable token has settled.
    """

    frequency: float = 0.0
    presence: float = 0.0
    repetition: float = 1.0

    def __bool__(self) -> bool:
        return self != Penalties()

    def over(self, prompt: Sequence[int], written: Sequence[int], settled: Settled) -> Penalised:
        """The change that these make, where `prompt` and `written` stand before the canvas."""
        return Penalised(self, tuple(prompt) if self.repetition != 1 else (), tuple(written), settled)


@dataclass(frozen=True)
class Penalised:
    """Penalties of one canvas, or of one token."""

    penalties: Penalties
    prompt: tuple[int, ...]
    written: tuple[int, ...]
    settled: Settled

    def __call__(self, logits: Tensor, first: int) -> None:
        canvas = self.settled()
        tokens = self._tokens(canvas, logits.device)  # [T] all that count, each once
        counts = self._counts(tokens, canvas, len(logits), first)  # [n, T]
        said = counts > 0
        penalised = logits[:, tokens] - self.penalties.frequency * counts - self.penalties.presence * said
        if self.penalties.repetition != 1:
            said |= torch.isin(tokens, torch.tensor(self.prompt, device=tokens.device))
            factor = torch.where(penalised > 0, 1 / self.penalties.repetition, self.penalties.repetition)
            penalised = torch.where(said, penalised * factor, penalised)
        logits[:, tokens] = penalised

    def _tokens(self, canvas: Tensor | None, device: torch.device) -> Tensor:
        before = torch.tensor([*self.prompt, *self.written], dtype=torch.long, device=device)
        return before.unique() if canvas is None else torch.cat([before, canvas[canvas != UNSETTLED]]).unique()

    def _counts(self, tokens: Tensor, canvas: Tensor | None, rows: int, first: int) -> Tensor:
        """How often each token was written, as each of the next positions sees it: none counts itself."""
        written = torch.tensor(self.written, dtype=torch.long, device=tokens.device)
        counts = (written[:, None] == tokens).sum(0).float().repeat(rows, 1)
        if canvas is None:
            return counts
        there = canvas[:, None] == tokens  # [C, T]
        return counts + there.sum(0) - there[first : first + rows].float()
