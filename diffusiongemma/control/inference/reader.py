"""Constraints at work on a canvas: what a denoise step reads when the answer must match."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from diffusiongemma.control.inference.chain import CanvasChain, Posterior
from diffusiongemma.control.inference.evidence import Evidence
from diffusiongemma.control.languages.dfa import DEAD
from diffusiongemma.diffusion.readout import (
    CHUNK_ELEMENTS,
    KERNEL_CHUNK_ELEMENTS,
    Adjust,
    Head,
    Prediction,
    Reader,
    keep_nucleus,
    most_probable,
    probabilities_of,
)


@dataclass(eq=False)
class Constrained(Reader):
    """Reads a canvas through its chain: entropies and samples are those of the constrained marginals. Soft embeddings
    are the model's own, on which its self-conditioner was trained: the marginals put the evidence of all positions
    together as if each were independent, and a model that is told so sure a guess does not correct it any more.

    With `paths` every argmax is the most probable accepted path. Without, it is that of each position's marginal,
    which together need not match, and `answer` gives the path of the latest step: a Viterbi pass less for each step
    that is neither the last nor shown to anybody. Of all scores one [C, V] tensor of weights is kept, until the next.
    """

    chain: CanvasChain
    adjust: Adjust | None = None  # of the logits, before the temperature
    paths: bool = True
    top_p: float = 1.0  # of the model's own distribution, before the constraint
    top: int = 0
    _latest: Posterior | None = field(default=None, init=False, repr=False)

    @property
    def positions(self) -> int:
        return self.chain.positions

    def pinnable(self, tokens: Sequence[int]) -> int:
        state = self.chain.start
        for count, (token, live) in enumerate(zip(tokens, self.chain.lattice.live[1:], strict=False)):
            state = self.chain.automaton.advance(state, token)
            if state == DEAD or not live[state]:
                return count
        return len(tokens)

    def __call__(self, head: Head, hidden: Tensor, temperature: float, uniforms: Tensor, greedy: bool) -> Prediction:
        """hidden [C, D] of exactly the chain's positions, uniforms [C]."""
        soft: list[Tensor] = []
        scores = self._scores(head, hidden, temperature, soft)
        weight = None if self._latest is None else self._latest.evidence.weight
        posterior = self.chain.posterior(Evidence.gathered(scores, len(hidden), self.chain.blocks, weight))
        self._latest = posterior
        argmax, logprob = posterior.most_probable()
        sampled, sampled_logprob = (argmax, logprob) if greedy else posterior.sample(uniforms)
        top, top_logprob = self._top(posterior, len(hidden))
        prediction = Prediction(
            argmax=argmax,
            sampled=sampled,
            entropy=posterior.entropy,
            logprob=logprob,
            sampled_logprob=sampled_logprob,
            soft=torch.cat(soft),
            top=top,
            top_logprob=top_logprob,
        )
        return self._with_path(prediction) if self.paths else prediction

    def answer(self, prediction: Prediction) -> Prediction:
        """With the most probable accepted path."""
        if self.paths:
            return prediction
        return self._with_path(prediction)

    def _with_path(self, prediction: Prediction) -> Prediction:
        posterior = self._latest
        assert posterior is not None, "nothing has been read"
        path = self.chain.most_probable_path(posterior.evidence)
        return replace(prediction, argmax=path, logprob=posterior.log_probability(path))

    def _rows(self, elements: int) -> int:
        """How many rows of the vocabulary hold so many elements."""
        return max(1, elements // len(self.chain.automaton.class_of_token))

    def _scores(self, head: Head, hidden: Tensor, temperature: float, soft: list[Tensor]) -> Iterator[Tensor]:
        """[n, V] of some positions at a time: logits, adjusted, divided by the temperature. They become probabilities
        once they have been used, and give `soft` [n, D]."""
        rows = self._rows(KERNEL_CHUNK_ELEMENTS if head.read_by_kernel else CHUNK_ELEMENTS)
        for first in range(0, len(hidden), rows):
            logits = head.logits(hidden[first : first + rows])
            if self.adjust is not None:
                self.adjust(logits, first)
            scores = keep_nucleus(logits.div_(temperature), self.top_p)
            yield scores
            soft.append(head.soft_embedding(probabilities_of(head, scores)))

    def _top(self, posterior: Posterior, positions: int) -> tuple[Tensor, Tensor]:
        """The most probable tokens [C, k] under the constraint, and their log-probabilities."""
        rows = self._rows(CHUNK_ELEMENTS)
        if not self.top:
            none = posterior.evidence.weight.new_zeros(positions, 0)
            return none.long(), none
        parts = [slice(first, first + rows) for first in range(0, positions, rows)]
        tops = [most_probable(posterior.token_probabilities(part), self.top) for part in parts]
        tokens, logprobs = zip(*tops, strict=True)
        return torch.cat(tokens), torch.cat(logprobs)
