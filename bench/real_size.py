"""The full 26B-A4B architecture on this machine: made in few bits, loaded from the files as they lie, and run.

    python bench/real_size.py DIRECTORY [--scheme int4] [--layers 30] [--quarter] [--prefix 1024 4096] [--out FILE]

Weights are random but of realistic scale: matrices normal by fan-in, logits as spread as those of a model that knows
something, and a router that sends a canvas to about 84 of 128 experts. A layer's experts are a few random ones, each
many times with its rows in another order; a directory that is complete is used again. What is printed: file size, time
to load, memory, one denoise step, one autoregressive token, and a canvas generated; beside what this machine's products
and memory reach in the same run.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from gpu_model import IDLE_SHARE, config_of, experts_used
from gpu_step import step_of, token_of
from step import config_of as step_config
from torch import Tensor

import diffusiongemma as dg
from diffusiongemma.config import FULL, ModelConfig
from diffusiongemma.diffusion.stop import Never
from diffusiongemma.model.cache import SequenceCache
from diffusiongemma.model.model import ENCODE_CHUNK, Model
from diffusiongemma.weights.checkpoint import INDEX, file_name
from diffusiongemma.weights.formats.packed_files import layout_of, stored
from diffusiongemma.weights.formats.safetensors_file import write_safetensors
from diffusiongemma.weights.packed import Groups, Packed, int4
from diffusiongemma.weights.packed_kernels import Product
from diffusiongemma.weights.saving import config_for, write_json
from diffusiongemma.weights.schemes import Scheme, role_of

DISTINCT = 2  # experts of a layer that differ in more than the order of their rows
ENCODED = 256  # tokens of a prefix that are encoded, and timed; the others' keys and values are random
SPREAD = 10.0  # standard deviation of the logits
Figures = dict[str, Any]


# --- the files ------------------------------------------------------------------------------------------------------


def make(directory: Path, config: ModelConfig, scheme: Scheme) -> None:
    """Write the model a layer at a time; what is there already is left."""
    directory.mkdir(parents=True, exist_ok=True)
    with torch.device("meta"):
        shapes = {file_name(name): tensor.shape for name, tensor in Model(config).state_dict().items()}
    parts: dict[str, dict[str, torch.Size]] = {}
    for name, shape in shapes.items():
        layer = re.search(r"layers\.(\d+)\.", name)
        parts.setdefault(f"layer-{int(layer[1]):02d}" if layer else "rest", {})[name] = shape
    layouts, where = {}, {}
    for i, (part, names) in enumerate(parts.items()):
        path = directory / f"{part}.safetensors"
        packed = dict(weights_of(names, config, scheme, seed=i))
        tensors = {key: tensor for name, weight in packed.items() for key, tensor in stored(name, weight).items()}
        if not path.exists():
            write_safetensors(path, tensors)
        layouts |= {name: layout_of(weight) for name, weight in packed.items() if isinstance(weight, Packed)}
        where |= dict.fromkeys(tensors, path.name)
        print(f"\r{part}: {i + 1} of {len(parts)} files", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    write_json(directory / INDEX, {"metadata": {}, "weight_map": where})
    write_json(directory / "config.json", config_for(config, None, layouts))


def weights_of(
    names: dict[str, torch.Size], config: ModelConfig, scheme: Scheme, seed: int
) -> Iterator[tuple[str, Tensor | Packed]]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * shape[-1] ** -0.5

    for name, shape in names.items():
        if role_of(name) == "experts":
            yield name, experts(shape, lambda *s: scheme.packed(name, normal(*s)))  # noqa: B023
        elif name.endswith("router.proj.weight"):
            weight = torch.randn(shape, generator=generator)  # scores of order one
            weight[torch.randperm(shape[0], generator=generator)[: round(IDLE_SHARE * shape[0])]] *= 0.1
            yield name, weight.bfloat16()
        elif len(shape) > 1:
            weight = normal(*shape).bfloat16()
            yield name, scheme.packed(name, weight)
        else:
            yield name, torch.full(shape, SPREAD if name == "model.decoder.norm.weight" else 1.0).bfloat16()


def experts(shape: torch.Size, make: Callable[[int, int, int], Tensor | Packed]) -> Groups:
    few = make(min(DISTINCT, shape[0]), shape[1], shape[2])
    assert isinstance(few, Groups)
    order = [(i % few.shape[0], 37 * i) for i in range(shape[0])]
    codes, scales = (torch.stack([part[e].roll(by, 0) for e, by in order]) for part in (few.codes, few.scales))
    return Groups(few.kind, codes, scales, None, few.zero, few.factor)


# --- what is measured -----------------------------------------------------------------------------------------------


def seconds(work: Callable[[], Any], rounds: int = 3) -> float:
    work()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2]


def machine() -> Figures:
    """What products of 256 rows with a dense matrix reach, in 10^9 operations a second, and reading memory, in GB/s."""
    x, w = torch.randn(256, 2816), torch.randn(2112, 2816)
    work = 2e-9 * 256 * 2816 * 2112
    rows, columns = (t.mul(30).clamp(-127, 127).to(torch.int8) for t in (x, w))
    packed = Product(int4(w))
    memory = torch.ones(256 * 2**20 // 8, dtype=torch.int64)
    return {
        "float32_gops": work / seconds(lambda: x @ w.T),
        "bfloat16_gops": work / seconds(lambda: x.bfloat16() @ w.T.bfloat16()),
        "torch_int8_gops": work / seconds(lambda: torch._int_mm(rows, columns.T)),
        "kernel_int4_gops": work / seconds(lambda: packed(x)),
        "memory_gb_s": memory.nbytes / 1e9 / seconds(memory.sum),
    }


def memory() -> Figures:
    status = Path("/proc/self/status").read_text()
    read = lambda key: int(re.search(rf"{key}:\s+(\d+)", status)[1]) / 1e6  # type: ignore[index] # noqa: E731
    return {"resident_gb": read("VmRSS"), "peak_gb": read("VmHWM"), "of_files_gb": read("RssFile")}


def operations(config: ModelConfig, prefix: int) -> float:
    """10^9 operations of a denoise step: products of weights, attention, head; the soft embedding is not counted."""
    canvas, dim = config.canvas_length, config.hidden_size
    total = canvas * config.vocab_size * dim
    for layer in range(config.num_layers):
        heads, width = config.num_attention_heads, config.heads(layer)[1]
        kv = config.heads(layer)[0] * width * (2 if config.is_sliding(layer) else 1)
        seen = canvas + (min(prefix, config.sliding_window - 1) if config.is_sliding(layer) else prefix)
        total += canvas * dim * (2 * heads * width + kv + 3 * config.intermediate_size)
        total += canvas * config.top_k_experts * 3 * dim * config.moe_intermediate_size
        total += 2 * canvas * seen * heads * width
    return 2e-9 * total


def bytes_of_token(model: Model) -> float:
    """Gigabytes of weights that one token reads: all but the experts that it does not use."""
    total = 0.0
    for name, module in model.named_modules():
        held = [w.nbytes for w in (getattr(module, n, None) for n in ("packed", "gate_up", "down")) if w is not None]
        share = model.config.top_k_experts / model.config.num_experts if name.endswith("experts") else 1
        total += share * sum(held)
    return total / 1e9


def filled(model: Model, tokens: int) -> SequenceCache:
    """A sequence whose caches hold random keys and values, as if so many tokens had been encoded."""
    row = model.new_sequence()
    for start in range(0, tokens, ENCODE_CHUNK):
        count = min(ENCODE_CHUNK, tokens - start)
        for i, layer in enumerate(row.layers):
            heads, width = model.config.heads(i)
            layer.append(*torch.randn(2, heads, count, width).to(model.dtype))
        row.length += count
        row.trim()
    return row


def at_prefix(model: Model, prefix: int, rates: Figures, rounds: int) -> Figures:
    row = filled(model, prefix - min(ENCODED, prefix))
    ids = torch.randint(10, model.config.vocab_size, (min(ENCODED, prefix),))
    started = time.perf_counter()
    model.encode_rows([row], [model.backbone.embed(ids)])
    encode, rows = time.perf_counter() - started, [row]
    step, token = step_of(model, rows), token_of(model, rows)
    used = experts_used(model, step)
    step_s, token_s = seconds(step, rounds), seconds(token, rounds)
    gops = operations(model.config, prefix) / step_s
    return {
        "prefix": prefix,
        "experts_used": used,
        "encoded_tokens_s": len(ids) / encode,
        "step_s": step_s,
        "step_gops": gops,
        "of_the_fastest_product": gops / max(v for k, v in rates.items() if "gops" in k),
        "token_s": token_s,
        "token_gb_s": bytes_of_token(model) / token_s,
        "of_the_memory": bytes_of_token(model) / token_s / rates["memory_gb_s"],
        **memory(),
    }


def quarter_of(tiny: bool, layers: int | None) -> ModelConfig:
    """A quarter of the release's widths with a vision tower, or a toy of it; of `layers` layers, the last global."""
    config = step_config(tiny, quarter=True)
    return config if layers is None else replace(config, layer_types=(*config.layer_types[: layers - 1], FULL))


def run(options: argparse.Namespace) -> Figures:
    config = quarter_of(options.tiny, options.layers) if options.quarter else config_of(options.tiny, options.layers)
    directory: Path = options.directory
    if not (directory / "config.json").exists():
        started = time.perf_counter()
        make(directory, config, Scheme(options.scheme))
        print(f"made in {time.perf_counter() - started:.0f} s")
    figures: Figures = {
        "command": " ".join(sys.argv), "date": time.strftime("%Y-%m-%d"), "threads": torch.get_num_threads(),
        "torch": torch.__version__, "python": platform.python_version(), "layers": config.num_layers,
        "scheme": options.scheme, "kv": options.kv, "machine": machine(),
        "files_gb": sum(path.stat().st_size for path in directory.iterdir()) / 1e9,
    }  # fmt: skip
    started = time.perf_counter()
    loaded = dg.load(directory, device="cpu", activations="int8", kv=options.kv)
    model = loaded.network
    figures["load_s"] = time.perf_counter() - started
    show(figures)
    figures["prefixes"] = []
    for prefix in options.prefix:
        figures["prefixes"].append(at_prefix(model, prefix, figures["machine"], options.rounds))
        show(figures["prefixes"][-1])
    if options.steps:
        started = time.perf_counter()
        ids = list(range(10, 74))
        result = loaded.generate(
            ids, steps=options.steps, max_new_tokens=config.canvas_length, stop_rule=Never(), seed=0
        )
        took = time.perf_counter() - started
        figures["generate"] = {"tokens": len(result.tokens), "steps": options.steps, "seconds": took, **memory()}
        show(figures["generate"])
    return figures


def show(figures: Figures) -> None:
    line = (f"{k.replace('_', ' ')} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items())
    print(" · ".join(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--scheme", default="int4")
    parser.add_argument("--kv", default="full", choices=["full", "int8"])
    parser.add_argument("--layers", type=int, help="fewer than the release's 30")
    parser.add_argument("--tiny", action="store_true", help="toy sizes")
    parser.add_argument("--quarter", action="store_true", help="a quarter of the widths, as bench/step.py has it")
    parser.add_argument("--prefix", type=int, nargs="+", default=[1024, 4096], help="tokens before the canvas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="denoise steps of the canvas that is generated")
    parser.add_argument("--out", type=Path, help="where to write the figures, as JSON")
    options = parser.parse_args()
    figures = run(options)
    if options.out is not None:
        options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
