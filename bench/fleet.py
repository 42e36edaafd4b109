"""How many devices for how many users: arithmetic from the measured rates of one engine, and a real run beside it.

    python bench/fleet.py [--users 1,10,100,1000] [--devices 1,2,4,8,16] [--price 1.0] [--requests 4] [--model nano]
                          [--prompt TEXT] [--share 0.5] [--compare 1,2,4,8,16,32] [--seconds 10] [--json]

One engine is measured at 1, 2, 4, … 32 requests at a time, in both modes: requests a second, tokens a second, and how
far the slowest of a hundred is behind the mean. The rest is arithmetic, with these assumptions:

- each user asks again as soon as the answer is there, and all ask for the same kind of answer;
- users are shared out evenly over the devices, and a device computes at most 32 requests at a time, the rest wait;
- devices do not slow each other down, and the way in costs nothing;
- a device costs the same in both modes. `--price` is one device's, per hour, in whatever currency.

In a mixed fleet `--share` of the devices decode by diffusion and the rest token by token; users are sent where their
answer comes soonest until both sides are equally fast. With `--compare` two replicas are started on Ray, on one core
each, and what so many clients see is set beside what the arithmetic says.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import json
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

from serve import PROMPT, load
from soak import served

MOST = 32
SIZES = (1, 2, 4, 8, 16, 32)
NAMES = {"diffusion": "diffusion", "ar": "autoregressive"}


@dataclass(frozen=True)
class Rate:
    """What one device does with so many requests at a time."""

    at_once: int
    requests: float  # a second
    tokens: float  # a second
    spread: float  # the 99th percentile of latency over its mean
    per_forward: float  # tokens


@dataclass(frozen=True)
class Plan:
    """What so many users see of so many devices."""

    fleet: str
    users: int
    devices: int
    tokens_per_second: float
    mean_seconds: float
    p99_seconds: float
    cost_per_million: float


# --- one engine -----------------------------------------------------------------------------------------------------


def measure(name: str, mode: str, at_once: int, each: int, tokens: int, prompt: str) -> Rate:
    """`each` requests for each of `at_once` places, in an engine of its own on one thread."""
    import torch

    import diffusiongemma as dg
    from diffusiongemma.engine.engine import Engine
    from diffusiongemma.events import Finished

    torch.set_num_threads(1)
    model = dg.load(name)
    messages = [{"role": "user", "content": prompt}]
    count = max(3, each * at_once)
    requests = [model.request(messages, id=n, seed=n, max_new_tokens=tokens, mode=mode) for n in range(count)]
    engine, waiting, begun, seconds = Engine(model.network, model.tokenizer, at_once), requests[::-1], {}, []
    made = passes = 0
    started = time.perf_counter()
    while waiting or engine.busy:
        while waiting and len(begun) < at_once:  # a client for each place, that asks again
            request = waiting.pop()
            engine.submit(request)
            begun[request.id] = time.perf_counter()
        for event in engine.step():
            if isinstance(event, Finished):
                seconds.append(time.perf_counter() - begun.pop(event.request))
                made += len(event.result.tokens)
                passes += event.result.forward_passes
    took = time.perf_counter() - started
    slowest = sorted(seconds)[min(len(seconds) - 1, int(0.99 * len(seconds)))]
    return Rate(at_once, count / took, made / took, slowest / statistics.mean(seconds), made / passes)


# --- arithmetic -----------------------------------------------------------------------------------------------------


def at(rates: list[Rate], at_once: float) -> Rate:
    """Between two measured numbers of requests the rates lie on a line; beyond the last they stay."""
    at_once = min(max(at_once, rates[0].at_once), rates[-1].at_once)
    after = min(bisect.bisect_left([rate.at_once for rate in rates], at_once), len(rates) - 1)
    low, high = rates[max(0, after - 1)], rates[after]
    part = 0.0 if low is high else (at_once - low.at_once) / (high.at_once - low.at_once)
    between = {name: value + part * (getattr(high, name) - value) for name, value in asdict(low).items()}
    return Rate(**between)


def plan(fleet: str, rates: list[Rate], users: float, devices: int, price: float) -> Plan:
    """Little's law: users = rate × latency. A device without a user does nothing."""
    busy = min(devices, max(1, users))
    each = max(1.0, users / busy)
    one = at(rates, each)
    mean, tokens = each / one.requests, min(busy, users) * one.tokens  # less than a user is one who asks at times
    cost = devices * price / 3600 / tokens * 1e6
    return Plan(fleet, round(users), devices, tokens, mean, mean * one.spread, cost)


def mixed(rates: dict[str, list[Rate]], users: int, devices: int, price: float, share: float) -> Plan:
    """Users are moved to the autoregressive part until the means are equal, or nothing is gained by more."""
    first = min(max(1, round(share * devices)), devices - 1)
    sides = [("diffusion", first), ("ar", devices - first)]
    low, high = 0.0, float(users)
    for _ in range(50):  # bisection of how many use diffusion
        using = (low + high) / 2
        times = [
            plan("", rates[mode], part, n, price).mean_seconds
            for (mode, n), part in zip(sides, (using, users - using), strict=True)
        ]
        low, high = (using, high) if times[0] < times[1] else (low, using)
    parts = [
        plan("", rates[mode], part, n, price)
        for (mode, n), part in zip(sides, (low, users - low), strict=True)
        if part > 0.01
    ]
    tokens = sum(one.tokens_per_second for one in parts)
    mean = max(one.mean_seconds for one in parts)
    cost = devices * price / 3600 / tokens * 1e6
    return Plan("mixed", users, devices, tokens, mean, max(one.p99_seconds for one in parts), cost)


def plans(rates: dict[str, list[Rate]], users: list[int], devices: list[int], price: float, share: float) -> list[Plan]:
    found = []
    for one in users:
        for n in devices:
            found += [plan(NAMES[mode], rates[mode], one, n, price) for mode in rates]
            found += [mixed(rates, one, n, price, share)] if n > 1 else []
    return found


def crossing(rates: dict[str, list[Rate]]) -> dict[int, float]:
    """By users of one device: the tokens a forward pass must bring for diffusion to be ahead, a pass costing what it
    costs for this kind of answer."""
    return {
        own.at_once: own.per_forward * other.tokens / own.tokens
        for own, other in zip(rates["diffusion"], rates["ar"], strict=True)
    }


# --- a real run -----------------------------------------------------------------------------------------------------


def compare(name: str, rates: dict[str, list[Rate]], counts: list[int], seconds: float, tokens: int) -> list[Any]:
    import httpx

    async def run(address: str) -> list[Any]:
        rows = []
        async with httpx.AsyncClient(base_url=address, timeout=600, limits=httpx.Limits(max_connections=None)) as http:
            await load(http, "diffusion", 2, 0, tokens)
            for clients in counts:
                seen = (await load(http, "diffusion", clients, seconds, tokens)).row("diffusion", clients)
                said = plan("diffusion", rates["diffusion"], clients, 2, 1.0)
                rows.append(
                    {
                        "clients": clients,
                        "tokens_per_second": seen["tokens_per_second"],
                        "said_tokens_per_second": said.tokens_per_second,
                        "p99_seconds": seen["p99_ms"] / 1e3,
                        "said_p99_seconds": said.p99_seconds,
                    }
                )
        return rows

    options = ("--replicas", "2", "--replica-cpus", "1", "--max-requests", str(MOST))
    with served(name, *options) as address:
        return asyncio.run(run(address))


# --- showing it -----------------------------------------------------------------------------------------------------


def table(rows: list[dict[str, Any]]) -> str:
    def shown(value: Any) -> str:
        return (
            f"{value:,.3g}"
            if isinstance(value, float) and value < 100
            else f"{value:,.0f}"
            if not isinstance(value, str)
            else value
        )

    names = list(rows[0])
    lines = ["| " + " | ".join(name.replace("_", " ") for name in names) + " |", "|" + "--:|" * len(names)]
    return "\n".join([*lines, *("| " + " | ".join(shown(row[name]) for name in names) + " |" for row in rows)])


def whole_numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=whole_numbers, default=[1, 10, 100, 1000])
    parser.add_argument("--devices", type=whole_numbers, default=[1, 2, 4, 8, 16])
    parser.add_argument("--price", type=float, default=1.0)
    parser.add_argument("--share", type=float, default=0.5, help="of a mixed fleet, that decodes by diffusion")
    parser.add_argument("--requests", type=int, default=4, help="measured for each place in the batch")
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--prompt", default=PROMPT, help="of the one engine; the real run has the default's")
    parser.add_argument("--sizes", type=whole_numbers, default=list(SIZES), help="requests at a time that are measured")
    parser.add_argument("--compare", type=whole_numbers, metavar="CLIENTS", help="with two replicas on Ray")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the real run at each number of clients")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rates = {
        mode: [
            measure(options.model, mode, size, options.requests, options.tokens, options.prompt)
            for size in options.sizes
        ]
        for mode in NAMES
    }
    found = plans(rates, options.users, options.devices, options.price, options.share)
    real = compare(options.model, rates, options.compare, options.seconds, options.tokens) if options.compare else []
    measured = [{"mode": NAMES[mode]} | asdict(rate) for mode, some in rates.items() for rate in some]
    if options.json:
        rows = [asdict(one) for one in found]
        print(json.dumps({"measured": measured, "plans": rows, "compared": real, "crossing": crossing(rates)}))
        return
    print(table(measured) + "\n\n" + table([asdict(one) for one in found]))
    needed = ", ".join(f"{tokens:.1f} with {users}" for users, tokens in crossing(rates).items())
    print(f"\nDiffusion is ahead where a forward pass brings more tokens than {needed} users of a device.")
    if real:
        print("\n" + table(real))


if __name__ == "__main__":
    main()
