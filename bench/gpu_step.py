"""What a denoise step of the released architecture costs, part by part, and how it compares with one token at a time.

    python bench/gpu_step.py [--tiny] [--device cuda|cpu] [--layers N] [--rounds N] [--prefix N ...]
                             [--in-flight N ...] [--reference] [--out FILE]

The weights are random, in bfloat16, made on the device: 50.5 GB for all 30 layers. A third of each router's experts
is damped, so that a canvas uses as many as published. `--reference` runs the same step through transformers' code
around the same tensors, in float32 too where that fits (`--layers 4`): in bfloat16, rounding alone sends some tokens to
other experts. Each section is written to FILE as soon as it is measured.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from gpu_timing import Clock, Work, gigabytes, on_device, split
from torch import nn

from diffusiongemma.config import FULL, SLIDING, ModelConfig
from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.diffusion.denoise import Canvas, denoise_step
from diffusiongemma.diffusion.noise import Noise
from diffusiongemma.diffusion.readout import ReadOptions, read
from diffusiongemma.errors import UserError
from diffusiongemma.model.cache import SequenceCache
from diffusiongemma.model.model import Model
from diffusiongemma.weights.locate import choose_device

IDLE_SHARE = 44 / 128  # of the experts; published: a canvas uses about 84 of 128
TINY = dict(
    vocab_size=512, hidden_size=64, intermediate_size=64, num_attention_heads=8, num_key_value_heads=4, head_dim=16,
    num_global_key_value_heads=2, global_head_dim=32, num_experts=32, top_k_experts=4, moe_intermediate_size=32,
    canvas_length=32, layer_types=(SLIDING, SLIDING, FULL), sliding_window=16, boi_token_id=5, image_token_id=6,
    eoi_token_id=7,
)  # fmt: skip


# --- the model ------------------------------------------------------------------------------------------------------


def config_of(tiny: bool, layers: int | None) -> ModelConfig:
    """The release without its vision tower, or a toy; of `layers` layers, the last one global as always."""
    config = replace(ModelConfig(), **TINY) if tiny else ModelConfig()  # type: ignore[arg-type]
    if layers is None:
        return config
    return replace(config, layer_types=(*config.layer_types[: layers - 1], FULL))


@torch.no_grad()
def random_model(config: ModelConfig, device: torch.device) -> Model:
    """Matrices normal by fan-in, scales one, made where they stay: no float32 copy ever exists."""
    with torch.device("meta"):
        model = Model(config).to(torch.bfloat16)
    model = model.to_empty(device=device).eval().requires_grad_(False)
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
        else:
            nn.init.ones_(parameter)
    for scalar in model.buffers():
        scalar.fill_(1)
    for layer in model.backbone.layers:
        nn.init.normal_(layer.router.proj.weight)  # scores of order one
        idle = torch.randperm(config.num_experts, device=device)[: round(IDLE_SHARE * config.num_experts)]
        layer.router.proj.weight[idle] *= 0.1
    return model


def experts_used(model: Model, work: Work) -> float:
    """Mean number of experts that a layer uses in `work`."""
    counts: list[int] = []
    hooks = [
        layer.router.register_forward_hook(lambda _, args, out: counts.append(out[1].unique().numel()))
        for layer in model.backbone.layers
    ]
    work()
    for hook in hooks:
        hook.remove()
    return statistics.mean(counts)


def weights_read(model: Model, used: float) -> float:
    """Gigabytes of weights in a step in which each layer uses `used` experts, each read once."""
    experts = sum(p.nbytes for layer in model.backbone.layers for p in layer.experts.parameters())
    idle = 1 - used / model.config.num_experts
    return (sum(p.nbytes for p in model.parameters()) - idle * experts) / 1e9


# --- what is measured -----------------------------------------------------------------------------------------------


def encoded(model: Model, prefix: int) -> SequenceCache:
    """A sequence of `prefix` random tokens."""
    return model.encode(torch.randint(10, model.config.vocab_size, (1, prefix))).rows[0]


def step_of(model: Model, rows: list[SequenceCache]) -> Work:
    """A whole denoise step of a canvas behind each of `rows`, self-conditioned as every step but the first."""
    width, size = model.config.canvas_length, model.config.vocab_size
    canvases = [Canvas.open(row, width, size, Noise(i, 0), Decoding(), model.device) for i, row in enumerate(rows)]
    denoise_step(model, canvases)

    def work() -> None:
        for canvas in canvases:
            canvas.step, canvas.done = 1, False
        denoise_step(model, canvases)

    return work


def token_of(model: Model, rows: list[SequenceCache]) -> Work:
    """The next token of each of `rows`, autoregressively and greedily; it is forgotten again."""
    ids = torch.randint(10, model.config.vocab_size, (len(rows),)).to(model.device)
    ones = torch.ones(len(rows), device=model.device)

    @torch.no_grad()
    def work() -> list[int]:
        hidden = model.encode_rows(rows, model.backbone.embed(ids).split(1))
        tokens: list[int] = read(
            model.backbone, hidden, ones, ones / 2, ones > 0, ReadOptions(want_soft=False)
        ).sampled.tolist()
        for row in rows:
            row.forget(1)
        return tokens

    return work


# --- the sections ---------------------------------------------------------------------------------------------------


def one_canvas(model: Model, prefix: int, rounds: int, clock: Clock) -> dict[str, Any]:
    gigabytes(peak=True)
    rows = [encoded(model, prefix)]
    step, token = step_of(model, rows), token_of(model, rows)
    used, milliseconds = experts_used(model, step), clock.median(step, rounds)
    return {
        "prefix": prefix,
        "experts_used": used,
        "step_ms": milliseconds,
        "weights_read_gb": weights_read(model, used),
        "gb_per_second": weights_read(model, used) / milliseconds * 1e3,
        "token_ms": clock.median(token, rounds),
        "parts_ms": split(model, step, rounds, clock),
        "cache_gb": rows[0].nbytes() / 1e9,
        "held_gb": gigabytes(),
        "peak_gb": gigabytes(peak=True),
    }


def in_flight(model: Model, count: int, prefix: int, rounds: int, clock: Clock) -> dict[str, Any]:
    """`count` sequences, all denoising or all autoregressive. They break even where a step of diffusion commits
    `break_even` tokens of each sequence, not counting the pass that encodes a finished canvas."""
    gigabytes(peak=True)
    first = encoded(model, prefix)
    rows = [first, *(first.copy() for _ in range(count - 1))]
    step = clock.median(step_of(model, rows), rounds)
    token = clock.median(token_of(model, rows), rounds)
    return {
        "in_flight": count,
        "prefix": prefix,
        "step_ms": step,
        "positions_per_second": count * model.config.canvas_length / step * 1e3,
        "token_ms": token,
        "tokens_per_second": count / token * 1e3,
        "break_even": step / token,
        "peak_gb": gigabytes(peak=True),
    }


# --- the report -----------------------------------------------------------------------------------------------------


class Report:
    """Figures, in a file if one is wanted as soon as they are there, and as a table."""

    def __init__(self, path: Path | None, **figures: Any):
        self.path, self.figures = path, figures

    def add(self, section: str, value: Any, line: str) -> None:
        self.figures[section] = [*self.figures.get(section, []), value]
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(self.figures, indent=1) + "\n")
        print(line, flush=True)


def describe(row: dict[str, Any]) -> str:
    def show(value: Any) -> str:
        if isinstance(value, dict):
            return "".join(f"\n    {name:24}{show(x):>10}" for name, x in sorted(value.items(), key=lambda x: -x[1]))
        return f"{value:,.4g}" if isinstance(value, float) else str(value)

    return "  ".join(f"{name.replace('_', ' ')} {show(x)}" for name, x in row.items() if not isinstance(x, list))


def run(options: argparse.Namespace) -> None:
    device = choose_device(options.device)
    clock, started = Clock(device), time.perf_counter()
    config = config_of(options.tiny, options.layers)
    model = random_model(config, device)
    weights = sum(p.nbytes for p in model.parameters()) / 1e9
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    report = Report(
        options.out, device=where, dtype="bfloat16", date=time.strftime("%Y-%m-%d %H:%M"), torch=torch.__version__,
        python=platform.python_version(), command=" ".join(sys.argv), layers=config.num_layers, weights_gb=weights,
        canvas=config.canvas_length, experts=config.num_experts,
    )  # fmt: skip
    print(describe(report.figures))
    for prefix in options.prefix:
        row = one_canvas(model, prefix, options.rounds, clock)
        report.add("one_canvas", row, describe(row))
    for count in options.in_flight:
        try:
            row = in_flight(model, count, options.prefix[0], max(2, options.rounds // 3), clock)
        except torch.OutOfMemoryError:
            print(f"{count} in flight do not fit")
            break
        report.add("in_flight", row, describe(row))
    if options.reference:
        from gpu_reference import against_transformers

        for dtype in (torch.bfloat16, torch.float32):
            if dtype == torch.float32 and device.type == "cuda" and 2.5e9 * weights > torch.cuda.mem_get_info()[0]:
                break
            row = against_transformers(model.to(dtype), options.prefix[0], options.rounds, clock)
            report.add("transformers", row, describe(row))
    if device.type == "cuda":
        rows = [encoded(model, options.prefix[0])]
        for name, work in (("step", step_of(model, rows)), ("token", token_of(model, rows))):
            row = {"of": name, **on_device(work)}
            report.add("on_device", row, describe(row))
    print(f"{time.perf_counter() - started:.0f} seconds in all")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a toy model")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cuda", "cpu"])
    parser.add_argument("--layers", type=int, help="fewer layers than the release's 30")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--prefix", type=int, nargs="+", help="tokens before the canvas; the first is also in flight")
    parser.add_argument("--in-flight", type=int, nargs="*", help="sequences at a time")
    parser.add_argument("--reference", action="store_true", help="the same step through transformers' code")
    parser.add_argument("--out", type=Path, help="where to write the figures, as JSON")
    options = parser.parse_args()
    options.prefix = options.prefix or ([20] if options.tiny else [1024, 4096])
    if options.in_flight is None:
        options.in_flight = [1, 2] if options.tiny else [1, 2, 4, 8, 16, 32]
    try:
        run(options)
    except UserError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
