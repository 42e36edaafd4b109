"""Constraints at work on a canvas: what a denoise step reads when the answer must match."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffusiongemma.control.chain import CanvasChain, Posterior
from diffusiongemma.control.evidence import Evidence
from diffusiongemma.diffusion.readout import Head, Prediction


@dataclass(frozen=True)
class Constrained:
    """Reads a canvas through its chain: entropies and samples come from the constrained marginals, and the argmax is
    the most probable accepted path, so that whatever step the canvas is committed at, it matches."""

    chain: CanvasChain

    def __call__(self, head: Head, hidden: Tensor, temperature: float, uniforms: Tensor, greedy: bool) -> Prediction:
        """hidden [C, D] of exactly the chain's positions, uniforms [C]."""
        scores = head.logits(hidden).div_(temperature)  # [C, V]
        evidence = Evidence.of(scores, self.chain.blocks)
        posterior = self.chain.posterior(evidence)
        path = self.chain.most_probable_path(evidence)
        sampled = path if greedy else posterior.sample(uniforms)
        return Prediction(
            argmax=path,
            sampled=sampled,
            entropy=posterior.entropy,
            logprob=posterior.log_probability(path),
            sampled_logprob=posterior.log_probability(sampled),
            soft=head.soft_embedding(_probabilities(scores, posterior)),
        )


def _probabilities(scores: Tensor, posterior: Posterior) -> Tensor:
    """[C, V] the constrained marginals; overwrites scores."""
    classes = torch.from_numpy(posterior.evidence.blocks.class_of_token).to(scores.device)  # [V], -1: never allowed
    log_share = torch.from_numpy(posterior.class_probability).log() - torch.from_numpy(posterior.evidence.log_mass)
    log_share = log_share.float().to(scores.device)
    log_share = torch.nn.functional.pad(log_share, (0, 1), value=float("-inf"))  # index -1
    return scores.add_(log_share[:, classes]).exp_()
