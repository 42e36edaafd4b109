"""What plain requests wait while the nastiest constraints compile again and again.

    python bench/stalling.py shared/cases/nasty_grammars.json [--seconds 30] [--model nano]

One client asks for short plain answers, one looks at /health: first alone, then beside two clients that ask for answers
without a grammar, then beside two that send the grammars of the file (`regex`, `schemas`, `bodies`) in turn, each a
little changed every time, so that all of them are compiled again and again. Prints median and 99th percentile of each
phase in milliseconds, and the memory of the server with its compiling processes before and after.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from soak import served

OTHERS = 2  # clients
TIDY = 2.5  # seconds after which a server without work has given its memory back
MESSAGES = [{"role": "user", "content": "Hello"}]
ASKED = {"messages": MESSAGES, "max_tokens": 32, "diffusion": {"steps": 4}}


class Measured:
    """Seconds of each kind of request, and how the grammars were answered."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {"plain": [], "health": [], "others": []}
        self.answers: Counter[str] = Counter()
        self.mib_before = self.mib_after = 0

    @contextlib.contextmanager
    def timed(self, kind: str) -> Any:
        begun = time.perf_counter()
        yield
        self.seconds[kind].append(time.perf_counter() - begun)

    def figures(self, alone: Measured) -> dict[str, Any]:
        """Milliseconds, and how many times those of the first phase they are."""
        figures: dict[str, Any] = {}
        for kind, seconds in self.seconds.items():
            if seconds:
                p50, p99 = (round(1000 * float(q), 1) for q in np.quantile(seconds, [0.5, 0.99]))
                figures[kind] = {"n": len(seconds), "p50": p50, "p99": p99}
            if seconds and alone.seconds[kind]:
                figures[kind]["p99_times_alone"] = round(p99 / 1000 / float(np.quantile(alone.seconds[kind], 0.99)), 2)
        answers = dict(sorted(self.answers.items()))
        return figures | {"answers": answers, "mib_before": self.mib_before, "mib_after": self.mib_after}


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


async def _others(http: httpx.AsyncClient, result: Measured, end: float, bodies: Iterator[dict[str, Any]]) -> None:
    for body in bodies:
        left = end - time.perf_counter()
        if left <= 0:
            return
        try:
            with result.timed("others"):
                reply = await http.post("/v1/chat/completions", json=body, timeout=max(1.0, left))
            result.answers[f"{_name(body)}: {reply.status_code}"] += 1
        except httpx.TimeoutException:
            result.answers[f"{_name(body)}: no answer"] += 1


def _name(body: dict[str, Any]) -> str:
    asked = body["diffusion"].get("regex") or json.dumps(body.get("response_format", "plain"))
    return str(asked).partition("|~")[0][:60]


def _bodies(cases: dict[str, Any], client: int) -> Iterator[dict[str, Any]]:
    """The grammars in turn for ever, from another one on for each client, and no two alike."""
    asked = [{"diffusion": {"regex": regex}} for regex in cases["regex"]]
    asked += [{"schema": schema} for schema in cases["schemas"]]
    asked += cases["bodies"]
    for turn in itertools.count():
        body = ASKED | asked[(turn + client) % len(asked)]
        mark = f"~{client}~{turn}"
        if "regex" in (diffusion := body["diffusion"]):
            body["diffusion"] = {"steps": 4, **diffusion, "regex": f"{diffusion['regex']}|{mark}"}
        if schema := body.pop("schema", None):
            changed = {"anyOf": [schema, {"const": mark}]}
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "n", "schema": changed}}
        yield body


async def measure(address: str, cases: dict[str, Any], seconds: float) -> tuple[Measured, ...]:
    """Alone, beside plain clients, beside nasty ones."""
    alone, beside_plain, beside_nasty = Measured(), Measured(), Measured()
    plain = [itertools.repeat(ASKED)] * OTHERS
    nasty = [_bodies(cases, client) for client in range(OTHERS)]
    async with httpx.AsyncClient(base_url=address, timeout=seconds + 120) as http:
        await _plain(http, Measured(), time.perf_counter() + 3)
        (await http.post("/v1/chat/completions", json=ASKED | {"diffusion": {"regex": "[a-z]+"}})).raise_for_status()
        for phase, bodies in ((alone, []), (beside_plain, plain), (beside_nasty, nasty)):
            await asyncio.sleep(TIDY)
            phase.mib_before = _mebibytes()
            end = time.perf_counter() + seconds
            others = [_others(http, phase, end, asked) for asked in bodies]
            await asyncio.gather(_plain(http, phase, end), _health(http, phase, end), *others)
            await asyncio.sleep(TIDY)
            phase.mib_after = _mebibytes()
    return alone, beside_plain, beside_nasty


def _mebibytes() -> int:
    """Of all processes that this one has started, and that they have; what several share is shared out."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    kib = 0
    for pid in ours - {os.getpid()}:
        with contextlib.suppress(OSError):
            kib += int(re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1])
    return kib // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("--seconds", type=float, default=30, help="of each phase")
    parser.add_argument("--model", default="nano")
    options = parser.parse_args()
    with served(options.model) as address:  # a server that stalls may not even stop in time
        phases = asyncio.run(measure(address, json.loads(options.cases.read_text()), options.seconds))
    names = ("alone", "beside plain clients", "beside nasty clients")
    print(json.dumps({name: phase.figures(phases[0]) for name, phase in zip(names, phases, strict=True)}, indent=1))


if __name__ == "__main__":
    main()
