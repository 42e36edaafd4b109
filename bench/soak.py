"""Many impatient clients of every interface against one server: random lengths, disconnects, half-sent bodies.

    python bench/soak.py [--minutes 5] [--clients 32] [--model nano] [--interfaces chat,messages] [--json]

Starts a server of its own. Every answer that arrives is compared with that of the same request sent alone at the end:
none may be lost, mixed up or late, and afterwards nothing may be running and the memory must be back. It is noted after
each minute, in a pause: it must level off.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
from soak_requests import INTERFACES, Interface

LATE = 300.0  # seconds after which an answer counts as never
MISCHIEF = {"answer": 0.45, "stream": 0.2, "leave": 0.12, "leave stream": 0.13, "half a body": 0.1}


@dataclass
class Soak:
    """What happened."""

    address: str
    outcomes: Counter[str] = field(default_factory=Counter)
    interfaces: list[Interface] = field(default_factory=lambda: list(INTERFACES.values()))
    answers: dict[str, tuple[Interface, dict[str, Any], str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    slowest: float = 0.0

    @property
    def unheard(self) -> set[str]:
        """Paths of which no answer has come."""
        return {interface.path for interface in self.interfaces} - set(self.outcomes)


async def soak(
    address: str,
    seconds: float,
    clients: int,
    checked: int = 200,
    seed: int = 0,
    most: int = 96,
    interfaces: Iterable[str] = INTERFACES,
) -> Soak:
    """Let `clients` loose for some seconds, and on a slow machine until every interface has answered; wait for the last
    answers, and check up to `checked` of them."""
    result = Soak(address, interfaces=[INTERFACES[name] for name in interfaces])
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=address, timeout=LATE, limits=limits) as http:
        end = time.monotonic() + seconds
        await asyncio.gather(
            *(_client(http, result, random.Random(seed * 1000 + i), end, most) for i in range(clients))
        )
        await _quiet(http, result)
        chosen = random.Random(seed).sample(sorted(result.answers), min(checked, len(result.answers)))
        for key in chosen:
            interface, body, text = result.answers[key]
            if await _text(http, interface, body) != text:
                result.problems.append(f"another text alone: {key}")
        result.outcomes["checked"] = len(chosen)
    return result


async def _client(http: httpx.AsyncClient, result: Soak, rng: random.Random, end: float, most: int) -> None:
    while (now := time.monotonic()) < end or (result.unheard and now < end + LATE):
        interface, kind = rng.choice(result.interfaces), rng.choices(list(MISCHIEF), list(MISCHIEF.values()))[0]
        body, started = interface.ask(rng, most), time.monotonic()
        try:
            status = await asyncio.wait_for(_act(http, result, rng, kind, interface, body), LATE)
        except (httpx.HTTPError, TimeoutError, ValueError, KeyError) as error:
            result.problems.append(f"{kind} {interface.path}: {type(error).__name__} {error}")
            status = "lost"
        result.outcomes[f"{kind}: {status}"] += 1
        result.slowest = max(result.slowest, time.monotonic() - started)
        if status == "429":
            await asyncio.sleep(rng.random() * 0.5)


async def _act(
    http: httpx.AsyncClient, result: Soak, rng: random.Random, kind: str, interface: Interface, body: dict[str, Any]
) -> str:
    if kind == "half a body":
        return await _half(result.address, interface.path, body, rng)
    if kind.startswith("leave"):
        return await _leave(http, interface.path, body | {"stream": kind == "leave stream"}, rng)
    reply = await http.post(interface.path, json=body | {"stream": kind == "stream"})
    if reply.status_code == 200:
        text = interface.streamed(reply.text) if kind == "stream" else interface.whole(reply.json())
        result.answers[interface.path + json.dumps(body, sort_keys=True)] = interface, body, text
        result.outcomes[interface.path] += 1
    elif reply.status_code != 429:
        result.problems.append(f"{kind} {interface.path}: {reply.status_code} {reply.text[:200]} {body}")
    return str(reply.status_code)


async def _leave(http: httpx.AsyncClient, path: str, body: dict[str, Any], rng: random.Random) -> str:
    """Go away while the answer is waited for or streamed."""
    with suppress(TimeoutError):
        async with asyncio.timeout(rng.random() * 0.7):
            async with http.stream("POST", path, json=body) as reply:
                async for _ in reply.aiter_bytes():
                    if rng.random() < 0.3:
                        break
    return "left"


async def _half(address: str, path: str, body: dict[str, Any], rng: random.Random) -> str:
    """Promise a body, send a part of it, and go."""
    host, port = re.fullmatch(r"http://([\w.]+):(\d+)", address).groups()  # type: ignore[union-attr]
    data = json.dumps(body).encode()
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data[: rng.randrange(len(data))])
    with suppress(ConnectionError):
        await writer.drain()
        await asyncio.sleep(rng.random() * 0.2)
    writer.close()
    return "left"


async def _text(http: httpx.AsyncClient, interface: Interface, body: dict[str, Any]) -> str:
    return interface.whole((await http.post(interface.path, json=body)).json())


async def _quiet(http: httpx.AsyncClient, result: Soak) -> None:
    """All that was left behind must end by itself."""
    for _ in range(200):
        if await readings(http, "running_requests", "queued_requests", "cache_bytes") == [0, 0, 0]:
            return
        await asyncio.sleep(0.05)
    result.problems.append("something still runs")


async def readings(http: httpx.AsyncClient, *names: str) -> list[float]:
    text = (await http.get("/metrics")).text
    return [float(re.search(rf"^diffusiongemma_{name} (\S+)$", text, re.M)[1]) for name in names]  # type: ignore[index]


@contextmanager
def served(model: str, *options: str) -> Any:
    """The address of a server in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "diffusiongemma", "serve", "--model", model, "--port", str(port), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        if not process.stdout.readline():
            raise SystemExit("the server did not start")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


async def _memory(address: str) -> list[int]:
    """MiB resident, and of them beginnings of prompts kept on purpose, after a pause in which the server tidies up."""
    await asyncio.sleep(3)
    async with httpx.AsyncClient(base_url=address, timeout=60) as http:
        return [round(value / 2**20) for value in await readings(http, "resident_bytes", "prefix_bytes")]


def _stretches(minutes: float) -> list[float]:
    """Seconds of each round; memory is looked at between two of them."""
    whole, rest = divmod(60 * minutes, 60)
    return [60.0] * int(whole) + [rest] * (rest > 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--interfaces", default=",".join(INTERFACES), help="names, with commas between them")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    names = options.interfaces.split(",")
    # Little memory, so that beginnings of prompts fill their share of it soon.
    with served(options.model, "--max-queue", "64", "--memory", "0.25", "--alias", "*") as address:
        # The first seconds fill what is kept on purpose: beginnings of prompts, compiled constraints, token texts.
        warm = min(20.0, 10 * options.minutes)
        first = asyncio.run(soak(address, warm, options.clients, checked=0, seed=1, interfaces=names))
        memory = [asyncio.run(_memory(address))]
        rounds = []
        for seed, seconds in enumerate(_stretches(options.minutes), start=2):
            checked = max(10, round(200 * seconds / 60 / options.minutes))
            rounds.append(asyncio.run(soak(address, seconds, options.clients, checked, seed, interfaces=names)))
            memory.append(asyncio.run(_memory(address)))
            print(f"{seed - 1}: {memory[-1][0]} MiB", file=sys.stderr, flush=True)
    outcomes = sum((done.outcomes for done in rounds), Counter[str]())
    figures = {
        "clients": options.clients,
        "minutes": options.minutes,
        "outcomes": dict(sorted(outcomes.items())),
        "slowest_seconds": round(max(done.slowest for done in rounds), 2),
        "resident_mib": [resident for resident, _ in memory],
        "kept_prefixes_mib": [kept for _, kept in memory],
        "problems": sum((done.problems for done in rounds), first.problems),
    }
    print(json.dumps(figures, indent=None if options.json else 1))
    sys.exit(bool(figures["problems"]))


if __name__ == "__main__":
    main()
