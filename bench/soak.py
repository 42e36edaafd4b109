"""Many impatient clients against one server: random lengths, cancellations, disconnects, half-sent bodies.

    python bench/soak.py [--minutes 5] [--clients 32] [--model nano] [--json]

Starts a server of its own. Every answer that arrives is compared with that of the same request sent alone at the end:
none may be lost, mixed up or late, and afterwards nothing may be running and the memory must be back.
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
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "went", "away;", "12 + 30", "is 42.", "one", "two", "three"]
LATE = 300.0  # seconds after which an answer counts as never
PATH = "/v1/chat/completions"
MISCHIEF = {"answer": 0.45, "stream": 0.2, "leave": 0.12, "leave stream": 0.13, "half a body": 0.1}


@dataclass
class Soak:
    """What happened."""

    address: str
    outcomes: Counter[str] = field(default_factory=Counter)
    answers: dict[str, tuple[dict[str, Any], str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    slowest: float = 0.0


async def soak(address: str, seconds: float, clients: int, checked: int = 200, seed: int = 0, most: int = 96) -> Soak:
    """Let `clients` loose for some seconds, wait for the last answers, and check up to `checked` of them."""
    result = Soak(address)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=address, timeout=LATE, limits=limits) as http:
        end = time.monotonic() + seconds
        await asyncio.gather(
            *(_client(http, result, random.Random(seed * 1000 + i), end, most) for i in range(clients))
        )
        await _quiet(http, result)
        chosen = random.Random(seed).sample(sorted(result.answers), min(checked, len(result.answers)))
        for key in chosen:
            body, text = result.answers[key]
            if await _text(http, body) != text:
                result.problems.append(f"another text alone: {key}")
        result.outcomes["checked"] = len(chosen)
    return result


async def _client(http: httpx.AsyncClient, result: Soak, rng: random.Random, end: float, most: int) -> None:
    while time.monotonic() < end:
        body, kind = _body(rng, most), rng.choices(list(MISCHIEF), list(MISCHIEF.values()))[0]
        started = time.monotonic()
        try:
            status = await asyncio.wait_for(_act(http, result, rng, kind, body), LATE)
        except (httpx.HTTPError, TimeoutError, ValueError, KeyError) as error:
            result.problems.append(f"{kind}: {type(error).__name__} {error}")
            status = "lost"
        result.outcomes[f"{kind}: {status}"] += 1
        result.slowest = max(result.slowest, time.monotonic() - started)
        if status == "429":
            await asyncio.sleep(rng.random() * 0.5)


def _body(rng: random.Random, most: int) -> dict[str, Any]:
    text = " ".join(rng.choices(WORDS, k=rng.choice([1, 5, 30, 300])))
    diffusion: dict[str, Any] = {"steps": rng.choice([4, 12, 48])}
    if rng.random() < 0.2:
        diffusion = {"mode": "ar"}
    elif rng.random() < 0.2:
        diffusion |= {"early_text": True}
    elif rng.random() < 0.1:
        diffusion |= {"regex": r"[a-z ]{1,40}"}
    body = {"messages": [{"role": "user", "content": text}], "seed": rng.randrange(10**6)}
    return body | {"max_tokens": rng.randrange(1, most), "diffusion": diffusion}


async def _act(http: httpx.AsyncClient, result: Soak, rng: random.Random, kind: str, body: dict[str, Any]) -> str:
    if kind == "half a body":
        return await _half(result.address, body, rng)
    if kind.startswith("leave"):
        return await _leave(http, body | {"stream": kind == "leave stream"}, rng)
    reply = await http.post(PATH, json=body | {"stream": kind == "stream"})
    if reply.status_code == 200:
        text = _streamed(reply.text) if kind == "stream" else reply.json()["choices"][0]["message"]["content"]
        result.answers[json.dumps(body, sort_keys=True)] = body, text
    elif reply.status_code != 429:
        result.problems.append(f"{kind}: {reply.status_code} {reply.text[:200]}")
    return str(reply.status_code)


def _streamed(text: str) -> str:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    if lines[-1] != "[DONE]":
        raise ValueError("the stream has no end")
    choices = [choice for line in lines[:-1] for choice in json.loads(line)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


async def _leave(http: httpx.AsyncClient, body: dict[str, Any], rng: random.Random) -> str:
    """Go away while the answer is waited for or streamed."""
    with suppress(TimeoutError):
        async with asyncio.timeout(rng.random() * 0.7):
            async with http.stream("POST", PATH, json=body) as reply:
                async for _ in reply.aiter_bytes():
                    if rng.random() < 0.3:
                        break
    return "left"


async def _half(address: str, body: dict[str, Any], rng: random.Random) -> str:
    """Promise a body, send a part of it, and go."""
    host, port = re.fullmatch(r"http://([\w.]+):(\d+)", address).groups()  # type: ignore[union-attr]
    data = json.dumps(body).encode()
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data[: rng.randrange(len(data))])
    with suppress(ConnectionError):
        await writer.drain()
        await asyncio.sleep(rng.random() * 0.2)
    writer.close()
    return "left"


async def _text(http: httpx.AsyncClient, body: dict[str, Any]) -> str:
    text: str = (await http.post(PATH, json=body)).json()["choices"][0]["message"]["content"]
    return text


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with served(options.model, "--max-queue", "64", "--memory", "1") as address:
        # The first seconds fill what is kept on purpose: beginnings of prompts, compiled constraints, token texts.
        first = asyncio.run(soak(address, min(20.0, 10 * options.minutes), options.clients, checked=0, seed=1))
        before = asyncio.run(_memory(address))
        result = asyncio.run(soak(address, 60 * options.minutes, options.clients))
        after = asyncio.run(_memory(address))
    figures = {
        "clients": options.clients,
        "minutes": options.minutes,
        "outcomes": dict(sorted(result.outcomes.items())),
        "slowest_seconds": round(result.slowest, 2),
        "resident_mib": [before[0], after[0]],
        "kept_prefixes_mib": [before[1], after[1]],
        "problems": first.problems + result.problems,
    }
    print(json.dumps(figures, indent=None if options.json else 1))
    sys.exit(bool(figures["problems"]))


if __name__ == "__main__":
    main()
