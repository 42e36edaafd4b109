"""Exact inference over one canvas under an automaton: constrained marginals and the most probable path.

The model gives independent scores per position; the automaton couples positions. Conditioning on "the tokens form an
accepted path" leaves a Markov chain over (position, state), so sums over all accepted sequences are sweeps over the
lattice: forward-backward for marginals, Viterbi for the best path. References:
Rabiner 1989 (the recursions); Dang & Ermon, arXiv 2607.07026, and DINGO, arXiv 2505.23061 (on a diffusion canvas).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from diffusiongemma.control.inference.bundles import Bundles
from diffusiongemma.control.inference.evidence import Evidence, TokenBlocks, draw_in_rows, first_maxima, ranges
from diffusiongemma.control.inference.lattice import Lattice
from diffusiongemma.control.inference.sweeps import SetMasses, best_path, set_posterior
from diffusiongemma.control.tokens.automaton import TokenAutomaton


@dataclass(frozen=True, eq=False)
class CanvasChain:
    """The constraint on one canvas: from the state carried in, over exactly `positions` tokens."""

    automaton: TokenAutomaton
    bundles: Bundles
    blocks: TokenBlocks
    lattice: Lattice

    @property
    def positions(self) -> int:
        return self.lattice.positions

    @property
    def start(self) -> int:
        return int(self.lattice.live[0].argmax())

    def posterior(self, scores: torch.Tensor | Evidence) -> Posterior:
        """Each position's distribution given that the whole canvas is accepted.

        scores [C, V]: log-probabilities or logits ÷ temperature, any float type, on the device of `blocks`; a constant
        per row does not matter, -inf counts as very unlikely (structure wins). Where the scores never exist all at
        once, or serve several calls, pass the `Evidence` gathered from them.
        """
        evidence = self._evidence(scores)
        masses = SetMasses.of(evidence.log_mass, self.bundles)
        return Posterior(evidence, masses.by_class(set_posterior(self.lattice, masses.log_in_set)))

    def most_probable_path(self, scores: torch.Tensor | Evidence) -> torch.Tensor:
        """[C] the accepted token sequence with the highest total score (Viterbi); scores [C, V] as for `posterior`."""
        evidence = self._evidence(scores)
        by_set = np.maximum.reduceat(evidence.best[:, self.bundles.classes], self.bundles.first[:-1], axis=1)
        row, items, starts = ranges(self.bundles.first, best_path(self.lattice, by_set))
        classes = self.bundles.classes[items]
        return evidence.most_probable_tokens(classes[first_maxima(evidence.best[row, classes], starts)])

    def _evidence(self, scores: torch.Tensor | Evidence) -> Evidence:
        if isinstance(scores, Evidence):
            return scores
        assert scores.shape == (self.positions, len(self.automaton.class_of_token)), scores.shape
        return Evidence.of(scores, self.blocks)


@dataclass(frozen=True, eq=False)
class Posterior:
    """The constrained marginals of one step: probabilities of classes; within a class tokens follow their scores."""

    evidence: Evidence
    class_probability: np.ndarray  # [C, K] float64, rows sum to 1

    @cached_property
    def block_scale(self) -> np.ndarray:
        """[C, blocks] float32: the probability of each token, over its weight in the evidence."""
        return self.evidence.block_scale(self.class_probability)

    @cached_property
    def entropy(self) -> torch.Tensor:
        """[C] entropy of each position's marginal in nats, float32."""
        scale, evidence = self.block_scale, self.evidence
        log_scale = np.log(np.maximum(scale, np.finfo(np.float32).tiny))
        entropy = -(scale * (evidence.block_mass * log_scale + evidence.block_tilt)).sum(1)
        return torch.from_numpy(np.maximum(entropy, 0)).to(evidence.weight.device)

    def sample(self, uniforms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[C] one token from each position's marginal, drawn independently, and its log probability, float32.

        uniforms [C] in [0, 1).
        """
        probability = self.block_scale * self.evidence.block_mass
        blocks, left = draw_in_rows(probability, as_uniforms(uniforms))
        tokens, weight = self.evidence.drawn_tokens(blocks, left)
        log_p = np.log(self.block_scale[np.arange(len(blocks)), blocks]) + np.log(weight).astype(np.float32)
        return tokens, torch.from_numpy(log_p).to(tokens.device)

    def most_probable(self) -> tuple[torch.Tensor, torch.Tensor]:
        """[C] the most probable token of each position's marginal, and its log probability, float32.

        Together they need not be an accepted path.
        """
        blocks = self.block_scale.argmax(1)  # the best of a block has weight 1
        log_p = np.log(self.block_scale[np.arange(len(blocks)), blocks])
        tokens = self.evidence.best_tokens(blocks)
        return tokens, torch.from_numpy(log_p).to(tokens.device)

    def log_probability(self, tokens: torch.Tensor) -> torch.Tensor:
        """[C] log marginal probability of one token per position (-inf: not possible there), float32."""
        classes = self.evidence.blocks.class_of_token[tokens.cpu().numpy()]
        with np.errstate(divide="ignore"):
            log_class = np.log(self.class_probability[np.arange(len(tokens)), classes])
        log_p = np.where(classes < 0, -np.inf, log_class + self.evidence.log_share_in_class(tokens))
        return torch.from_numpy(log_p.astype(np.float32)).to(tokens.device)

    def token_probabilities(self, rows: slice) -> torch.Tensor:
        """[n, V] float32, the marginals of some positions."""
        blocks, weight = self.evidence.blocks, self.evidence.weight[rows]
        tiles, _, lanes = blocks.tokens.shape
        scale = np.zeros((len(weight), tiles * lanes), np.float32)
        scale[:, : blocks.num_blocks] = self.block_scale[rows]
        of_block = torch.from_numpy(scale).to(weight.device).view(-1, tiles, 1, lanes)
        return (weight * of_block).flatten(1).index_select(1, blocks.slot_of_token)


def as_uniforms(uniforms: torch.Tensor) -> np.ndarray:
    return uniforms.detach().cpu().numpy().astype(np.float64)
