"""Passes of a `Stack` as the model asks for them: captured as CUDA graphs, one for each number of rows and their width.

A graph holds the addresses of what it reads. Inputs are copied to where it expects them, the caches' addresses and
lengths among them: so a graph serves any sequence, however long, and however its cache moves.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusiongemma.gpu.stack import Stack
from diffusiongemma.model.attention import Context
from diffusiongemma.model.cache import SequenceCache
from diffusiongemma.model.model import Model

GRAPHS = 24  # held at a time: each has its own activations
READ = 256  # positions whose logits exist at a time
ROWS = (1, 2, 4, 8, 12, 16, 24, 32)  # of a graph; batches are filled up to the next, or cut

TRIED, ALIKE = 24, 0.9  # tokens of the canvas that is tried, and the least mean cosine of its states

Outputs = tuple[Tensor, ...]


def accelerate(model: Model) -> str | None:
    """Run `model` by these kernels from now on -> None, or why it stays as it is."""
    model.backbone.fast = None
    if model.device.type != "cuda" or torch.cuda.get_device_capability(model.device) < (8, 0):
        return "not on a GPU that has them"
    if model.dtype != torch.bfloat16:
        return f"{model.dtype} stays as it is"
    try:
        return checked(model, Passes(model))
    except ValueError as error:
        return str(error)


@torch.no_grad()
def checked(model: Model, passes: Passes) -> str | None:
    """Run `model` by these passes if they agree with its modules on a canvas behind a few tokens, else say why not.

    Rounding sends some tokens to other experts, so what is asked for is the same direction, not the same numbers.
    """
    ids = torch.arange(10, 10 + TRIED, device=model.device) % model.config.vocab_size
    canvas = ids.flip(0).repeat(-(-model.config.canvas_length // TRIED))[: model.config.canvas_length]
    found = []
    try:
        for fast in (None, passes):
            model.backbone.fast = fast
            row = model.new_sequence()
            encoded = model.encode_rows([row], [model.backbone.embed(ids)])
            denoised = model.denoise_rows([row], [canvas], [None])
            found.append(torch.cat([encoded, denoised, model.encode_rows([row], [model.backbone.embed(ids[:1])])]))
    except Exception as error:  # of a compiler, a driver or a library, which say it in many ways
        model.backbone.fast = None
        return f"kernels do not run here ({type(error).__name__}: {str(error).strip().partition(chr(10))[0]})"
    alike = float(F.cosine_similarity(found[0].float(), found[1].float(), dim=-1).mean())
    if not alike >= ALIKE:
        model.backbone.fast = None
        return f"kernels do not agree with the modules here (cosine {alike:.3f})"
    return None


class Captured:
    """A function of tensors of fixed shapes as a graph. What it returns is overwritten by the next call."""

    def __init__(self, function: Callable[..., Outputs], inputs: Sequence[Tensor], device: torch.device, pool: Any):
        self.inputs = [x.to(device, copy=True) for x in inputs]
        here, aside = torch.cuda.current_stream(device), torch.cuda.Stream(device)
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            for _ in range(2):  # kernels are compiled and loaded, libraries set up
                function(*self.inputs)
        here.wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool=pool, capture_error_mode="thread_local"):
            self.outputs = function(*self.inputs)

    def __call__(self, *inputs: Tensor) -> Outputs:
        for held, given in zip(self.inputs, inputs, strict=True):
            held.copy_(given, non_blocking=True)
        self.graph.replay()
        return self.outputs


class Passes:
    """What `Backbone.fast` is: the passes of a model on a GPU. Without `capture` they are run kernel by kernel."""

    def __init__(self, model: Model, capture: bool = True):
        self.model, self.stack, self.capture = model, Stack(model.backbone), capture
        self.device = model.device
        self.graphs: OrderedDict[tuple[Any, ...], Captured] = OrderedDict()
        self.pool = torch.cuda.graph_pool_handle() if capture else None
        self.spare = model.new_sequence()  # what rows that fill up a batch attend to

    def takes(self, rows: Sequence[SequenceCache]) -> bool:
        """Not caches in 8 bits, nor of another dtype."""
        return all(cache.keys.dtype == self.model.dtype for row in rows for cache in row.layers)

    def denoise(self, rows: Sequence[SequenceCache], canvases: Sequence[Tensor], softs: Sequence[Any]) -> Tensor:
        """As `Model.denoise_rows`; canvases of one width go together."""
        found: list[Tensor] = [torch.empty(0)] * len(rows)
        for width in {len(canvas): None for canvas in canvases}:
            several = [i for i, canvas in enumerate(canvases) if len(canvas) == width]
            for start in range(0, len(several), ROWS[-1]):
                part = several[start : start + ROWS[-1]]
                hidden = self._denoise(
                    [rows[i] for i in part], [canvases[i] for i in part], [softs[i] for i in part], width
                )
                for i, piece in zip(part, hidden.split(width), strict=True):
                    found[i] = piece
        return torch.cat(found) if len(found) > 1 else found[0]

    def _denoise(self, rows: list[SequenceCache], canvases: list[Tensor], softs: list[Any], width: int) -> Tensor:
        count, missing = len(rows), _filling(len(rows))
        zero = torch.zeros(width, self.model.config.hidden_size, dtype=self.model.dtype, device=self.device)
        soft = torch.cat([*(zero if s is None else s.to(zero.dtype) for s in softs), *[zero] * missing])
        rows = [*rows, *[self.spare] * missing]
        canvas = torch.cat([*canvases, *[canvases[0]] * missing])
        run = partial(_one_output, partial(self.stack.denoise, width=width))
        places = self._positions(rows, width), self._table(rows, width)
        (hidden,) = self._run(("denoise", width, len(rows)), run, canvas, soft, *places)
        return hidden[: count * width].clone()

    def encode(self, x: Tensor, positions: Tensor, context: Context) -> Tensor:
        """As `Backbone.encode`: kernel by kernel, as prompts are of any length."""
        return self.stack.encode(x, positions, context)

    def encode_one(self, rows: Sequence[SequenceCache], embeddings: Sequence[Tensor]) -> Tensor:
        """One more token [1, D] of each row -> last hidden states [rows, D]; the caches hold it."""
        parts = []
        for start in range(0, len(rows), ROWS[-1]):
            some = list(rows[start : start + ROWS[-1]])
            missing = _filling(len(some))
            x = F.pad(torch.cat(list(embeddings[start : start + ROWS[-1]])), (0, 0, 0, missing))
            filled = [*some, *[self.spare] * missing]
            run = partial(_one_output, self.stack.encode_one)
            (hidden,) = self._run(("encode", len(filled)), run, x, self._positions(filled, 1), self._table(filled, 1))
            for row in some:
                for cache in row.layers:
                    cache.end += 1
                row.length += 1
                row.trim()
            parts.append(hidden[: len(some)].clone())
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def read(
        self, hidden: Tensor, temperature: Tensor, uniforms: Tensor, greedy: Tensor, want_soft: bool
    ) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """As `Stack.read`, of so many positions at a time as may be."""
        parts = []
        inputs = (hidden, temperature.float(), uniforms.float(), greedy.to(torch.int8))
        for some in zip(*(x.split(READ) for x in inputs), strict=True):
            count = len(some[0])
            wide = 1 << (count - 1).bit_length()
            filled = [F.pad(some[0], (0, 0, 0, wide - count)), F.pad(some[1], (0, wide - count), value=1.0)]
            filled += [F.pad(x, (0, wide - count)) for x in some[2:]]
            run = partial(self.stack.read, want_soft=want_soft)
            argmax, drawn, numbers, soft = self._run(("read", wide, want_soft), run, *filled)
            argmax, drawn, numbers = (x[..., :count].clone() for x in (argmax, drawn, numbers))
            parts.append((argmax, drawn, numbers, soft[:count].clone()))
        return parts

    @torch.no_grad()
    def _run(self, key: tuple[Any, ...], function: Callable[..., Outputs], *inputs: Tensor) -> Outputs:
        if not self.capture:
            return function(*(x.to(self.device) for x in inputs))
        if key not in self.graphs:
            self.graphs[key] = Captured(function, inputs, self.device, self.pool)
            while len(self.graphs) > GRAPHS:
                self.graphs.popitem(last=False)
        self.graphs.move_to_end(key)
        return self.graphs[key](*inputs)

    def _positions(self, rows: Sequence[SequenceCache], width: int) -> Tensor:
        return torch.cat([torch.arange(row.length, row.length + width) for row in rows])

    def _table(self, rows: Sequence[SequenceCache], width: int) -> Tensor:
        """What `attention` says it is, [layers, rows, 6], with room behind each cache for `width` tokens."""
        layers = zip(*(row.layers for row in rows), strict=True)
        return torch.tensor([[(*cache.place(width), 0) for cache in layer] for layer in layers])


def _one_output(function: Callable[..., Tensor], *inputs: Tensor) -> Outputs:
    return (function(*inputs),)


def _filling(rows: int) -> int:
    return next(size for size in ROWS if size >= rows) - rows
