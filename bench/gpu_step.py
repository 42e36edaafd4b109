"""What a denoise step of the released architecture costs, part by part, and how it compares with one token at a time.

    python bench/gpu_step.py [--tiny] [--device cuda|cpu] [--dtype bf16 fp8 int4] [--layers N] [--rounds N]
                             [--prefix N ...] [--in-flight N ...] [--kernels] [--tune N] [--reference] [--out FILE]

The weights are random, made on the device: 50.5 GB in bfloat16 for all 30 layers. A third of each router's experts
is damped, so that a canvas uses as many as published. On a GPU the plain modules are measured (bfloat16 alone), then
the kernels of `diffusiongemma.gpu` as captured graphs; `--kernels` runs these on a CPU too, in Triton's interpreter.
`--tune N` first tries up to N blocks for each kernel product. With few layers both are compared. `--reference` runs the
same step through transformers' code around the same tensors, in float32 too where that fits (`--layers 4`): in
bfloat16, rounding alone sends some tokens to other experts. Each section is written to FILE as soon as it is measured,
and a section that fails leaves the others.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from gpu_model import config_of, experts_used, random_model, weight_gigabytes, weights_read
from gpu_timing import Clock, Work, gigabytes, on_device, split

from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.diffusion.denoise import Canvas, denoise_step
from diffusiongemma.diffusion.noise import Noise
from diffusiongemma.diffusion.readout import ReadOptions, read
from diffusiongemma.errors import UserError
from diffusiongemma.kernels.native import rows_alone
from diffusiongemma.model.cache import SequenceCache
from diffusiongemma.model.model import Model
from diffusiongemma.weights.locate import choose_device

SCHEMES = {"bf16": None, "fp8": "fp8", "int4": "int4"}
COMPARED = 4  # layers at most: random ones drift apart

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
        with rows_alone():
            read_now = read(model.backbone, hidden, ones, ones / 2, ones > 0, ReadOptions(want_soft=False))
        tokens: list[int] = read_now.sampled.tolist()
        for row in rows:
            row.forget(1)
        return tokens

    return work


# --- the sections ---------------------------------------------------------------------------------------------------


def one_canvas(model: Model, prefix: int, rounds: int, clock: Clock) -> dict[str, Any]:
    gigabytes(peak=True)
    rows = [encoded(model, prefix)]
    step, token, captured = step_of(model, rows), token_of(model, rows), model.backbone.fast is not None
    used, milliseconds = experts_used(model, step), clock.median(step, rounds)
    figures = {
        "prefix": prefix,
        "kernels": captured,
        "experts_used": used,
        "step_ms": milliseconds,
        "weights_read_gb": weights_read(model, used),
        "gb_per_second": weights_read(model, used) / milliseconds * 1e3,
        "token_ms": clock.median(token, rounds),
    }
    if captured:
        passes = passes_of(model, rows[0])
        figures |= {f"{name}_ms": clock.median(work, rounds) for name, work in passes.items()}
        if clock.cuda:
            figures |= {f"{name}_on_device": on_device(work) for name, work in [("step", step), *passes.items()]}
    else:
        figures["parts_ms"] = split(model, step, rounds, clock)
    return figures | {
        "cache_gb": rows[0].nbytes() / 1e9,
        "held_gb": gigabytes(),
        "peak_gb": gigabytes(peak=True),
    }


def passes_of(model: Model, row: SequenceCache) -> dict[str, Work]:
    """The two graphs of a step of one canvas, and that of a token, each alone."""
    width, size, device = model.config.canvas_length, model.config.vocab_size, model.device
    canvas = torch.randint(10, size, (width,), device=device)
    soft = torch.randn(width, model.config.hidden_size, device=device).to(model.dtype)
    hidden = model.denoise_rows([row], [canvas], [soft])
    ones = torch.ones(width, device=device)
    embedding = [model.backbone.embed(canvas[:1])]

    def one_token() -> None:
        model.encode_rows([row], embedding)
        row.forget(1)

    return {
        "denoise_pass": lambda: model.denoise_rows([row], [canvas], [soft]),
        "read_pass": lambda: read(model.backbone, hidden, ones, ones / 2, ones < 0),
        "token_pass": one_token,
    }


@torch.no_grad()
def agreement(model: Model, prefix: int) -> dict[str, Any]:
    """How far hidden states of the kernels are from those of the plain modules: norm of the difference by the norm, in
    all and of the median position, of a prompt, a canvas and a token; and positions where the argmax is the same."""
    fast, found = model.backbone.fast, []
    ids = torch.randint(10, model.config.vocab_size, (prefix,), device=model.device)
    canvas = torch.randint(10, model.config.vocab_size, (model.config.canvas_length,), device=model.device)
    for one in (None, fast):
        model.backbone.fast, row = one, model.new_sequence()
        prompt = model.encode_rows([row], [model.backbone.embed(ids)])
        denoised = model.denoise_rows([row], [canvas], [None])
        ones = torch.ones(len(canvas), device=model.device)
        reading = read(model.backbone, denoised, ones, ones / 2, ones < 0)
        token = model.encode_rows([row], [model.backbone.embed(ids[:1])])
        states = {"prompt": prompt, "canvas": denoised, "token": token, "soft": reading.soft}
        found.append(states | {"argmax": reading.argmax})
    plain, kernels = found
    figures = {"same_argmax": float((plain.pop("argmax") == kernels.pop("argmax")).float().mean())}
    for name, exact in plain.items():
        error = (kernels[name].float() - exact.float()).norm(dim=-1)
        figures[name] = float(error.norm() / exact.float().norm())
        figures[f"{name}_median"] = float((error / exact.float().norm(dim=-1)).median())
    return figures


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
        self.failed = False

    def add(self, section: str, value: dict[str, Any], line: str = "") -> None:
        self.figures[section] = [*self.figures.get(section, []), value]
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(self.figures, indent=1) + "\n")
        print(f"{section}: {line or describe(value)}", flush=True)

    def attempt(self, section: str, work: Callable[[], dict[str, Any]], **known: Any) -> bool:
        """Add what `work` measures, or say what went wrong -> whether it did not."""
        try:
            self.add(section, known | work())
        except Exception as error:
            self.failed = True
            print(f"{section} {known}: {type(error).__name__}", traceback.format_exc(), sep="\n", flush=True)
            return False
        return True


def describe(row: dict[str, Any]) -> str:
    def show(value: Any) -> str:
        if isinstance(value, dict):
            numbers = {name: x for name, x in value.items() if not isinstance(x, list)}
            lines = [f"{name:24}{show(x):>10}" for name, x in sorted(numbers.items(), key=lambda item: -item[1])]
            lines += [
                f"{one['kernel'][:60]:60}{one['ms']:8.3f} ms in{one['launches']:5}" for one in value.get("longest", [])
            ]
            return "".join(f"\n    {line}" for line in lines)
        return f"{value:,.4g}" if isinstance(value, float) else str(value)

    return "  ".join(f"{name.replace('_', ' ')} {show(x)}" for name, x in row.items() if not isinstance(x, list))


def run(options: argparse.Namespace) -> bool:
    """-> whether all went well."""
    device = choose_device(options.device)
    clock, started = Clock(device), time.perf_counter()
    config = config_of(options.tiny, options.layers)
    config = replace(config, canvas_length=options.canvas or config.canvas_length)
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    report = Report(
        options.out, device=where, date=time.strftime("%Y-%m-%d %H:%M"), torch=torch.__version__,
        python=platform.python_version(), command=" ".join(sys.argv), layers=config.num_layers,
        canvas=config.canvas_length, experts=config.num_experts,
    )  # fmt: skip
    print(describe(report.figures))
    # Triton's interpreter does not compute in bfloat16.
    numbers = torch.float32 if options.kernels and device.type == "cpu" else torch.bfloat16
    for dtype in options.dtype:
        model = random_model(config, device, SCHEMES[dtype], numbers)
        gb, made = weight_gigabytes(model), time.perf_counter() - started
        report.add("weights", {"dtype": dtype, "gb": gb, "made_at_s": made})
        if dtype == "bf16":
            measure(model, options, report, clock, dtype)
        if device.type == "cuda" or options.kernels:
            with_kernels(model, options, report, clock, dtype)
        del model
        gc.collect()  # kernels and model hold each other
        if device.type == "cuda":
            torch.cuda.empty_cache()
        print(f"{time.perf_counter() - started:.0f} seconds so far", flush=True)
    return not report.failed


def measure(model: Model, options: argparse.Namespace, report: Report, clock: Clock, dtype: str) -> None:
    rounds, fast = options.rounds, model.backbone.fast is not None
    for prefix in options.prefix:
        report.attempt("one_canvas", lambda prefix=prefix: one_canvas(model, prefix, rounds, clock), dtype=dtype)
    for count in options.in_flight:
        several = lambda count=count: in_flight(model, count, options.prefix[0], max(2, rounds // 3), clock)  # noqa: E731
        if not report.attempt("in_flight", several, dtype=dtype, kernels=fast):
            break
    if fast:
        return
    if options.reference:
        from gpu_reference import against_transformers

        for precision in (torch.bfloat16, torch.float32):
            gb = weight_gigabytes(model)
            if precision == torch.float32 and clock.cuda and 2.5e9 * gb > torch.cuda.mem_get_info()[0]:
                break
            row = against_transformers(model.to(precision), options.prefix[0], rounds, clock)
            report.add("transformers", row)
        model.to(torch.bfloat16)
    if clock.cuda:
        rows = [encoded(model, options.prefix[0])]
        for name, work in (("step", step_of(model, rows)), ("token", token_of(model, rows))):
            report.attempt("on_device", lambda work=work: on_device(work), dtype=dtype, of=name)


def with_kernels(model: Model, options: argparse.Namespace, report: Report, clock: Clock, dtype: str) -> None:
    from diffusiongemma.gpu.passes import Passes

    def put_on() -> dict[str, Any]:
        model.backbone.fast = Passes(model, capture=clock.cuda)
        return {"held_gb": gigabytes()}

    if not report.attempt("kernels", put_on, dtype=dtype):
        return
    if options.tune:
        report.attempt("tuned", lambda: {"products": _all_tuned(model, options.tune, clock)}, dtype=dtype)
    if model.config.num_layers <= COMPARED:
        report.attempt("agreement", lambda: agreement(model, options.prefix[0]), dtype=dtype)
    measure(model, options, report, clock, dtype)


def _all_tuned(model: Model, limit: int, clock: Clock) -> list[dict[str, Any]]:
    from gpu_tune import tuned

    found = []
    for row in tuned(model, limit, clock):
        found.append(row)
        print(describe(row), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a toy model")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cuda", "cpu"])
    parser.add_argument("--dtype", nargs="+", default=["bf16"], choices=list(SCHEMES), help="of the weights")
    parser.add_argument("--kernels", action="store_true", help="the kernels for GPUs on a CPU too")
    parser.add_argument("--tune", type=int, default=0, help="try up to so many blocks for each kernel product")
    parser.add_argument("--layers", type=int, help="fewer layers than the release's 30")
    parser.add_argument("--canvas", type=int, help="another length of it")
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
        all_well = run(options)
    except UserError as error:
        raise SystemExit(str(error)) from None
    raise SystemExit(0 if all_well else 1)


if __name__ == "__main__":
    main()
