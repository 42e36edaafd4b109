"""Plain English to continue, from the corpora's training documents, tokenised once and kept in a file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffusiongemma.config import ModelConfig
from diffusiongemma.evaluation.corpora import Corpus
from diffusiongemma.evaluation.held_out import training_documents
from diffusiongemma.files import written_whole
from diffusiongemma.train.data import Tokenised, fill_canvases, tokenise

SHORTEST, LONGEST = 12, 160  # tokens of a passage that stand before its continuation
REQUESTS = ("Continue this text.", "Go on with this text.", "Write what comes next.", "How does this go on?")
_SENTENCE_END = re.compile(r"[.!?][\"'”’]*(?=\s|$)")


@dataclass(frozen=True)
class Prose:
    """Tokens of all documents in a row [T], and where lines begin [L] and documents end [L] (of each such line)."""

    tokens: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    @classmethod
    def load_or_build(cls, corpora: Sequence[Corpus], tokenizer: Any, cache: Path) -> Prose:
        """The training documents of `corpora`; kept in `cache` by their versions and the tokenizer."""
        identity = [f"{c.name} {c.version}" for c in corpora] + [tokenizer.backend_tokenizer.to_str()]
        path = cache / f"prose-{hashlib.blake2b(repr(identity).encode(), digest_size=6).hexdigest()}.npz"
        if not path.exists():
            cache.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as file:
                np.savez_compressed(file, **vars(cls.build(corpora, tokenizer)))
        with np.load(path) as file:
            return cls(file["tokens"], file["starts"], file["ends"])

    @classmethod
    def build(cls, corpora: Sequence[Corpus], tokenizer: Any) -> Prose:
        newline = tokenizer.encode("\n", add_special_tokens=False)[0]
        tokens, starts, ends, offset = [], [], [], 0
        documents = [document for corpus in corpora for document in training_documents(corpus)]
        for ids in tokenizer(documents, add_special_tokens=False, verbose=False).input_ids:
            row = np.array(ids, np.uint32)
            lines = np.flatnonzero(np.concatenate([[True], row[:-1] == newline]) & (row != newline))
            lines = lines[lines < len(row) - SHORTEST]
            tokens.append(row)
            starts.append(lines + offset)
            ends.append(np.full(len(lines), offset + len(row)))
            offset += len(row)
        return cls(np.concatenate(tokens), np.concatenate(starts), np.concatenate(ends))

    def passage(self, rng: np.random.Generator, following: int) -> tuple[list[int], list[int], bool]:
        """(tokens from the beginning of a line, up to `following` tokens after them, whether the document ends)."""
        line = int(rng.integers(len(self.starts)))
        start, end = int(self.starts[line]), int(self.ends[line])
        cut = start + int(rng.integers(SHORTEST, min(LONGEST, end - start - 1) + 1))
        rest = self.tokens[cut : min(end, cut + following)]
        return self.tokens[start:cut].tolist(), rest.tolist(), cut + following >= end


def continuations(
    prose: Prose, tokenizer: Any, config: ModelConfig, rng: np.random.Generator, count: int
) -> list[Tokenised]:
    """`count` passages without markup behind a BOS, and the canvas that follows; both are for the encoder to learn."""
    examples = []
    for _ in range(count):
        before, after, ended = prose.passage(rng, config.canvas_length)
        after += [tokenizer.eos_token_id] * (ended and len(after) < config.canvas_length)
        examples.append(Tokenised([config.bos_token_id, *before], fill_canvases(after, config), len(after), True))
    return examples


def requested_continuations(
    prose: Prose, tokenizer: Any, config: ModelConfig, rng: np.random.Generator, count: int
) -> list[Tokenised]:
    """The same as a request in a chat; answers end with a sentence."""
    pairs: list[tuple[str, str]] = []
    while len(pairs) < count:
        before, after, _ = prose.passage(rng, config.canvas_length - 2)
        text, answer = tokenizer.decode(before), tokenizer.decode(after)
        last = [match.end() for match in _SENTENCE_END.finditer(answer)]
        # Cut between words, so that the answer needs no leading space.
        if last and answer[:1].isspace() and text.strip():
            request = REQUESTS[int(rng.integers(len(REQUESTS)))]
            pairs.append((f"{request}\n\n{text.strip()}", answer[: last[-1]].strip()))
    return tokenise(pairs, tokenizer, config)
