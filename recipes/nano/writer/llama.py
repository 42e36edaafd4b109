"""Many texts at once from a GGUF file through llama.cpp, on one thread: a sequence each, a token of all a step."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

MARGIN = 15.0  # nats below the best token; what is less likely adds nothing to a sum of probabilities
MIN_P = 0.06  # tokens less likely than so much of the likeliest are never taken


@dataclass(frozen=True)
class Order:
    """What to write: a user's turn behind earlier exchanges (the same ones for many orders are read once)."""

    number: int
    prompt: str
    shots: tuple[tuple[str, str], ...] = ()
    tokens: int = 64
    temperature: float = 0.8


@dataclass(frozen=True)
class Draft:
    """What was written, the mean log-likelihood of its tokens at temperature 1, and whether it ended of itself."""

    text: str
    likelihood: float
    tokens: int
    ended: bool


@dataclass
class _Sequence:
    order: Order
    slot: int
    position: int
    uniforms: np.ndarray
    tokens: list[int] = field(default_factory=list)
    likelihood: float = 0.0


class Llama:
    """A chat model with `slots` sequences of at most `room` tokens, and one more for each kind of beginning."""

    def __init__(self, model: Path, slots: int = 48, room: int = 320, beginnings: int = 16, seed: int = 0):
        llama_cpp.llama_log_set(_SILENT, ctypes.c_void_p())
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(str(model).encode(), parameters)
        options = llama_cpp.llama_context_default_params()
        options.n_seq_max = slots + beginnings
        options.n_ctx = room * options.n_seq_max
        options.n_batch = options.n_ubatch = 512
        options.n_threads = options.n_threads_batch = 1
        options.kv_unified = False  # else every sequence would look at the keys of all
        self.context = llama_cpp.llama_init_from_model(self.model, options)
        if not self.context:
            raise RuntimeError(f"llama.cpp cannot read {model}")
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        self.size = llama_cpp.llama_vocab_n_tokens(self.vocabulary)
        self.batch = llama_cpp.llama_batch_init(512, 0, 1)
        self.slots, self.room, self.seed = slots, room, seed
        self.prompt_slot, *self.free_beginnings = range(slots, slots + beginnings)
        self.prompt: tuple[Any, int, np.ndarray] | None = None  # what is read there, its length, what comes next [1, V]
        self.beginnings: dict[tuple[tuple[str, str], ...], tuple[int, int]] = {}  # its slot and length
        self.pieces: dict[int, bytes] = {}

    def write(self, orders: Iterator[Order]) -> Iterator[tuple[Order, Draft]]:
        """Every order with its draft, as they are finished."""
        active: list[_Sequence] = []
        free = list(range(self.slots))
        more = True
        while active or more:
            while free and more:
                order = next(orders, None)
                more = order is not None
                if order is not None:
                    sequence, ended = self._open(order, free.pop())
                    if ended:
                        free.append(sequence.slot)
                        yield order, self._draft(sequence, True)
                    else:
                        active.append(sequence)
            if not active:
                break
            logits = self._decode([(s.slot, s.position, s.tokens[-1], True) for s in active])
            going = []
            for sequence, row in zip(active, self._choose(active, logits), strict=True):
                sequence.position += 1
                ended = self._take(sequence, *row)
                if ended or len(sequence.tokens) >= sequence.order.tokens:
                    free.append(sequence.slot)
                    yield sequence.order, self._draft(sequence, ended)
                else:
                    going.append(sequence)
            active = going

    # --- one sequence -----------------------------------------------------------------------------------------------

    def _open(self, order: Order, slot: int) -> tuple[_Sequence, bool]:
        """The sequence with its first token, and whether that ends it already."""
        if self.prompt is None or self.prompt[0] != (order.shots, order.prompt):
            self.prompt = (order.shots, order.prompt), *self._read(order)
        _, length, logits = self.prompt
        self._copy(self.prompt_slot, slot)
        uniforms = np.random.default_rng((self.seed, order.number)).random(order.tokens + 1)
        sequence = _Sequence(order, slot, length, uniforms)
        ((token, likelihood),) = self._choose([sequence], logits)
        return sequence, self._take(sequence, token, likelihood)

    def _read(self, order: Order) -> tuple[int, np.ndarray]:
        """Reads a prompt into its slot, from where it is copied for every text that answers it."""
        position = self._begin(order.shots) if order.shots else self._clear(self.prompt_slot)
        ids = self.tokenise(f"<|im_start|>user\n{order.prompt}<|im_end|>\n<|im_start|>assistant\n")
        ids = ids[: self.room - position - order.tokens - 1]
        return position + len(ids), self._decode_row(self.prompt_slot, position, ids)

    def _begin(self, shots: tuple[tuple[str, str], ...]) -> int:
        """Copies the keys of these exchanges to the prompt's slot; their length."""
        if shots not in self.beginnings:
            text = "".join(
                f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"
                for asked, answer in shots
            )
            ids, at = self.tokenise(text), self.free_beginnings.pop()
            self._decode_row(at, 0, ids)
            self.beginnings[shots] = at, len(ids)
        at, length = self.beginnings[shots]
        self._copy(at, self.prompt_slot)
        return length

    def _clear(self, slot: int) -> int:
        llama_cpp.llama_memory_seq_rm(self.memory, slot, -1, -1)
        return 0

    def _copy(self, source: int, slot: int) -> None:
        self._clear(slot)
        llama_cpp.llama_memory_seq_cp(self.memory, source, slot, -1, -1)

    def _take(self, sequence: _Sequence, token: int, likelihood: float) -> bool:
        """Adds a token, unless it ends the text."""
        sequence.likelihood += likelihood
        if llama_cpp.llama_vocab_is_eog(self.vocabulary, token):
            return True
        sequence.tokens.append(token)
        return False

    def _draft(self, sequence: _Sequence, ended: bool) -> Draft:
        count = len(sequence.tokens) + ended
        text = b"".join(map(self._piece, sequence.tokens)).decode("utf-8", "replace")
        return Draft(text, sequence.likelihood / max(1, count), len(sequence.tokens), ended)

    # --- one step ---------------------------------------------------------------------------------------------------

    def _decode(self, tokens: list[tuple[int, int, int, bool]]) -> np.ndarray:
        """(slot, position, token, whether its logits are wanted) -> logits [wanted, V]"""
        batch = self.batch
        batch.n_tokens = len(tokens)
        for i, (slot, position, token, wanted) in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, wanted
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, slot
        status = llama_cpp.llama_decode(self.context, batch)
        if status != 0:
            raise RuntimeError(f"llama_decode: {status}")
        logits = llama_cpp.llama_get_logits(self.context)
        return np.ctypeslib.as_array(logits, (sum(row[3] for row in tokens), self.size))

    def _decode_row(self, slot: int, position: int, ids: list[int]) -> np.ndarray:
        """Tokens of one sequence -> logits [1, V] behind the last."""
        last = len(ids) - 1
        return self._decode([(slot, position + i, token, i == last) for i, token in enumerate(ids)]).copy()

    def _choose(self, sequences: list[_Sequence], logits: np.ndarray) -> list[tuple[int, float]]:
        """A token for each row of logits [n, V], with its log-likelihood at temperature 1."""
        best = logits.max(-1)
        rows, columns = np.nonzero(logits > (best - MARGIN)[:, None])
        bounds = np.searchsorted(rows, np.arange(len(sequences) + 1))
        chosen = []
        for i, sequence in enumerate(sequences):
            ids = columns[bounds[i] : bounds[i + 1]]
            scores = logits[i, ids].astype(np.float64) - best[i]
            total = np.log(np.exp(scores).sum())
            likely = scores > np.log(MIN_P)
            ids, scores = ids[likely], scores[likely]
            weights = np.exp(scores / sequence.order.temperature).cumsum()
            pick = int(np.searchsorted(weights, sequence.uniforms[len(sequence.tokens)] * weights[-1]))
            pick = min(pick, len(ids) - 1)
            chosen.append((int(ids[pick]), float(scores[pick] - total)))
        return chosen

    # --- text -------------------------------------------------------------------------------------------------------

    def tokenise(self, text: str) -> list[int]:
        data = text.encode()
        ids = (llama_cpp.llama_token * (len(data) + 8))()
        count = llama_cpp.llama_tokenize(self.vocabulary, data, len(data), ids, len(ids), False, True)
        return list(ids[:count])

    def _piece(self, token: int) -> bytes:
        if token not in self.pieces:
            buffer = ctypes.create_string_buffer(64)
            length = llama_cpp.llama_token_to_piece(self.vocabulary, token, buffer, 64, 0, False)
            self.pieces[token] = buffer.raw[: max(0, length)]
        return self.pieces[token]


@llama_cpp.llama_log_callback
def _SILENT(_level: int, _text: bytes, _data: Any) -> None:
    pass


def requantised(model: Path, out: Path, kind: int) -> Path:
    """`model` in another of llama.cpp's formats (`LLAMA_FTYPE_…`), which may be faster to compute with."""
    if not out.exists():
        parameters = llama_cpp.llama_model_quantize_default_params()
        parameters.ftype, parameters.nthread, parameters.allow_requantize = kind, 1, True
        partial = out.with_suffix(".partial")
        if llama_cpp.llama_model_quantize(str(model).encode(), str(partial).encode(), ctypes.byref(parameters)):
            raise RuntimeError(f"llama.cpp cannot quantise {model}")
        partial.rename(out)
    return out
