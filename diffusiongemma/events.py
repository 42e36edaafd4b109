"""The events of a generation: one stream feeds terminal, server, page, benchmarks and replay."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from diffusiongemma.chat.reply import ToolCall

Alternatives = tuple[tuple[int, float], ...]  # tokens and log-probabilities


@dataclass(frozen=True)
class CanvasStep:
    """One denoise step of one canvas. Arrays have one entry per canvas position."""

    canvas: int  # 0 is the first
    step: int  # 1 is the first
    tokens: NDArray[np.int32]  # [C] int32, the canvas after the step: accepted tokens, fresh noise elsewhere
    argmax: NDArray[np.int32]  # [C] int32, the most probable tokens
    accepted: NDArray[np.bool_]  # [C] bool
    entropy: NDArray[np.float32]  # [C] float32, nats
    temperature: float
    seconds: float
    request: int = 0
    pinned: NDArray[np.bool_] = field(
        default_factory=lambda: np.zeros(0, np.bool_)
    )  # [C] bool, after the step; [0] if none
    sent: int = 0  # the text of so many leading positions has gone out
    read: NDArray[np.int32] = field(
        default_factory=lambda: np.zeros(0, np.int32)
    )  # [C] int32, the noise (and pins) that the first step of a canvas read; [0] in other steps


@dataclass(frozen=True)
class CanvasCommitted:
    """A finished canvas, cut at its first stop token or at the token limit. In autoregressive mode: one token.

    The last ones run parallel to `tokens` and mean what they mean in `Result`.
    """

    canvas: int
    tokens: tuple[int, ...]
    steps: int
    converged: bool  # False when the steps ran out, or patience did
    request: int = 0
    logprobs: tuple[float, ...] = ()
    entropies: tuple[float, ...] = ()
    settled: tuple[int, ...] = ()
    alternatives: tuple[Alternatives, ...] = ()
    written: int = 0  # tokens at the end that the encoder wrote in place of the canvas's, having checked it


@dataclass(frozen=True)
class TextDelta:
    """Text of the answer, and of the thought before it, that will not change any more."""

    text: str
    thinking: str = ""
    request: int = 0


@dataclass(frozen=True)
class Finished:
    result: Result
    request: int = 0


Event = CanvasStep | CanvasCommitted | TextDelta | Finished


def _span(text: str, entropy: float, logprob: float) -> str:
    share = min(1.0, math.log2(1 + 8 * max(0.0, entropy)) / 5.8)  # the scale of the page
    title = f"entropy {entropy:.3f} nats, probability {math.exp(min(0.0, logprob)):.3f}"
    colour = f"background:rgba(214,90,30,{0.65 * share:.2f})"
    return f'<span style="{colour}" title="{title}">{html.escape(text)}</span>'


@dataclass(frozen=True, repr=False)
class Result:
    """One finished request. Per-token tuples run parallel to `tokens`, which includes the stop token if there is one.

    `logprobs` and `entropies` are of the distribution each token was committed from (temperature-shaped, nats);
    `settled` is the step since which the position's most probable token did not change. `alternatives`, where
    `top_logprobs` asked for them, are the most probable tokens and their log-probabilities, best first.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: str  # "stop" (also where what the answer must match is complete at the limit), "length", "cancelled"
    mode: str
    seed: int
    canvases: int
    steps: tuple[int, ...]  # denoise steps of each canvas
    forward_passes: int  # denoise steps, and the encodes of committed tokens that later ones needed
    seconds: float
    converged: tuple[bool, ...] = ()  # of each canvas: False where its steps ran out, or patience did
    checked: int = 0  # canvases that the encoder checked
    written_by_encoder: int = 0  # tokens of diffusion mode that the encoder wrote, having left a canvas it checked
    logprobs: tuple[float, ...] = ()
    entropies: tuple[float, ...] = ()
    settled: tuple[int, ...] = ()
    alternatives: tuple[Alternatives, ...] = ()
    label_logprobs: tuple[float, ...] = ()  # of the labels that a decision asked about, as the last step read them
    prompt_tokens: int = 0
    cached_tokens: int = 0  # prompt tokens that were already encoded
    thinking: str | None = None
    warnings: tuple[str, ...] = ()  # what of the structure asked for constrains nothing, or is written in part
    tool_calls: tuple[ToolCall, ...] = ()
    note: str = ""  # why `auto` chose this mode
    trace: tuple[CanvasStep, ...] = field(default=(), repr=False)
    token_texts: tuple[str, ...] = field(default=(), repr=False, compare=False)  # of each token, from `generate`

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= 60 else self.text[:57] + "…"
        steps = f"{sum(self.steps)} steps, " if self.mode != "ar" else "token by token, "
        facts = (
            f"{len(self.tokens)} tokens, {steps}{self.tokens_per_forward:.1f} tokens per forward, {self.seconds:.2f} s"
        )
        return f"<Result {text!r}: {facts}, seed {self.seed}, {self.finish_reason}>"

    def _repr_html_(self) -> str:
        """For notebooks: the text, each token on a colour that says how unsure the model was of it."""
        pieces = zip(self.token_texts, self.entropies, self.logprobs, strict=False)
        spans = "".join(_span(text, entropy, logprob) for text, entropy, logprob in pieces)
        shown = spans or html.escape(self.text)
        return f'<pre style="white-space:pre-wrap">{shown}</pre><small>{html.escape(repr(self))}</small>'

    @property
    def tokens_per_forward(self) -> float:
        return len(self.tokens) / self.forward_passes if self.forward_passes else 0.0
