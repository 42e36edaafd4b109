"""What guaranteed structure costs: compiling a constraint, and each denoising step under it. Needs no model.

    python bench/constraints.py                       # vocabularies of 4,096 and 262,144 tokens, one thread
    python bench/constraints.py --compare-outlines    # also compiles the same schema with outlines-core, if installed
    python bench/constraints.py --step-ms 15 5000     # shares of a model step measured on this machine in the same run

The vocabularies are synthetic (bytes, punctuation runs, made-up words, several scripts; digits are single tokens, as
in Gemma's) and the scores random, so times are about shapes, not about text. Per-step times are medians.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from diffusiongemma.control.compiling import compile_constraint
from diffusiongemma.control.constraint import Constraint, recent_lattices
from diffusiongemma.control.tokens.vocabulary import Vocabulary

TEXT = {"type": "string"}
CANVASES = 4  # the budget; the first canvas, which may end almost anywhere, has the largest lattice


def record(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


SCHEMAS = {
    "three strings": record({"title": TEXT, "author": TEXT, "summary": TEXT}),
    "twelve fields": record(
        {
            "name": TEXT,
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "email": {"type": "string", "format": "email"},
            "city": TEXT,
            "price": {"type": "number", "minimum": 0},
            "active": {"type": "boolean"},
            "tags": {"type": "array", "items": TEXT},
            "kind": {"enum": ["red", "green", "blue"]},
            "date": {"type": "string", "format": "date"},
            "description": TEXT,
            "count": {"type": "integer"},
            "url": {"type": "string", "format": "uri"},
        }
    ),
    "strings of at most 100": record({key: {"type": "string", "maxLength": 100} for key in ("title", "author")}),
    "any JSON": {},
}


def synthetic_vocabulary(size: int, seed: int = 0) -> Vocabulary:
    """A vocabulary shaped like Gemma's: token 0 ends, then bytes, punctuation, and words in several scripts."""
    rng = random.Random(seed)
    starts = ["", *"bcdfghjklmnprstvwz", "ch", "sh", "th", "st", "tr", "pr", "qu"]
    ends = ["a", "e", "i", "o", "u", "an", "en", "in", "on", "er", "ar", "or", "es", "ing", "ed", "al", "ic", "ion"]
    syllables = [start + end for start in starts for end in ends]
    scripts = [(0x400, 0x44F), (0x4E00, 0x9FA5), (0x3041, 0x30FF), (0xAC00, 0xD7A3), (0x600, 0x6FF), (0x900, 0x97F)]
    of_json = ['":', '":"', '": "', '","', '", "', '"}', '{"', '["', '"]', "[]", "{}", '":[', '":{', "},{", '"},']
    blanks = [*("\n" * n for n in range(1, 8)), *(" " * n for n in range(1, 32))]
    texts = dict.fromkeys([*of_json, "true", "false", "null", *blanks])
    while len(texts) < size - 257:
        roll = rng.random()
        if roll < 0.66:
            word = "".join(rng.choice(syllables) for _ in range(rng.choice([1, 2, 2, 3, 3, 4])))
            texts[rng.choice(["", " ", " "]) + (word.capitalize() if rng.random() < 0.3 else word)] = None
        elif roll < 0.7:
            texts["".join(rng.choice("{}[]()<>=+-*/\\\"':;.,!?_&|#@$%^~` ") for _ in range(rng.randint(2, 4)))] = None
        else:
            low, high = rng.choice(scripts)
            base = rng.randint(low, high)
            length = rng.choice([1, 1, 2, 2, 3, 4])
            texts["".join(chr(min(high, base + rng.randrange(60))) for _ in range(length))] = None
    return Vocabulary((None, *(bytes([b]) for b in range(256)), *(text.encode() for text in texts)))


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """Median over `repeats` runs after one to warm up."""
    work()
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        taken.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(taken)


@dataclass(frozen=True)
class Row:
    vocabulary: int
    positions: int
    schema: str
    compile_ms: float
    states: int
    classes: int
    moves_per_canvas: int
    canvas_ms: float  # once per canvas: the lattice
    step_ms: float  # once per step: marginals, their entropy, one sample and the mode of each position
    best_path_ms: float  # once per canvas: the commit
    plain_step_ms: float  # what it stands in for: softmax, entropy, sample and argmax without a constraint


def plain_step(scores: torch.Tensor, uniforms: torch.Tensor) -> None:
    log_p = torch.log_softmax(scores, -1)
    p = log_p.exp()
    -(p * log_p).sum(-1)
    torch.searchsorted(p.cumsum(-1), uniforms[:, None].float())
    p.argmax(-1)


def measured(name: str, vocabulary: Vocabulary, positions: int, repeats: int) -> Row:
    begin = time.perf_counter()
    constraint: Constraint = compile_constraint(json_schema=SCHEMAS[name], vocabulary=vocabulary, end_ids=[0])
    state = constraint.begin(CANVASES * positions)
    state.open_canvas(positions)  # layouts are made with the first canvas
    compile_ms = (time.perf_counter() - begin) * 1e3
    chain = state.open_canvas(positions)
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(positions, len(vocabulary), generator=generator) * 3
    uniforms = torch.rand(positions, dtype=torch.float64, generator=generator)

    def step() -> None:
        posterior = chain.posterior(scores)
        _ = posterior.entropy, posterior.sample(uniforms), posterior.most_probable()

    def fresh_canvas() -> None:
        recent_lattices.clear()
        state.open_canvas(positions)

    return Row(
        vocabulary=len(vocabulary),
        positions=positions,
        schema=name,
        compile_ms=compile_ms,
        states=constraint.automaton.num_states,
        classes=constraint.automaton.num_classes,
        moves_per_canvas=chain.lattice.moves,
        canvas_ms=milliseconds(fresh_canvas, 3),
        step_ms=milliseconds(step, repeats),
        best_path_ms=milliseconds(lambda: chain.most_probable_path(scores), repeats),
        plain_step_ms=milliseconds(lambda: plain_step(scores, uniforms), repeats),
    )


def outlines_seconds(vocabulary: Vocabulary) -> float:
    """The twelve fields as an outlines-core index, without their formats (with them it takes minutes)."""
    from outlines_core import Index
    from outlines_core import Vocabulary as OutlinesVocabulary
    from outlines_core.json_schema import build_regex_from_schema

    ids: dict[bytes, list[int]] = {}
    for token, written in enumerate(vocabulary.token_bytes):
        if written:
            ids.setdefault(written, []).append(token)
    theirs = OutlinesVocabulary(0, ids)
    fields = SCHEMAS["twelve fields"]["properties"]
    plain = record({name: {k: v for k, v in field.items() if k != "format"} for name, field in fields.items()})
    begin = time.perf_counter()
    Index(build_regex_from_schema(json.dumps(plain)), theirs)
    return time.perf_counter() - begin


def report(row: Row, step_ms: float | None) -> str:
    share = f"  {100 * row.step_ms / step_ms:5.1f} % of {step_ms:g} ms" if step_ms else ""
    return (
        f"V {row.vocabulary:>7,}  C {row.positions:>3}  {row.schema:<23} compile {row.compile_ms:6.0f} ms  "
        f"states {row.states:>5,}  classes {row.classes:>4}  moves {row.moves_per_canvas:>9,}  "
        f"canvas {row.canvas_ms:6.1f}  step {row.step_ms:7.2f}  best path {row.best_path_ms:7.2f}  "
        f"(plain step {row.plain_step_ms:7.2f}){share}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--vocabulary", type=int, nargs="+", default=[4096, 262_144])
    parser.add_argument("--positions", type=int, nargs="+", default=[96, 256], help="canvas length, one a vocabulary")
    parser.add_argument("--step-ms", type=float, nargs="+", help="a model step to compare with, one a vocabulary")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compare-outlines", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {options.threads} thread(s), torch {torch.__version__}; ms, medians")
    for i, (size, positions) in enumerate(zip(options.vocabulary, options.positions, strict=True)):
        vocabulary = synthetic_vocabulary(size)
        begin = time.perf_counter()
        vocabulary.trie, vocabulary.fingerprint  # noqa: B018 (once per tokenizer)
        print(f"V {size:>7,}  trie and fingerprint, once per tokenizer: {time.perf_counter() - begin:.2f} s")
        for name in SCHEMAS:
            row = measured(name, vocabulary, positions, repeats=30 if size < 10_000 else 3)
            print(report(row, options.step_ms[i] if options.step_ms else None), flush=True)
        if options.compare_outlines:
            print(f"V {size:>7,}  outlines-core, twelve fields without formats: {outlines_seconds(vocabulary):.2f} s")


if __name__ == "__main__":
    main()
