"""How probable a token is by what stands around it, from a model that has seen the token itself."""

from __future__ import annotations

import torch
from torch import Tensor


def leave_one_out(logprob: Tensor, level: float, vocab_size: int) -> Tensor:
    """Log-probability of each token given the *other* positions, from the model's log p(x_i = z_i | z) [N].

    The model predicts the clean x_i from the whole noisy canvas z, position i included. The forward process acts on
    each position alone, so by Bayes

        p(x_i = v | z)  ∝  p(x_i = v | z_others) · q(z_i | x_i = v),

    and dividing by q takes the position's own testimony out again: p(v | z_others) = [p(v | z) / q(z_i | v)] / Σ_w
    [p(w | z) / q(z_i | w)]. The uniform kernel at noise level t has only two values, a = q(z_i | z_i) = 1 - t + t/V and
    b = q(z_i | w) = t/V for every other w. With p = p(z_i | z) all others together have 1 - p, so the sum is
    p/a + (1 - p)/b, and

        p(z_i | z_others) = (p / a) / (p / a + (1 - p) / b) = sigmoid(logit p - log(a / b)).

    `level` is t, above 0 and at most 1; at 1 a canvas says nothing of the text, and nothing is taken off.
    """
    stays = 1 - level + level / vocab_size
    moves = level / vocab_size
    logprob = logprob.double().clamp(max=-1e-12)
    logit = logprob - torch.log(-torch.expm1(logprob))
    return torch.nn.functional.logsigmoid(logit - torch.log(torch.tensor(stays / moves, dtype=torch.float64)))
