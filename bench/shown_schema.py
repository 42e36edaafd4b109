"""What showing a model the schema of its answer is worth: facts extracted from a bare text, in three ways.

The questions are those of `eval extraction` without their first words: only the text stays, and the schema holds the
answer. So without the schema shown the model has to guess from nothing which fact belongs under which name.

    python -m bench.shown_schema --limit 60
"""

from __future__ import annotations

import argparse
import json

import numpy as np

import diffusiongemma as dg
from diffusiongemma.chat.shown_schema import with_schema
from diffusiongemma.tasks import extraction

WAYS = ("not shown", "system turn", "user turn")


def text_of(prompt: str) -> str:
    """The part of a question that is no request: the one that speaks of no JSON."""
    return next(part for part in prompt.split("\n\n") if "JSON" not in part and not part.startswith("Extract"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--limit", type=int, default=60)
    options = parser.parse_args()
    model, rng = dg.load(options.model), np.random.default_rng(0)
    examples = [extraction.generate(rng, "test") for _ in range(options.limit)]
    for way in WAYS:
        scores = []
        for example in examples:
            said, schema = text_of(example.prompt), example.meta["schema"]
            messages = [{"role": "user", "content": said}]
            if way != "not shown":
                messages = with_schema(messages, schema, in_user_turn=way == "user turn")
            result = model.generate(messages, json_schema=schema, show_schema=False, seed=0)
            scores.append(extraction.score(example, result.text))
        told = {name: round(100 * float(np.mean([s[name] for s in scores])), 1) for name in ("exact", "fields")}
        print(json.dumps({"model": options.model, "way": way, "questions": len(scores), **told}), flush=True)


if __name__ == "__main__":
    main()
