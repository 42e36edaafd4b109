"""How threads wait for each other: nano's request of 48 steps under each policy, on cores that are free and busy.

    python bench/waiting.py [--rounds 3] [--threads 0]

Rounds go over all policies in turn, each in a process of its own, so that what else the machine does falls on all
alike: read the ratios to the default. "busy" has as many processes computing beside it as there are cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

POLICIES: dict[str, dict[str, str]] = {
    "default": {},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "spin 1000": {"GOMP_SPINCOUNT": "1000"},
    "spin 10000": {"GOMP_SPINCOUNT": "10000"},
}
REQUEST = """
import sys, time, torch
import diffusiongemma as dg
from diffusiongemma.diffusion.stop import Never
if int(sys.argv[1]):
    torch.set_num_threads(int(sys.argv[1]))
model = dg.load("nano")
options = dict(steps=48, max_new_tokens=model.config.canvas_length, stop_rule=Never(), eos_token_ids=())
seconds = []
for _ in range(4):
    started = time.perf_counter()
    model.generate("Tell a story.", **options)
    seconds.append(time.perf_counter() - started)
print(sorted(seconds[1:])[1])
"""
BURN = "while True: pass"


def seconds_of(policy: str, threads: int) -> float:
    """The middle one of three requests, after one to warm up, in a process of its own."""
    plain = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    command = [sys.executable, "-c", REQUEST, str(threads)]
    done = subprocess.run(command, env=plain | POLICIES[policy], capture_output=True, text=True, check=True)
    return float(done.stdout)


@contextmanager
def others(count: int) -> Iterator[None]:
    burning = [subprocess.Popen([sys.executable, "-c", BURN]) for _ in range(count)]
    try:
        yield
    finally:
        for process in burning:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 leaves its default")
    options = parser.parse_args()
    cores = os.cpu_count() or 1
    print(f"{cores} cores, load {os.getloadavg()[0]:.1f} before; seconds of a request (ratio to the default)")
    for name, count in (("quiet", 0), ("busy", cores)):
        with others(count):
            rounds = [{p: seconds_of(p, options.threads) for p in POLICIES} for _ in range(options.rounds)]
        ratios = {p: statistics.median(r[p] / r["default"] for r in rounds) for p in POLICIES}
        cells = [f"{p} {statistics.median(r[p] for r in rounds):.2f} ({ratios[p]:.2f})" for p in POLICIES]
        print(f"{name}: " + " · ".join(cells), flush=True)


if __name__ == "__main__":
    main()
