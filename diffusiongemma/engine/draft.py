"""A finished canvas that the encoder checks before it is committed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffusiongemma.diffusion.denoise import Canvas
from diffusiongemma.diffusion.readout import Prediction
from diffusiongemma.engine.output import Output

LOOKED_AT = 32  # of the encoder's most probable tokens; one that is not among them has at most the last one's share
SURPRISE = 4.0  # nats beyond the expected ones


@dataclass
class Draft:
    """What a canvas says, up to its first stop token or the limit, and how much of it the encoder has agreed with.

    Encoding the draft gives, in one pass, what the encoder itself would write at each of its positions. As far as that
    is the draft, the draft stands. From the first other token on, the encoder writes the rest of the canvas. Where only
    canvases that are not sure are checked, that is done if the encoder is surer, where surprising ones are, if one of
    their tokens surprises it: it may know less of a subject.
    """

    canvas: Canvas
    tokens: list[int]
    hidden: Tensor  # [T + 1, D], what the encoder predicts each token from, and the one behind them
    first: int  # position of its first token in the answer
    sent: int = 0  # leading tokens whose text has gone out: they stand
    agreed: int = 0  # leading tokens that the encoder would have written too
    left: bool = False  # the encoder writes on its own
    complete: bool = False  # the answer has all tokens of the canvas, or ends within it

    def is_surer_than(self, predictions: Iterable[Prediction]) -> bool:
        """Whether the canvas gives its tokens more probability, all together, than the encoder gives those that it
        would write in their places, each behind the draft's."""
        assert self.canvas.logprob is not None
        mine = float(self.canvas.logprob[: len(self.tokens)].sum())
        return mine > sum(float(one.logprob) for one in predictions)

    def surprises(self, read: Prediction) -> bool:
        """Whether one of its tokens has less probability than the encoder's own uncertainty there explains: the entropy
        is what a token drawn from the encoder costs on average. `read` [n] has the `top` tokens.

        So a draft stands where the encoder knows nothing, and falls where it knows better (compare typical acceptance,
        Cai et al. 2024).
        """
        tokens = torch.tensor(self.tokens, device=read.top.device)
        told = (read.top == tokens[:, None]) & torch.isfinite(read.top_logprob)
        found = torch.where(told, read.top_logprob, -torch.inf).amax(1)
        logprob = torch.where(told.any(1), found, read.top_logprob[:, -1])
        return bool((-logprob - read.entropy > SURPRISE).any())

    def own_prediction(self, place: int) -> Prediction:
        """What the canvas said of one of its tokens [1], as if it had drawn it."""
        canvas = self.canvas
        assert canvas.prediction is not None and canvas.logprob is not None and canvas.entropy is not None
        one = canvas.prediction.split([1] * len(canvas.tokens))[place]
        return replace(one, sampled=one.argmax, sampled_logprob=canvas.logprob[place], entropy=canvas.entropy[place])

    def place(self, output: Output) -> int:
        """Of the next token of the answer, in the canvas."""
        return len(output.tokens) - self.first

    def write(self, prediction: Prediction, output: Output) -> int:
        """The next token of the answer is what the encoder says, agreeing or not."""
        assert self.canvas.settled is not None
        place = self.place(output)
        token = output.add_token(prediction, self.canvas.step if self.left else int(self.canvas.settled[place]))
        if not self.left:
            self.left = token != self.tokens[place]
            self.agreed += not self.left
        count = place + 1
        self.complete = output.finished or count >= len(self.canvas.tokens)
        if self.complete:
            output.commit_canvas(self.canvas, count, written=count - self.agreed)
        output.send([token] if place >= self.sent else [])
        return token
