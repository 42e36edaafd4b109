"""The server at 1 to 32 clients, diffusion and autoregressive in one run, and what serving costs next to the engine.

    python bench/serve.py [--clients 1,2,4,8,16,32] [--seconds 20] [--tokens 96] [--model nano] [--plot FILE] [--json]

Each client asks again as soon as it has its answer. For each number of clients the modes take turns, so that they share
the machine's moods. `first` is the time to the first text of a stream, with and without early text.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import httpx
from soak import served

PATH = "/v1/chat/completions"
MODES: dict[str, dict[str, Any]] = {
    "diffusion": {"mode": "diffusion"},
    "diffusion, early text": {"mode": "diffusion", "early_text": True},
    "autoregressive": {"mode": "ar"},
}
MANY_STEPS = "Write a long story about a ship that is lost at sea."
# What the embedded model does well: an answer of 90 tokens in a few steps.
PROMPT = """Solve this sudoku:
5.73.94..
32..5..9.
.6.24...5
283..45.7
.915728.6
67.13824.
952.6.781
.3.8.7..4
.4.9..62."""


@dataclass
class Load:
    """What clients saw in one mode."""

    seconds: float = 0.0
    tokens: int = 0
    latencies: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)

    def row(self, mode: str, clients: int) -> dict[str, Any]:
        return {
            "mode": mode,
            "clients": clients,
            "requests_per_second": len(self.latencies) / self.seconds,
            "tokens_per_second": self.tokens / self.seconds,
            "first_ms": 1e3 * statistics.median(self.firsts),
            "p50_ms": 1e3 * _quantile(self.latencies, 0.5),
            "p99_ms": 1e3 * _quantile(self.latencies, 0.99),
            "requests": len(self.latencies),
        }


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


async def load(http: httpx.AsyncClient, mode: str, clients: int, seconds: float, tokens: int) -> Load:
    """`clients` at once for `seconds`, each at least one request."""
    result, started = Load(), time.perf_counter()
    await asyncio.gather(*(_client(http, result, mode, client, started + seconds, tokens) for client in range(clients)))
    result.seconds = time.perf_counter() - started
    return result


async def _client(http: httpx.AsyncClient, result: Load, mode: str, client: int, end: float, tokens: int) -> None:
    seed = 1000 * client
    while seed == 1000 * client or time.perf_counter() < end:
        body = {
            "messages": [{"role": "user", "content": PROMPT}],
            "seed": seed,
            "max_tokens": tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
            "diffusion": MODES[mode],
        }
        await _ask(http, result, body)
        seed += 1


async def _ask(http: httpx.AsyncClient, result: Load, body: dict[str, Any]) -> None:
    started, first = time.perf_counter(), None
    async with http.stream("POST", PATH, json=body) as reply:
        reply.raise_for_status()
        async for line in reply.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            if first is None and any(choice["delta"].get("content") for choice in chunk["choices"]):
                first = time.perf_counter() - started
            if chunk.get("usage"):
                result.tokens += chunk["usage"]["completion_tokens"]
    took = time.perf_counter() - started
    result.latencies.append(took)
    result.firsts.append(took if first is None else first)


async def measure(address: str, counts: list[int], seconds: float, tokens: int) -> list[dict[str, Any]]:
    rows = []
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=600, limits=limits) as http:
        for mode in MODES:
            await load(http, mode, 1, 0, tokens)  # warms up
        for clients in counts:
            for mode in MODES:
                rows.append((await load(http, mode, clients, seconds, tokens)).row(mode, clients))
    return rows


# --- the cost of serving --------------------------------------------------------------------------------------------


def overhead(model_name: str, rounds: int) -> dict[str, float]:
    """Milliseconds of a denoise step in a plain engine and in the server's own thread at one client, turn by turn.

    Both run in this process on the same model, the same request with frames off, one that takes all its steps: with
    few, what a request costs once would count as a step's. The server's time is what the client waits, divided by the
    steps, so it holds everything: HTTP, JSON, threads, queues. On one core: two threads with helpers of their own in
    one process slow each other down (`diffusiongemma/serve/transport/threads.py`).
    """
    import torch

    import diffusiongemma as dg
    from diffusiongemma.serve.app import create_app
    from diffusiongemma.serve.settings import Settings

    torch.set_num_threads(1)
    model = dg.load(model_name)
    app = create_app(model, Settings(model_name=model_name))

    async def run() -> dict[str, float]:
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://bench", timeout=600) as http,
        ):
            while not app.state.service.worker.ready.is_set():
                await asyncio.sleep(0.01)
            pairs = [await _pair(http, model, seed) for seed in range(rounds + 1)][1:]
        plain, served_ms = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(b / a for a, b in pairs)
        return {"engine_step_ms": plain, "served_step_ms": served_ms, "overhead_percent": 100 * (ratio - 1)}

    return asyncio.run(run())


async def _pair(http: httpx.AsyncClient, model: Any, seed: int) -> tuple[float, float]:
    """(plain, served) milliseconds a step of the same request."""
    messages = [{"role": "user", "content": MANY_STEPS}]
    started = time.perf_counter()
    result = await asyncio.to_thread(model.generate, messages, seed=seed)
    plain = time.perf_counter() - started
    started = time.perf_counter()
    reply = (await http.post(PATH, json={"messages": messages, "seed": seed})).json()
    took = time.perf_counter() - started
    steps = sum(reply["choices"][0]["diffusion"]["steps"])
    assert steps == sum(result.steps), "the same request took other steps"
    return 1e3 * plain / steps, 1e3 * took / steps


# --- showing it -----------------------------------------------------------------------------------------------------


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| clients | mode | requests/s | tokens/s | first text ms | p50 ms | p99 ms |",
        "|--:|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        best = max(r["tokens_per_second"] for r in rows if r["clients"] == row["clients"])
        rate = f"{row['tokens_per_second']:,.0f}"
        rate = f"**{rate}**" if row["tokens_per_second"] == best else rate
        lines.append(
            f"| {row['clients']} | {row['mode']} | {row['requests_per_second']:.2f} | {rate} "
            f"| {row['first_ms']:,.0f} | {row['p50_ms']:,.0f} | {row['p99_ms']:,.0f} |"
        )
    return "\n".join(lines)


def plot(rows: list[dict[str, Any]], file: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 3, figsize=(13, 4), layout="constrained")
    shown = (("tokens_per_second", "tokens/s"), ("first_ms", "time to first text, ms"), ("p50_ms", "latency p50, ms"))
    for panel, (name, label) in zip(panels, shown, strict=True):
        for mode in MODES:
            mine = [row for row in rows if row["mode"] == mode]
            panel.plot([row["clients"] for row in mine], [row[name] for row in mine], marker="o", label=mode)
        panel.set(xscale="log", yscale="log", xlabel="clients", ylabel=label)
        panel.set_xticks(
            sorted({row["clients"] for row in rows}), [str(c) for c in sorted({r["clients"] for r in rows})]
        )
        panel.grid(alpha=0.3)
    panels[0].legend()
    figure.savefig(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", default="1,2,4,8,16,32")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each mode at each number of clients")
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=20, help="of the comparison with the plain engine")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--max-requests", type=int, default=32)
    parser.add_argument("--plot", metavar="FILE")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.plot and find_spec("matplotlib") is None:
        parser.error("--plot takes matplotlib: pip install matplotlib")
    counts = [int(count) for count in options.clients.split(",")]
    cost = overhead(options.model, options.rounds)
    with served(options.model, "--max-requests", str(options.max_requests)) as address:
        rows = asyncio.run(measure(address, counts, options.seconds, options.tokens))
    if options.json:
        print(json.dumps({"overhead": cost, "rows": rows}))
    else:
        print(table(rows))
        print(
            f"\nA step takes {cost['engine_step_ms']:.2f} ms in the plain engine, {cost['served_step_ms']:.2f} ms as "
            f"one client of the server sees it: {cost['overhead_percent']:+.1f} %."
        )
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
