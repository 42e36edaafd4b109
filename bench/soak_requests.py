"""What the clients of `bench/soak.py` ask for, in every interface, and how the answers are read."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "went", "away;", "12 + 30", "is 42.", "one", "two", "three"]
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["n"]}


@dataclass(frozen=True)
class Interface:
    """`ask` makes a body of a random number generator and the most tokens; `whole` reads a reply, `part` an event."""

    path: str
    ask: Callable[[random.Random, int], dict[str, Any]]
    whole: Callable[[dict[str, Any]], str]
    part: Callable[[dict[str, Any]], str]
    end: str | None = "[DONE]"  # the last line of a stream; None where an event ends it

    def streamed(self, text: str) -> str:
        """The answer of a stream. Raises `ValueError` where the stream has no end."""
        lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith(("data: ", "{"))]
        if self.end is not None and (not lines or lines.pop() != self.end):
            raise ValueError("the stream has no end")
        events = [json.loads(line) for line in lines]
        if self.end is None and not _is_last(events[-1]):
            raise ValueError("the stream has no end")
        return "".join(map(self.part, events))


def _is_last(event: dict[str, Any]) -> bool:
    ends = ("message_stop", "response.completed", "response.incomplete")
    return bool(event.get("done") or event.get("stop") or event.get("type") in ends)


def _text(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.choice([1, 5, 30, 300])))


def _said(rng: random.Random) -> list[dict[str, str]]:
    return [{"role": "user", "content": _text(rng)}]


def _seed(rng: random.Random) -> int:
    return rng.randrange(10**6)


def _chat(rng: random.Random, most: int) -> dict[str, Any]:
    diffusion: dict[str, Any] = {"steps": rng.choice([4, 12, 48])}
    if rng.random() < 0.2:
        diffusion = {"mode": "ar"}
    elif rng.random() < 0.2:
        diffusion |= {"early_text": True}
    elif rng.random() < 0.1:
        diffusion |= {"regex": r"[a-z ]{1,40}"}
    body = {"messages": _said(rng), "seed": _seed(rng)}
    return body | {"max_tokens": rng.randrange(1, most), "diffusion": diffusion}


def _completion(rng: random.Random, most: int) -> dict[str, Any]:
    return {"prompt": _text(rng), "seed": _seed(rng), "max_tokens": rng.randrange(1, most)}


def _responses(rng: random.Random, most: int) -> dict[str, Any]:
    form = {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}} if rng.random() < 0.3 else {}
    tokens = rng.randrange(40, max(41, most)) if form else rng.randrange(1, most)
    return {"input": _text(rng), "seed": _seed(rng), "max_output_tokens": tokens, "text": form}


def _messages(rng: random.Random, most: int) -> dict[str, Any]:
    body = {"model": "any", "system": "Be brief.", "messages": _said(rng), "seed": _seed(rng)}
    return body | {"max_tokens": rng.randrange(1, most), "thinking": {"type": rng.choice(["enabled", "disabled"])}}


def _ollama(rng: random.Random, most: int) -> dict[str, Any]:
    return {"model": "any", "options": {"seed": _seed(rng), "num_predict": rng.randrange(1, most)}}


def _ollama_chat(rng: random.Random, most: int) -> dict[str, Any]:
    return _ollama(rng, most) | {"messages": _said(rng), "stream": False}


def _ollama_generate(rng: random.Random, most: int) -> dict[str, Any]:
    return _ollama(rng, most) | {"prompt": _text(rng), "stream": False}


def _infill(rng: random.Random, most: int) -> dict[str, Any]:
    body = {"input_prefix": _text(rng), "input_suffix": "\n" + rng.choice(WORDS), "prompt": rng.choice(WORDS)}
    return body | {"n_predict": rng.randrange(1, 12), "n_indent": rng.choice([0, 4]), "seed": _seed(rng)}


def _fim(rng: random.Random, most: int) -> dict[str, Any]:
    return {
        "prompt": _text(rng),
        "suffix": " " + rng.choice(WORDS),
        "max_tokens": rng.randrange(1, 12),
        "seed": _seed(rng),
    }


def _marked(rng: random.Random, most: int) -> dict[str, Any]:
    gap = _fim(rng, most)
    return gap | {"prompt": f"<fim_prefix>{gap['prompt']}<fim_suffix>{gap.pop('suffix')}<fim_middle>"}


def _edit(rng: random.Random, most: int) -> dict[str, Any]:
    return {"input": " ".join(rng.choices(WORDS, k=6)), "instruction": "Mend it.", "seed": _seed(rng)}


def _choices(name: str) -> Callable[[dict[str, Any]], str]:
    def read(told: dict[str, Any]) -> str:
        return "".join(_content(choice.get(name)) for choice in told["choices"])

    return read


def _content(said: Any) -> str:
    return said if isinstance(said, str) else (said or {}).get("content") or ""


def _blocks(blocks: Iterable[dict[str, Any]]) -> str:
    """The text of Anthropic's blocks, thoughts before it."""
    return "".join(block.get("thinking") or block.get("text") or "" for block in blocks)


def _items(told: dict[str, Any]) -> str:
    parts = [part for item in told["output"] if item["type"] == "message" for part in item["content"]]
    return "".join(part["text"] for part in parts)


def _item_delta(event: dict[str, Any]) -> str:
    return event["delta"] if event["type"] == "response.output_text.delta" else ""


INTERFACES = {
    "chat": Interface("/v1/chat/completions", _chat, _choices("message"), _choices("delta")),
    "completions": Interface("/v1/completions", _completion, _choices("text"), _choices("text")),
    "responses": Interface("/v1/responses", _responses, _items, _item_delta, None),
    "messages": Interface(
        "/v1/messages",
        _messages,
        lambda told: _blocks(told["content"]),
        lambda e: _blocks([e.get("delta") or {}]),
        None,
    ),
    "ollama chat": Interface(
        "/api/chat", _ollama_chat, lambda told: told["message"]["content"], lambda e: e["message"]["content"], None
    ),
    "ollama generate": Interface(
        "/api/generate", _ollama_generate, lambda told: told["response"], lambda e: e["response"], None
    ),
    "llama.cpp": Interface("/infill", _infill, lambda told: told["content"], lambda e: e["content"], None),
    "fim": Interface("/v1/fim/completions", _fim, _choices("message"), _choices("delta")),
    "markers": Interface("/v1/completions", _marked, _choices("text"), _choices("text")),
    "edits": Interface("/v1/edits", _edit, lambda told: told["text"], lambda e: e["text"]),
}
