"""Let a language model write what nano learns from: `python -m recipes.nano.writer OUT_DIR --model FILE.gguf`.

Stopped at any time, it goes on where it was when it is called again. `--report` says what is there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from recipes.nano.writer.filters import judge
from recipes.nano.writer.kinds import BY_NAME, item
from recipes.nano.writer.shards import Shards, totals
from recipes.nano.writer.split import split_of

ITEMS = 1_000_000


def written(writer: Any, order: Callable[..., Any], shards: Shards, upto: int, seed: int = 0) -> Iterator[int]:
    """Lets `writer` work off the items that are missing; the number of tokens written so far, as items are finished."""
    orders = (_order(order, number, seed) for number in shards.missing(upto))
    tokens = 0
    for asked, draft in writer.write(orders):
        this = item(asked.number, seed)
        kind = BY_NAME[this.kind]
        verdict = judge(kind, this.topic, draft.text, draft.ended, draft.likelihood)
        record = None
        if not verdict.reason:
            record = {
                "item": this.number,
                "kind": this.kind,
                "topic": this.topic,
                "split": split_of(this.topic),
                "request": this.request,
                "text": verdict.text,
                "likelihood": round(draft.likelihood, 3),
                "tokens": draft.tokens,
            }
        outcome = verdict.reason or "kept"
        amounts = {f"tokens {outcome == 'kept'}": draft.tokens, f"tokens {this.kind}": draft.tokens}
        shards.add(this.number, record, (outcome, f"{this.kind}: {outcome}"), amounts)
        tokens += draft.tokens
        yield tokens


def _order(order: Callable[..., Any], number: int, seed: int) -> Any:
    this = item(number, seed)
    kind = BY_NAME[this.kind]
    return order(number, this.request, kind.shots, kind.tokens, kind.temperature)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT_DIR")
    parser.add_argument("--model", type=Path, metavar="FILE.gguf")
    parser.add_argument("--items", type=int, default=ITEMS, help=f"texts asked for in all; default {ITEMS:,}")
    parser.add_argument("--slots", type=int, default=48, help="texts written at a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", action="store_true", help="print what became of the items, and end")
    options = parser.parse_args()
    if options.report:
        for name, count in totals(options.out).most_common():
            print(f"{count:>12,}  {name}")
        return
    from recipes.nano.writer.llama import Llama, Order

    writer = Llama(options.model, options.slots, seed=options.seed)
    began = said = time.monotonic()
    for tokens in written(writer, Order, Shards(options.out), options.items, options.seed):
        if time.monotonic() - said > 60:
            said = time.monotonic()
            print(f"{tokens:,} tokens, {tokens / (said - began):.0f} a second", flush=True)


if __name__ == "__main__":
    main()
