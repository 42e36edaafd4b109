"""`diffusiongemma batch` next to the engine alone, at the same number of requests computed together.

    python bench/batch.py [--requests 128] [--at-once 16] [--rounds 5] [--model nano] [--ray] [--json]

Both run in this process on the same model and the same requests, turn by turn, on one thread of torch. The engine gets
requests that are prepared already and writes nothing; the batch reads its file, prepares, answers through the web
application, and writes its file in order. With `--ray` it is one engine against two on Ray instead, one core each,
`--requests` for each engine, from the first answer to the last.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from serve import PROMPT

import diffusiongemma as dg
from diffusiongemma.engine.engine import Engine
from diffusiongemma.serve.app import create_app
from diffusiongemma.serve.batch.answers import AnswerFile
from diffusiongemma.serve.batch.asking import answer_all, urls_of
from diffusiongemma.serve.batch.local import AHEAD
from diffusiongemma.serve.batch.requests import RequestFile
from diffusiongemma.serve.settings import Settings

MESSAGES = [{"role": "user", "content": PROMPT}]
TOKENS = 96


def engine_run(model: Any, count: int, at_once: int) -> tuple[float, list[str]]:
    """(seconds, texts)"""
    options = {"max_new_tokens": TOKENS}
    requests = [model.request(MESSAGES, id=number, seed=number, **options) for number in range(count)]
    started = time.perf_counter()
    results = Engine(model.network, model.tokenizer, at_once).results(requests)
    return time.perf_counter() - started, [result.text for result in results]


async def batch_run(app: Any, file: Path, at_once: int) -> tuple[float, list[str]]:
    """(seconds, texts)"""
    path = file.with_suffix(".answers")
    path.unlink(missing_ok=True)
    started = time.perf_counter()
    asked = RequestFile(file)
    with AnswerFile(path, asked) as answers:
        await answer_all(app, urls_of(app), asked.read(asked.places), answers.add, AHEAD * at_once)
        answers.put_in_order()
    took = time.perf_counter() - started
    bodies = [json.loads(line)["response"]["body"] for line in path.read_text().splitlines()]
    return took, [body["choices"][0]["message"]["content"] for body in bodies]


def write_requests(file: Path, count: int) -> None:
    with file.open("w") as out:
        for number in range(count):
            body = {"messages": MESSAGES, "seed": number, "max_tokens": TOKENS}
            line = {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body}
            out.write(json.dumps(line) + "\n")


async def compare(name: str, count: int, at_once: int, rounds: int) -> dict[str, float]:
    torch.set_num_threads(1)
    model = dg.load(name)
    app, pairs = create_app(model, Settings(max_requests=at_once, max_queue=2 * at_once)), []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requests.jsonl"
        write_requests(file, count)
        async with app.router.lifespan_context(app):
            await asyncio.to_thread(app.state.service.worker.ready.wait)
            for turn in range(rounds + 1):  # the first warms up
                alone, texts = await asyncio.to_thread(engine_run, model, count, at_once)
                batch, same = await batch_run(app, file, at_once)
                assert texts == same, "the texts differ"
                pairs += [(alone, batch)] if turn else []
    alone, batch = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    return {"engine_per_second": count / alone, "batch_per_second": count / batch, "ratio": ratio}


def on_ray(name: str, count: int, at_once: int) -> dict[str, float]:
    """Requests a second of one and of two engines, and their ratio."""
    from diffusiongemma.cluster.connection import start
    from diffusiongemma.cluster.fleet import Fleet

    settings = Settings(model_name=name, max_requests=at_once, max_queue=8 * at_once)
    fleets = [Fleet(model=name, settings=settings, least=engines, most=engines) for engines in (1, 2)]
    start(fleets[1])
    with tempfile.TemporaryDirectory() as folder:
        rates = [ray_rate(fleet, Path(folder) / f"{fleet.most}.jsonl", count * fleet.most) for fleet in fleets]
    return {"one_per_second": rates[0], "two_per_second": rates[1], "ratio": rates[1] / rates[0]}


def ray_rate(fleet: Any, file: Path, count: int) -> float:
    from diffusiongemma.cluster.batch import answer_file

    write_requests(file, count)
    asked, moments = RequestFile(file), list[float]()
    with AnswerFile(file.with_suffix(".answers"), asked) as answers:
        answer_file(fleet, asked, answers, lambda: moments.append(time.perf_counter()))
    first = sum(moment - moments[0] < 0.05 for moment in moments)  # a share comes all at once
    return (count - first) / (moments[-1] - moments[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=128)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.ray:
        print(json.dumps(on_ray(options.model, options.requests, options.at_once)))
        return
    figures = asyncio.run(compare(options.model, options.requests, options.at_once, options.rounds))
    if options.json:
        print(json.dumps(figures))
        return
    print(
        f"engine {figures['engine_per_second']:.1f} requests/s, batch {figures['batch_per_second']:.1f}: "
        f"{figures['ratio']:.3f} of the engine's own"
    )


if __name__ == "__main__":
    main()
