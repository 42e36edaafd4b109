"""Each layer over two processes, beside one process with one thread and with two, on the cores of this machine.

    python bench/tensor_parallel.py DIRECTORY [--layers 6] [--scheme int4] [--prefix 256] [--rounds 5] [--tiny]
        [--out FILE]

The shapes are the released ones with fewer layers (`real_size.py`, which makes the weights in DIRECTORY). What is
printed: one denoise step and one autoregressive token each way, and what a layer's three sums take of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from gpu_model import config_of
from gpu_step import encoded, step_of, token_of
from real_size import Figures, make, seconds

import diffusiongemma as dg
from diffusiongemma.config import ModelConfig
from diffusiongemma.weights.schemes import Scheme

SUMS = 3  # of all processes, in a layer: attention, MLP, experts
WAYS = {"one process, one thread": (1, 1), "one process, two threads": (1, 2), "two processes, a thread each": (2, 1)}


def measure(options: argparse.Namespace) -> Figures:
    """In the process that holds the model (the first, where there are two)."""
    parallel = int(os.environ.get("WORLD_SIZE", 1))
    loaded = dg.load(options.directory, device="cpu", activations="int8", tensor_parallel=parallel)
    model = loaded.network
    rows = [encoded(model, options.prefix)]
    return {
        "step_s": seconds(step_of(model, rows), options.rounds),
        "token_s": seconds(token_of(model, rows), options.rounds),
    }


def sums(options: argparse.Namespace) -> None:
    """What the sums of one pass take alone, for a canvas and for a token: for every process of torchrun."""
    dist.init_process_group("gloo")
    config = ModelConfig.from_file(options.directory / "config.json")

    def summed(tokens: int) -> float:
        x = torch.ones(tokens, config.hidden_size)
        return seconds(lambda: [dist.all_reduce(x) for _ in range(SUMS * config.num_layers)], options.rounds)

    figures = {"step_sums_s": summed(config.canvas_length), "token_sums_s": summed(1)}
    if dist.get_rank() == 0:
        print(json.dumps(figures), flush=True)
    dist.destroy_process_group()


def told(options: argparse.Namespace, part: str, processes: int, threads: int) -> Figures:
    """What this program prints when it is started so."""
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command += [__file__, str(options.directory), "--part", part]
    command += [f"--{name}={getattr(options, name)}" for name in ("prefix", "rounds")]
    done = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": str(threads)}, stdout=subprocess.PIPE, text=True, check=True
    )
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def compare(options: argparse.Namespace) -> dict[str, Any]:
    if not (options.directory / "config.json").exists():
        make(options.directory, config_of(options.tiny, options.layers), Scheme(options.scheme))
    layers = ModelConfig.from_file(options.directory / "config.json").num_layers  # it may have been there
    conditions = {"command": " ".join(sys.argv), "date": time.strftime("%Y-%m-%d"), "torch": torch.__version__}
    figures: dict[str, Any] = conditions | {"layers": layers}
    for name, (processes, threads) in WAYS.items():
        figures[name] = told(options, "measure", processes, threads)
        print(name, figures[name], flush=True)
    figures["sums"] = told(options, "sums", 2, 1)
    print("sums alone", figures["sums"])
    one, two = figures["one process, one thread"], figures["two processes, a thread each"]
    print(f"two processes: a step {one['step_s'] / two['step_s']:.2f} times as fast as one, a token "
          f"{one['token_s'] / two['token_s']:.2f} times")  # fmt: skip
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--scheme", default="int4")
    parser.add_argument("--prefix", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="toy sizes")
    parser.add_argument("--out", type=Path, help="where to write the figures, as JSON")
    parser.add_argument("--part", choices=["measure", "sums"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part == "sums":
        sums(options)
    elif options.part == "measure":
        print(json.dumps(measure(options)), flush=True)
    else:
        figures = compare(options)
        if options.out is not None:
            options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
