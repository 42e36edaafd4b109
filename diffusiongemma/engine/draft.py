"""A finished canvas that the encoder checks before it is committed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import Tensor

from diffusiongemma.diffusion.denoise import Canvas
from diffusiongemma.diffusion.readout import Prediction


@dataclass
class Draft:
    """What a canvas says, up to its first stop token or the limit, and how much of it the encoder has read.

    Encoding the draft gives, in one pass, what the encoder itself would write at each of its positions. As far as that
    is the draft, the draft stands. From the first other token on, the encoder writes the rest of the canvas. Where only
    canvases that are not sure are checked, that is done if the encoder is surer: it may know less of a subject.
    """

    canvas: Canvas
    tokens: list[int]
    behind: Tensor  # [D], what the encoder predicts the first token from
    first: int  # position of that token in the answer
    agreed: int = 0  # leading tokens that the encoder would have written too
    left: bool = False  # the encoder writes on its own

    def is_surer_than(self, predictions: Iterable[Prediction]) -> bool:
        """Whether the canvas gives its tokens more probability, all together, than the encoder gives those that it
        would write in their places, each behind the draft's."""
        assert self.canvas.logprob is not None
        mine = float(self.canvas.logprob[: len(self.tokens)].sum())
        return mine > sum(float(one.logprob) for one in predictions)

    def sent(self, place: int) -> tuple[int, Prediction]:
        """A token whose text has gone out, and what the canvas said of it: it stands."""
        canvas = self.canvas
        assert canvas.prediction is not None and canvas.logprob is not None and canvas.entropy is not None
        one = canvas.prediction.split([1] * len(canvas.tokens))[place]
        one = replace(one, sampled_logprob=canvas.logprob[place], entropy=canvas.entropy[place])
        return self.tokens[place], one

    def is_full_at(self, count: int) -> bool:
        """Whether `count` tokens of the answer are all that the canvas has places for."""
        return count - self.first >= len(self.canvas.tokens)
