"""From hidden states to what a step needs to know of each position, in one chunked pass over the vocabulary."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch
from torch import Tensor

from diffusiongemma.kernels.native import kernels_for_rows_alone, parted, read_in_place, rows_alone
from diffusiongemma.kernels.rows import filled

CHUNK_ELEMENTS = 1 << 24  # logits held at a time: 64 MiB in float32, ...
KERNEL_CHUNK_ELEMENTS = 1 << 26  # ... where weights are unpacked anew for each chunk
NEVER = -1e30  # added up, divided and exponentiated this stays a number, which minus infinity does not
FIRST_LOOK = 256  # a nucleus is mostly found among so many tokens, and the vocabulary need not be sorted


class Head(Protocol):
    config: Any

    @property
    def eight_bits(self) -> bool:
        """Whether kernels multiply it in 8 bits, each row alike in any batch."""
        ...

    @property
    def read_by_kernel(self) -> bool:
        """Whether a kernel reads its logits."""
        ...

    def logits(self, hidden: Tensor) -> Tensor: ...
    def soft_embedding(self, probabilities: Tensor) -> Tensor: ...


@dataclass
class Prediction:
    """What a denoise step says of each position, under its temperature-shaped distribution."""

    argmax: Tensor  # [N] most probable token
    sampled: Tensor  # [N] token drawn at the position's uniform
    entropy: Tensor  # [N] nats
    logprob: Tensor  # [N] of the argmax
    sampled_logprob: Tensor  # [N]
    soft: Tensor  # [N, D] expected embedding; [N, 0] where it was not asked for
    top: Tensor  # [N, k] the most probable tokens, best first
    top_logprob: Tensor  # [N, k]

    def split(self, widths: list[int]) -> list[Prediction]:
        columns = [getattr(self, f.name).split(widths) for f in fields(self)]
        return [Prediction(*row) for row in zip(*columns, strict=True)]


# Changes the logits [n, V] of positions first, first + 1, … in place, before they are divided by the temperature.
Adjust = Callable[[Tensor, int], None]


class Reader:
    """How hidden states are read. This one reads the model's own distribution; others do so under a constraint or leave
    some tokens out. It is made for the positions of one canvas, or of one token."""

    @property
    def positions(self) -> int:
        """The most positions there are to read."""
        return sys.maxsize

    def pinnable(self, tokens: Sequence[int]) -> int:
        """How many of these leading tokens of the canvas can be pinned so that the answer can still match."""
        return len(tokens)

    def answer(self, prediction: Prediction) -> Prediction:
        """The latest prediction with what a commit would write as its argmax."""
        return prediction

    def __call__(self, head: Head, hidden: Tensor, temperature: float, uniforms: Tensor, greedy: bool) -> Prediction:
        """hidden [C, D], uniforms [C] in [0, 1) -> predictions at the C positions."""
        return read_each(head, [Unread(hidden, uniforms, temperature, greedy)])[0]


OWN = Reader()


@dataclass
class Unread:
    """Hidden states to be read, all in one way."""

    hidden: Tensor  # [n, D]
    uniforms: Tensor  # [n] in [0, 1)
    temperature: float
    greedy: bool
    reader: Reader = OWN
    top: int = 0  # how many of the most probable tokens are reported


def read_each(head: Head, unread: Sequence[Unread], want_soft: bool = True) -> list[Prediction]:
    """A prediction for each. Those of the model's own distribution are read in one pass over the vocabulary."""
    parts: dict[int, Prediction] = {}
    for i, one in enumerate(unread):
        if one.reader is not OWN:
            with rows_alone(len(one.hidden) == 1):
                uniforms = one.uniforms.to(one.hidden.device)
                parts[i] = one.reader(head, one.hidden, one.temperature, uniforms, one.greedy)
    own = [one for i, one in enumerate(unread) if i not in parts]
    apart = head.eight_bits and kernels_for_rows_alone() is not None
    alone = [apart and len(one.hidden) == 1 for one in own]
    read_own = iter(parted(alone, lambda mine: _read_together(head, [own[i] for i in mine], want_soft)))
    return [parts[i] if i in parts else next(read_own) for i in range(len(unread))]


def _read_together(head: Head, unread: list[Unread], want_soft: bool) -> list[Prediction]:
    device, widths = unread[0].hidden.device, [len(one.hidden) for one in unread]
    packed = read(
        head,
        torch.cat([one.hidden for one in unread]),
        _spread([one.temperature for one in unread], widths, torch.float32).to(device),
        torch.cat([one.uniforms for one in unread]).to(device),
        _spread([one.greedy for one in unread], widths, torch.bool).to(device),
        ReadOptions(top=max(one.top for one in unread), want_soft=want_soft),
    )
    return packed.split(widths)


def _spread(values: list[float], widths: list[int], dtype: torch.dtype) -> Tensor:
    return torch.tensor(values, dtype=dtype).repeat_interleave(torch.tensor(widths))


@dataclass(frozen=True)
class ReadOptions:
    """What `read` makes of the logits."""

    adjust: Adjust | None = None  # may change them first
    top_p: float = 1.0  # below 1 cuts each distribution down to its nucleus
    top: int = 0  # how many of the most probable tokens are reported
    want_soft: bool = True


def read(
    head: Head,
    hidden: Tensor,
    temperature: Tensor,
    uniforms: Tensor,
    greedy: Tensor,
    options: ReadOptions = ReadOptions(),
) -> Prediction:
    """Predictions at N positions; a bounded number of logits exists at a time, however large the vocabulary.

    hidden [N, D], temperature [N], uniforms [N] in [0, 1) -> Prediction. Where `greedy` [N] is set the sampled
    token is the argmax.
    """
    fast = getattr(head, "fast", None)
    if fast is not None and options.adjust is None and options.top_p >= 1 and not options.top:
        return _joined(fast.read(hidden, temperature, uniforms, greedy, options.want_soft))
    rows = max(1, (KERNEL_CHUNK_ELEMENTS if head.read_by_kernel else CHUNK_ELEMENTS) // head.config.vocab_size)
    chunks = zip(*(x.split(rows) for x in (hidden, temperature, uniforms, greedy)), strict=True)
    parts = [read_chunk(head, h, t, u, g, i * rows, options) for i, (h, t, u, g) in enumerate(chunks)]
    return Prediction(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Prediction)))


def _joined(parts: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]]) -> Prediction:
    """Of what `gpu.passes` reads."""
    argmax, drawn, numbers, soft = (torch.cat(column, dim=-2 if i == 3 else -1) for i, column in enumerate(zip(*parts)))  # noqa: B905
    entropy, logprob, drawn_logprob = numbers[:3].unbind(0)
    none = argmax[:, None][:, :0]
    return Prediction(argmax, drawn, entropy, logprob, drawn_logprob, soft, none, entropy[:, None][:, :0])


def read_chunk(
    head: Head,
    hidden: Tensor,
    temperature: Tensor,
    uniforms: Tensor,
    greedy: Tensor,
    first: int,
    options: ReadOptions,
) -> Prediction:
    """`read` of positions first, first + 1, …"""
    shaped = head.logits(hidden if head.eight_bits else filled(hidden))[: len(hidden)]  # [n, V]
    if options.adjust is not None:
        options.adjust(shaped, first)
    if head.read_by_kernel and options.top_p >= 1:
        return _read_by_kernel(head, hidden, shaped, temperature, uniforms, greedy, options)
    shaped = keep_nucleus(shaped.div_(temperature[:, None]), options.top_p)
    best, argmax = shaped.max(-1)
    probabilities = shaped.sub_(best[:, None])
    entropy = _entropy(probabilities)
    probabilities = probabilities.exp_()
    total = probabilities.sum(-1)
    probabilities /= total[:, None]
    soft = head.soft_embedding(filled(probabilities))[: len(hidden)] if options.want_soft else hidden[:, :0]
    sampled = torch.where(greedy, argmax, inverse_cdf(probabilities, uniforms))
    sampled_logprob = probabilities.gather(1, sampled[:, None])[:, 0].log()
    top = most_probable(probabilities, options.top)
    return Prediction(argmax, sampled, entropy, -total.log(), sampled_logprob, soft, *top)


def _read_by_kernel(
    head: Head,
    hidden: Tensor,
    logits: Tensor,
    temperature: Tensor,
    uniforms: Tensor,
    greedy: Tensor,
    options: ReadOptions,
) -> Prediction:
    """The same by two passes over the logits in place of a dozen."""
    argmax, sampled, entropy, logprob, sampled_logprob = read_in_place(logits, temperature, uniforms, greedy)
    shares = logits if head.eight_bits else filled(logits)
    soft = head.soft_embedding(shares)[: len(hidden)] if options.want_soft else hidden[:, :0]
    top = most_probable(logits, options.top)
    return Prediction(argmax, sampled, entropy, logprob, sampled_logprob, soft, *top)


def probabilities_of(head: Head, scores: Tensor) -> Tensor:
    """Those of scores [n, V], which are lost; by the kernel that reads the head's logits, if one does."""
    if not head.read_by_kernel:
        return scores.softmax(-1)
    ones = scores.new_ones(len(scores))
    read_in_place(scores, ones, ones / 2, ones > 0)
    return scores


def most_probable(probabilities: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` most probable tokens [n, count] under probabilities [n, V], and their log-probabilities."""
    best, tokens = probabilities.topk(min(count, probabilities.shape[-1]))
    return tokens, best.log()


def keep_nucleus(scores: Tensor, top_p: float) -> Tensor:
    """Leave of each row of log-scores [n, V] the fewest tokens that hold `top_p` of its probability, in place.

    The best one stays in any case, and so do those as probable as the last that is needed.
    """
    if top_p >= 1:
        return scores
    probabilities = scores.softmax(-1)
    best = probabilities.topk(min(FIRST_LOOK, probabilities.shape[-1])).values
    if bool((best.sum(-1) < top_p).any()):
        best = probabilities.sort(-1, descending=True).values
    before = best.cumsum(-1) - best
    needed = (before < top_p).sum(-1).clamp(min=1)
    last = best.gather(1, needed[:, None] - 1)
    return scores.masked_fill_(probabilities < last, NEVER)


def _entropy(shifted: Tensor) -> Tensor:  # logits minus their maximum [n, V] -> [n]
    weights = shifted.exp()
    total = weights.sum(-1)
    return total.log() - (weights.mul_(shifted)).sum(-1) / total


def inverse_cdf(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """The token at which the cumulative probability [n, V] passes uniforms [n] -> [n]."""
    cumulative = probabilities.cumsum(-1)
    # Rounding leaves the last sum a little off one. Staying below it keeps the search off trailing tokens of
    # probability zero.
    total = cumulative[:, -1]
    targets = torch.minimum(uniforms.to(total.dtype) * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, targets[:, None], right=True)[:, 0]
