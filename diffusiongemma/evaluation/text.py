"""English: how well a model predicts held-out text, and passages for it to continue."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from diffusiongemma.errors import InputError
from diffusiongemma.evaluation.corpora import SOURCES, fetch_corpora
from diffusiongemma.evaluation.held_out import held_out_documents
from diffusiongemma.evaluation.questions import Question, Suite

if TYPE_CHECKING:
    from diffusiongemma.api import DiffusionGemma

PASSAGE = 2000  # characters
PREFIX = 200  # characters of a passage that is to be continued
ROOM = 96  # tokens of a continuation, rounded up to whole canvases
PROSE = ("austen", "bible")  # the sources whose passages are continued, and `OWN`
OWN = "file"
_ROWS = 256  # positions whose logits are held at a time


@dataclass(frozen=True)
class Likelihood:
    """The negative log-likelihood of some text. Bits per byte compare models whose tokenizers differ."""

    nats: float = 0.0
    tokens: int = 0
    bytes: int = 0

    def __add__(self, other: Likelihood) -> Likelihood:
        return Likelihood(self.nats + other.nats, self.tokens + other.tokens, self.bytes + other.bytes)

    @property
    def nats_per_token(self) -> float:
        return self.nats / max(1, self.tokens)

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / max(1, self.bytes)

    @property
    def perplexity(self) -> float:
        return math.exp(min(100.0, self.nats_per_token))

    def as_object(self) -> dict[str, Any]:
        return {
            "nats_per_token": round(self.nats_per_token, 4),
            "bits_per_byte": round(self.bits_per_byte, 4),
            "tokens": self.tokens,
            "bytes": self.bytes,
        }


@dataclass(frozen=True)
class Passage:
    """A piece of a document, cut at line ends where it can be."""

    source: str
    text: str


# --- passages --------------------------------------------------------------------------------------------------------


def check_corpora(names: Sequence[str]) -> None:
    """Raises `InputError` for a name that is no corpus."""
    unknown = sorted(set(names) - set(SOURCES))
    if unknown:
        raise InputError(f"no corpus {unknown[0]!r}: choose {', '.join(SOURCES)}")


def corpus_passages(cache: Path, names: Sequence[str], n: int, seed: int) -> list[Passage]:
    """`n` held-out passages of the corpora kept in or fetched into `cache`, as many of each as there are.

    Raises `InputError` for a name that is no corpus, and when none can be had.
    """
    check_corpora(names)
    with warnings.catch_warnings(record=True) as problems:
        warnings.simplefilter("always")
        corpora = fetch_corpora(cache, tuple(names) or None)
    rng = np.random.default_rng(seed)
    pools = []
    for name, corpus in corpora.items():
        passages = [p for document in held_out_documents(corpus) for p in cut(document, name)]
        pools.append([passages[i] for i in rng.permutation(len(passages))])
    chosen = _in_turn(pools, n)
    if not chosen:
        reason = str(problems[0].message) if problems else "the corpora hold no text"
        raise InputError(f"no held-out text: {reason}: give your own with `file`")
    return chosen


def file_passages(path: Path, n: int | None, seed: int) -> list[Passage]:
    """`n` passages of a text file, or all of it. Raises `InputError`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}: give a text file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text: convert it first") from None
    passages = list(cut(text, OWN))
    if not passages:
        raise InputError(f"{path} is empty: give a file with some text")
    order = np.random.default_rng(seed).permutation(len(passages))
    return [passages[i] for i in order[:n]]


def cut(document: str, source: str) -> Iterator[Passage]:
    """The passages of a document, of up to `PASSAGE` characters each: cut at a paragraph, a line, a word, anywhere."""
    rest = document.strip()
    while rest:
        end = len(rest)
        if end > PASSAGE:
            marks = (rest.rfind(mark, PASSAGE // 2, PASSAGE) for mark in ("\n\n", "\n", " "))
            end = next((at for at in marks if at > 0), PASSAGE)
        yield Passage(source, rest[:end].rstrip())
        rest = rest[end:].lstrip()


def _in_turn(pools: list[list[Passage]], n: int) -> list[Passage]:
    """The first passage of each pool, then the second, … until there are `n`; grouped by pool."""
    taken = [0] * len(pools)
    while sum(taken) < n and any(t < len(pool) for t, pool in zip(taken, pools, strict=True)):
        for i, pool in enumerate(pools):
            if taken[i] < len(pool) and sum(taken) < n:
                taken[i] += 1
    return [passage for count, pool in zip(taken, pools, strict=True) for passage in pool[:count]]


# --- prediction ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def likelihoods(model: DiffusionGemma, passages: Sequence[Passage], batch: int) -> Iterator[Likelihood]:
    """The likelihood of each passage under the encoder: every token predicted from BOS and the true tokens before."""
    for start in range(0, len(passages), batch):
        rows = passages[start : start + batch]
        ids = [torch.tensor(_ids(model, passage.text), device=model.network.device) for passage in rows]
        embeddings = [model.network.backbone.embed(row[:-1]) for row in ids]
        hidden = model.network.encode_rows([model.network.new_sequence() for _ in rows], embeddings)  # [sum S - 1, D]
        nats = _cross_entropies(model, hidden, torch.cat([row[1:] for row in ids]))
        for row, passage, part in zip(ids, rows, nats.split([len(row) - 1 for row in ids]), strict=True):
            yield Likelihood(float(part.double().sum()), len(row) - 1, len(passage.text.encode()))


def _ids(model: DiffusionGemma, text: str) -> list[int]:
    return [model.config.bos_token_id, *model.prompt(text, raw=True).ids]


def _cross_entropies(model: DiffusionGemma, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Nats per token [N], the logits of few positions at a time in memory."""
    parts = [
        F.cross_entropy(model.network.backbone.logits(h), t, reduction="none")
        for h, t in zip(hidden.split(_ROWS), targets.split(_ROWS), strict=True)
    ]
    return torch.cat(parts)


# --- continuation ----------------------------------------------------------------------------------------------------


def continuation_suite(model: DiffusionGemma, passages: Sequence[Passage], n: int) -> tuple[Suite, list[str]]:
    """The first `n` passages of prose, to be continued from their first words, and those words.

    `wanted` is how the human went on, cut to as many tokens as a continuation may have.
    """
    from diffusiongemma.chat import decode

    room = -(-ROOM // model.config.canvas_length) * model.config.canvas_length
    prefixes, questions = [], []
    for passage in [p for p in passages if p.source in (*PROSE, OWN) and len(p.text) >= 3 * PREFIX][:n]:
        space = passage.text.rfind(" ", 1, PREFIX)
        start = space if space > 0 else PREFIX
        prefix, rest = passage.text[:start], passage.text[start:]
        human = decode(model.prompt(rest, raw=True).ids[:room], model.tokenizer)
        prefixes.append(prefix)
        questions.append(Question(_ids(model, prefix), human, score_continuation, passage.source))
    notes = () if questions else (f"no passage of prose is long enough to continue ({3 * PREFIX} characters)",)
    return Suite("text", questions, ("distinct_pairs",), "source", room, notes), prefixes


def score_continuation(text: str) -> dict[str, float]:
    """`distinct_pairs`: different pairs of neighbouring words, as a share; low where a text repeats itself."""
    words = text.split()
    pairs = list(pairwise(words))
    return {"distinct_pairs": len(set(pairs)) / len(pairs) if pairs else 0.0}
