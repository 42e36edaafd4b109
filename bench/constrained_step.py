"""What a constraint adds to a denoise step of a real model, both in one run, in turn.

    python bench/constrained_step.py                  # the embedded model, several schemas
    python bench/constrained_step.py --released       # parts of the released 26B architecture, a dozen fields
    python bench/constrained_step.py --packed DIRECTORY  # the same in few bits: what bench/real_size.py has made
    python bench/constrained_step.py --json

A step is the decoder pass and the reading of its hidden states (logits, entropies, samples, soft embeddings). Figures
are medians of processor time on one thread, which other programs disturb less than the clock on the wall.

The released architecture does not fit here whole. With --released one sliding layer (of 25), one global layer (of 5)
and the output head are built in bfloat16 with random weights and timed; the step is 25 and 5 times the layers plus the
head and its reading. Its vocabulary is synthetic and of the same size (262,144 tokens). With --packed the layers of the
directory, which may be fewer, are counted as if there were thirty.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from constraints import SCHEMAS, synthetic_vocabulary

import diffusiongemma as dg
from diffusiongemma.config import FULL, SLIDING, ModelConfig
from diffusiongemma.control.compiling import compile_constraint
from diffusiongemma.control.constraint import Constraint, recent_lattices
from diffusiongemma.control.inference.reader import Constrained
from diffusiongemma.control.tokens.vocabulary import Vocabulary, vocabulary_of
from diffusiongemma.diffusion.readout import read
from diffusiongemma.model.model import Model

PROMPT, TEMPERATURE, CANVASES = 64, 0.6, 4  # tokens; of the middle of the schedule; the budget of the answer
RELEASED_LAYERS = {SLIDING: 25, FULL: 5}


def medians(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Milliseconds of processor time of each, run in turn, after one round to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 1):
        for name, work in works.items():
            begin = time.process_time()
            work()
            taken[name].append((time.process_time() - begin) * 1e3)
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


@dataclass(frozen=True)
class Bench:
    """One model, its vocabulary, and what a step of it takes without its reading."""

    model: Model
    vocabulary: Vocabulary
    end_ids: tuple[int, ...]
    decoder: dict[str, tuple[float, Callable[[], object]]]  # name -> (how often it is in a step, the work)
    hidden: torch.Tensor  # [C, D]

    def measure(self, schema: str, rounds: int) -> dict[str, Any]:
        width, head = len(self.hidden), self.model.backbone
        uniforms, greedy = torch.rand(width), torch.zeros(width, dtype=torch.bool)
        constraint = self.compiled(schema)
        state = constraint.begin(CANVASES * width)
        chain = state.open_canvas(width)
        quick, shown = Constrained(chain, paths=False), Constrained(chain)
        free = torch.full((width,), TEMPERATURE)
        works: dict[str, Callable[[], object]] = {name: work for name, (_, work) in self.decoder.items()}
        works["plain"] = lambda: read(head, self.hidden, free, uniforms, greedy)
        works["constrained"] = lambda: quick(head, self.hidden, TEMPERATURE, uniforms, False)
        works["with path"] = lambda: shown(head, self.hidden, TEMPERATURE, uniforms, False)
        works["new canvas"] = lambda: self._lattice(constraint, width)
        ms = medians(works, rounds)
        step = ms["plain"] + sum(times * ms[name] for name, (times, _) in self.decoder.items())
        return {
            "schema": schema, "states": constraint.automaton.num_states, "moves": chain.lattice.moves,
            "step_ms": step, "read_ms": ms["plain"], "canvas_ms": ms["new canvas"],
            "overhead": (ms["constrained"] - ms["plain"]) / step,
            "overhead_with_path": (ms["with path"] - ms["plain"]) / step,
        }  # fmt: skip

    def compiled(self, schema: str) -> Constraint:
        return compile_constraint(json_schema=SCHEMAS[schema], vocabulary=self.vocabulary, end_ids=self.end_ids)

    def _lattice(self, constraint: Constraint, width: int) -> None:
        recent_lattices.clear()
        constraint.begin(CANVASES * width).open_canvas(width)


def embedded() -> Bench:
    loaded = dg.load("nano")
    model, width = loaded.network, loaded.config.canvas_length
    row, canvas = _encoded(model), torch.randint(0, loaded.config.vocab_size, (width,))
    soft = torch.randn(width, loaded.config.hidden_size)
    hidden = model.denoise_rows([row], [canvas], [soft])
    vocabulary = vocabulary_of(loaded.tokenizer, loaded.config.vocab_size)
    decoder = {"decoder": (1, lambda: model.denoise_rows([row], [canvas], [soft]))}
    return Bench(model, vocabulary, loaded.generation.eos_token_ids, decoder, hidden)


def released() -> Bench:
    """One layer of each kind and the head of the released architecture, in bfloat16, with random weights."""
    config = replace(ModelConfig(), layer_types=(SLIDING, FULL))
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("meta"):
        model = Model(config)
    torch.set_default_dtype(torch.float32)
    model.to_empty(device="cpu")
    _fill(model)
    backbone, width = model.backbone, config.canvas_length
    row = _encoded(model)
    x = torch.randn(width, config.hidden_size).bfloat16()
    row_context = _context(model, row, width)
    rotations = backbone.rope(torch.arange(row.length, row.length + width), x.dtype)
    decoder = {
        kind: (RELEASED_LAYERS[kind], lambda i=i, kind=kind: backbone.layers[i](x, rotations[kind], row_context, False))
        for i, kind in enumerate(config.layer_types)
    }
    return Bench(model, synthetic_vocabulary(config.vocab_size), (0,), decoder, x)


def packed(directory: Path) -> Bench:
    """A model in few bits of the released shapes, its decoder scaled to the released number of layers."""
    model = dg.load(directory, device="cpu", activations="int8").network
    config = model.config
    row, canvas = _encoded(model), torch.randint(0, config.vocab_size, (config.canvas_length,))
    soft = torch.randn(config.canvas_length, config.hidden_size).to(model.dtype)
    hidden = model.denoise_rows([row], [canvas], [soft])
    times = sum(RELEASED_LAYERS.values()) / config.num_layers
    decoder = {"decoder": (times, lambda: model.denoise_rows([row], [canvas], [soft]))}
    return Bench(model, synthetic_vocabulary(config.vocab_size), (0,), decoder, hidden)


def _encoded(model: Model) -> Any:
    ids = torch.randint(10, min(5000, model.config.vocab_size), (1, PROMPT))
    return model.encode(ids).rows[0]


def _context(model: Model, row: Any, width: int) -> Any:
    from diffusiongemma.model.attention import Denoise

    return Denoise([row], [width])


def _fill(model: Model) -> None:
    """Random numbers of a trained model's size; drawing billions of different ones would take minutes."""
    numbers = torch.randn(1 << 20) * 0.02
    for tensor in [*model.parameters(), *model.buffers()]:
        flat = tensor.data.flatten() if tensor.is_contiguous() else None
        assert flat is not None
        for part in tensor.data.view(-1).split(len(numbers)):
            part.copy_(numbers[: len(part)])


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--released", action="store_true", help="parts of the released 26B architecture")
    parser.add_argument("--packed", type=Path, metavar="DIRECTORY", help="a model that bench/real_size.py has made")
    parser.add_argument(
        "--schema", choices=list(SCHEMAS), action="append", help="default: all; released: twelve fields"
    )
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    large = options.released or options.packed is not None
    bench = packed(options.packed) if options.packed else released() if options.released else embedded()
    schemas = options.schema or (["twelve fields"] if large else list(SCHEMAS))
    rows = [bench.measure(name, options.rounds or (3 if large else 40)) for name in schemas]
    if options.json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(
            f"{row['schema']:<23} states {row['states']:>4}  moves {row['moves']:>7,}  step {row['step_ms']:9.1f} ms, "
            f"{row['read_ms']:.1f} of it to read  constraint +{100 * row['overhead']:.1f} %  "
            f"with a path each step +{100 * row['overhead_with_path']:.1f} %  once a canvas {row['canvas_ms']:.1f} ms"
        )


if __name__ == "__main__":
    main()
