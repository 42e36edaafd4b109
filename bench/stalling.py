"""What plain requests wait while the nastiest constraints compile again and again.

    python bench/stalling.py shared/cases/nasty_grammars.json [--seconds 30] [--model nano]

One client asks for short plain answers, one looks at /health, first alone, then beside two clients that send the
grammars of the file (`regex` and `schemas`) in turn. Prints median and 99th percentile of each phase, and their ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from soak import served

NASTY_CLIENTS = 2
MESSAGES = [{"role": "user", "content": "Hello"}]


class Measured:
    """Seconds of each kind of request, and how the grammars were answered."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {"plain": [], "health": [], "nasty": []}
        self.answers: Counter[str] = Counter()

    @contextlib.contextmanager
    def timed(self, kind: str) -> Any:
        begun = time.perf_counter()
        yield
        self.seconds[kind].append(time.perf_counter() - begun)

    def line(self, kind: str) -> str:
        seconds = np.array(self.seconds[kind]) * 1000
        if not len(seconds):
            return f"{kind:>7}  none answered"
        median, p99 = np.quantile(seconds, [0.5, 0.99])
        return f"{kind:>7}  n {len(seconds):>5}  p50 {median:8.1f} ms  p99 {p99:8.1f} ms"


async def _plain(http: httpx.AsyncClient, result: Measured, end: float) -> None:
    body = {"messages": MESSAGES, "max_tokens": 8, "seed": 1, "diffusion": {"steps": 4}}
    while time.perf_counter() < end:
        with result.timed("plain"):
            (await http.post("/v1/chat/completions", json=body)).raise_for_status()


async def _health(http: httpx.AsyncClient, result: Measured, end: float) -> None:
    while time.perf_counter() < end:
        with result.timed("health"):
            (await http.get("/health")).raise_for_status()
        await asyncio.sleep(0.05)


async def _nasty(http: httpx.AsyncClient, result: Measured, end: float, bodies: list[dict[str, Any]]) -> None:
    for body in itertools.cycle(bodies):
        left = end - time.perf_counter()
        if left <= 0:
            return
        try:
            with result.timed("nasty"):
                reply = await http.post("/v1/chat/completions", json=body, timeout=max(1.0, left))
            result.answers[str(reply.status_code)] += 1
        except httpx.TimeoutException:
            result.answers["no answer"] += 1


def _bodies(cases: dict[str, Any]) -> list[dict[str, Any]]:
    formats = [{"json_schema": {"name": "n", "schema": schema}, "type": "json_schema"} for schema in cases["schemas"]]
    asked = [{"diffusion": {"regex": regex}} for regex in cases["regex"]]
    asked += [{"response_format": one} for one in formats]
    return [{"messages": MESSAGES, "max_tokens": 32, "diffusion": {"steps": 4}} | one for one in asked]


async def measure(address: str, bodies: list[dict[str, Any]], seconds: float) -> tuple[Measured, Measured]:
    """(alone, beside the nasty ones)"""
    phases = Measured(), Measured()
    async with httpx.AsyncClient(base_url=address, timeout=seconds + 120) as http:
        await _plain(http, Measured(), time.perf_counter() + 3)
        for phase, nasty in zip(phases, (0, NASTY_CLIENTS), strict=True):
            end = time.perf_counter() + seconds
            others = [_nasty(http, phase, end, bodies[i:] + bodies[:i]) for i in range(nasty)]
            await asyncio.gather(_plain(http, phase, end), _health(http, phase, end), *others)
    return phases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--model", default="nano")
    options = parser.parse_args()
    bodies = _bodies(json.loads(options.cases.read_text()))
    with served(options.model) as address:  # a server that stalls may not even stop in time
        _report(*asyncio.run(measure(address, bodies, options.seconds)))


def _report(quiet: Measured, beside: Measured) -> None:
    for name, phase in (("alone", quiet), (f"beside {NASTY_CLIENTS} nasty clients", beside)):
        print(name, *(phase.line(kind) for kind in phase.seconds), dict(phase.answers), sep="\n  ")
    for kind in ("plain", "health"):
        if beside.seconds[kind]:
            share = [np.quantile(beside.seconds[kind], q) / np.quantile(quiet.seconds[kind], q) for q in (0.5, 0.99)]
            print(f"{kind}: p50 × {share[0]:.2f}, p99 × {share[1]:.2f}")


if __name__ == "__main__":
    main()
