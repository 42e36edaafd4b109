"""Reading short texts: facts as JSON in many shapes, questions with short answers, yes or no, and choices."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffusiongemma.tasks.example import Example, Split, chance, choose, choose_several, in_split
from recipes.nano.sources.phrasing import is_probe, varied
from recipes.nano.sources.shapes import SUBJECTS, VALUES, Fact, Subject, Value

_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean"}
_FILLERS = (
    "Thank you.",
    "More will follow soon.",
    "That is all for now.",
    "Please keep this for later.",
    "Nothing else is known.",
    "Best wishes!",
    "So far, so good.",
    "We hope to hear from you.",
    "This is not the first time.",
    "Everything else stays as it is.",
)


@dataclass(frozen=True)
class Text:
    """A text, and what it says in the order of saying it."""

    subject: Subject
    text: str
    stated: dict[str, Value]


def draw_text(rng: np.random.Generator, split: Split) -> Text:
    """A text of one to five sentences. Its opening sentence, names and numbers and all, decides which half it is in."""
    while True:
        subject = choose(rng, SUBJECTS)
        values = {name: VALUES[fact.kind](rng) for name, fact in subject.facts.items()}
        opening = choose(rng, subject.opening)
        others = choose_several(rng, subject.others, int(rng.integers(0, 5)))
        stated: dict[str, Value] = {}
        sentences = []
        for template in (opening, *others):
            names = [name for name in subject.facts if "{" + name + "}" in template]
            if template != opening and all(name in stated for name in names):
                continue
            sentences.append(template.format(**{name: value.shown for name, value in values.items()}))
            stated |= {name: values[name] for name in sorted(names, key=lambda name: template.index("{" + name + "}"))}
        if not in_split(sentences[0], split):
            continue
        if chance(rng, 0.15):
            sentences.insert(int(rng.integers(1, len(sentences) + 1)), choose(rng, _FILLERS))
        text = " ".join(sentences)
        if not is_probe(text):
            return Text(subject, text[:1].upper() + text[1:], stated)


# --- facts as JSON --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    key: str
    fact: Fact
    value: Any  # as JSON
    kind: type


def _choose_asked(rng: np.random.Generator, text: Text) -> list[Asked]:
    """One to five facts, sometimes one that the text does not state."""
    names = list(text.subject.facts)
    stated = [name for name in names if name in text.stated]
    chosen = choose_several(rng, stated, int(rng.integers(1, 6)))
    missing = [name for name in names if name not in text.stated]
    if missing and chance(rng, 0.25):
        chosen.append(choose(rng, missing))
    if chance(rng, 0.6):  # as the text has them
        order = list(text.stated)
        chosen.sort(key=lambda name: order.index(name) if name in text.stated else 99)
    asked, used = [], set()
    for name in chosen:
        fact = text.subject.facts[name]
        value = text.stated.get(name)
        kind = type(value.json) if value else type(VALUES[fact.kind](np.random.default_rng(0)).json)
        key = choose(rng, fact.keys)
        if key in used:
            key = fact.keys[0]
        if key in used:
            continue
        used.add(key)
        asked.append(Asked(key, fact, value.json if value else None, kind))
    return asked


_KEYS = (
    "Extract {k} as JSON.",
    "Extract {k} as JSON.",
    "Return a JSON object with the keys {k}.",
    "Give {k} as JSON.",
    "Read the text and answer with JSON. Keys: {k}.",
    "Find {k} in this text and write JSON.",
    "JSON with {k}:",
    "Make a JSON object of {k}.",
    "What are {k}? Answer in JSON.",
    "Pull {k} out of the text, as JSON.",
    "I need {k} as JSON.",
    "Write JSON with these fields: {k}.",
    "Which {k} does the text name? JSON only.",
    "Extract: {k}",
    "Turn this into JSON with {k}.",
)
_SHAPES = (
    "Answer with JSON of this shape: {s}",
    "Extract the facts as {s}",
    "Fill in this JSON: {s}",
    "Extract JSON like this: {s}",
    "Shape: {s}",
    "Return {s}",
    "Use this shape: {s}",
    "Extract the data in this form: {s}",
    "JSON of the form {s}, please.",
    "Extract as JSON: {s}",
    "Give me this: {s}",
)
_SCHEMAS = (
    "Extract JSON that follows this schema: {s}",
    "JSON schema: {s}",
    "Follow this JSON schema: {s}",
    "Answer with JSON for this schema: {s}",
)
_OPEN = (
    "Extract the facts as JSON.",
    "Turn this text into JSON.",
    "Write the facts of this text as JSON.",
    "Make JSON of this.",
    "Extract all facts as JSON.",
    "As JSON, please.",
    "Convert this text to JSON.",
    "Return the data as JSON.",
)
_NULLS = (
    "",
    "",
    " Use null for what is missing.",
    " If something is not stated, write null.",
    " Missing values are null.",
)


def generate_extraction(rng: np.random.Generator, split: Split) -> Example:
    """A text and the object to make of it; meta holds `record`, `schema` and the `style` of the request."""
    if chance(rng, 0.15):
        return _several_records(rng, split)
    text = draw_text(rng, split)
    style = choose(rng, ("keys", "keys", "types", "types", "schema", "example", "lines", "open"))
    asked = (
        _choose_asked(rng, text)
        if style != "open"
        else [
            Asked(text.subject.facts[name].keys[0], text.subject.facts[name], value.json, type(value.json))
            for name, value in text.stated.items()
        ]
    )
    if not asked:
        return generate_extraction(rng, split)
    record = {one.key: one.value for one in asked}
    nested = style in ("types", "schema") and len(asked) > 2 and chance(rng, 0.15)
    if nested:
        return _nested(rng, text, asked, style)
    request = _request(rng, style, asked)
    return _extraction(rng, request, text.text, record, _schema(asked), style)


def _extraction(
    rng: np.random.Generator, request: str, text: str, record: Any, schema: dict[str, Any], style: str
) -> Example:
    parts = [request, text] if chance(rng, 0.6) else [text, request]
    joint = (
        choose(rng, ("\n\n", "\n\n", "\n"))
        if "{" in request or parts[0] == text
        else choose(rng, ("\n\n", "\n\n", "\n", " "))
    )
    return Example(joint.join(parts), compact(record), {"record": record, "schema": schema, "style": style})


def _request(rng: np.random.Generator, style: str, asked: list[Asked]) -> str:
    if style == "open":
        return varied(rng, choose(rng, _OPEN), keep=0.6)
    if style == "keys":
        keys = [one.key for one in asked]
        joined = ", ".join(keys) if len(keys) == 1 or chance(rng, 0.6) else f"{', '.join(keys[:-1])} and {keys[-1]}"
        return _lowered(rng, choose(rng, _KEYS).format(k=joined)) + choose(rng, _NULLS)
    if style == "lines":
        return choose(rng, ("Extract as JSON:", "JSON with these keys:", "Fields:")) + "".join(
            f"\n- {one.key}" for one in asked
        )
    if style == "schema":
        return choose(rng, _SCHEMAS).format(
            s=compact(
                _schema(asked) if chance(rng, 0.5) else {"type": "object", "properties": _schema(asked)["properties"]}
            )
        )
    if style == "example":
        return choose(rng, _SHAPES).format(s=compact({one.key: choose(rng, ("", None, "...")) for one in asked}))
    return choose(rng, _SHAPES).format(s=_sketch(rng, asked)) + choose(rng, _NULLS)


def _lowered(rng: np.random.Generator, request: str) -> str:
    return request[0].lower() + request[1:].rstrip(".") if chance(rng, 0.15) else request


def _sketch(rng: np.random.Generator, asked: list[Asked]) -> str:
    """Types as people write them: quoted, bare, with spaces or without."""
    quoted = chance(rng, 0.5)
    gap = " " if chance(rng, 0.7) else ""
    names = [_TYPES[one.kind] + (" or null" if one.value is None and chance(rng, 0.7) else "") for one in asked]
    pairs = [
        f'"{one.key}":{gap}"{name}"' if quoted else f'"{one.key}":{gap}{name}'
        for one, name in zip(asked, names, strict=True)
    ]
    return "{" + f",{gap}".join(pairs) + "}"


def _schema(asked: list[Asked]) -> dict[str, Any]:
    properties = {
        one.key: {"type": [_TYPES[one.kind], "null"] if one.value is None else _TYPES[one.kind]} for one in asked
    }
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _nested(rng: np.random.Generator, text: Text, asked: list[Asked], style: str) -> Example:
    """Some of the facts in an object of their own."""
    cut = int(rng.integers(1, len(asked)))
    name = choose(rng, ("details", "data", "info", "more", "about"))
    outer, inner = asked[:cut], asked[cut:]
    record = {one.key: one.value for one in outer} | {name: {one.key: one.value for one in inner}}
    schema = _schema(outer)
    schema["properties"][name] = _schema(inner)
    schema["required"].append(name)
    if style == "schema":
        request = choose(rng, _SCHEMAS).format(s=compact(schema))
    else:
        shape = {one.key: _TYPES[one.kind] for one in outer} | {name: {one.key: _TYPES[one.kind] for one in inner}}
        request = choose(rng, _SHAPES).format(s=compact(shape))
    return _extraction(rng, request, text.text, record, schema, f"nested {style}")


_PAIRS = (  # a list of records: how one is stated, the names of its two facts, their kinds
    ("{a} is {b}", ("name", "age"), ("first", "age")),
    ("{a} is {b} years old", ("name", "age"), ("first", "age")),
    ("{a} lives in {b}", ("name", "city"), ("first", "city")),
    ("{a} is a {b}", ("name", "job"), ("first", "job")),
    ("{a} brings {b}", ("name", "item"), ("first", "food")),
    ("{a} costs {b} euros", ("item", "price"), ("food", "number")),
    ("{a} came at {b}", ("name", "time"), ("first", "time")),
    ("{b} pieces of {a}", ("item", "quantity"), ("food", "number")),
    ("{a} scored {b} points", ("name", "points"), ("first", "number")),
    ("{a} speaks {b}", ("name", "language"), ("first", "language")),
)


def _several_records(rng: np.random.Generator, split: Split) -> Example:
    """A list of objects, or of strings, out of one sentence."""
    while True:
        template, names, kinds = choose(rng, _PAIRS)
        rows = [[VALUES[kind](rng) for kind in kinds] for _ in range(int(rng.integers(2, 4)))]
        if len({row[0].shown for row in rows}) < len(rows):
            continue
        parts = [template.format(a=row[0].shown, b=row[1].shown) for row in rows]
        text = f"{', '.join(parts[:-1])} and {parts[-1]}."
        if in_split(text, split):
            break
    text = text[0].upper() + text[1:]
    many = choose(
        rng,
        ("items", "people", "list", "entries", "rows")
        if names[0] == "name"
        else ("items", "list", "entries", "rows", "order"),
    )
    types = [_TYPES[type(value.json)] for value in rows[0]]
    if chance(rng, 0.3):
        record: dict[str, Any] = {f"{names[0]}s": [row[0].json for row in rows]}
        shape = f'{{"{names[0]}s": ["string"]}}'
        properties: dict[str, Any] = {f"{names[0]}s": {"type": "array", "items": {"type": "string"}}}
    else:
        record = {many: [dict(zip(names, (value.json for value in row), strict=True)) for row in rows]}
        shape = f'{{"{many}": [{{"{names[0]}": {types[0]}, "{names[1]}": {types[1]}}}]}}'
        item = {
            "type": "object",
            "properties": {n: {"type": t} for n, t in zip(names, types, strict=True)},
            "required": list(names),
        }
        properties = {many: {"type": "array", "items": item}}
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    request = (
        choose(rng, _SHAPES).format(s=shape) if chance(rng, 0.7) else choose(rng, _SCHEMAS).format(s=compact(schema))
    )
    return _extraction(rng, request, text, record, schema, "list")


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


# --- questions about a text -----------------------------------------------------------------------------------------

_FIELD = (
    "What is the {k}?",
    "What is the {k} here?",
    "Which {k} is named?",
    "What {k} does the text give?",
    "Tell me the {k}.",
    "{K}?",
    "Name the {k}.",
    "Find the {k}.",
)
_YES_NO = (
    "Is the {k} {v}?",
    "Does the text say that the {k} is {v}?",
    "Is it true that the {k} is {v}?",
    "The {k} is {v}. True?",
    "Is {v} the {k}?",
)
_CHOICE = ("What is the {k}: {c}?", "Which is the {k}, {c}?", "Choose the {k}: {c}.", "Pick the right {k}: {c}.")


def generate_question(rng: np.random.Generator, split: Split) -> Example:
    """A question about a text with a short answer; meta holds the `kind` and, of a choice, the `options`."""
    text = draw_text(rng, split)
    name = choose(rng, list(text.stated))
    value, fact = text.stated[name], text.subject.facts[name]
    key = fact.keys[0].replace("_", " ")
    other = VALUES[fact.kind](rng)
    while other.json == value.json:
        other = VALUES[fact.kind](rng)
    kind = choose(rng, ("field", "field", "yes no", "yes no", "choice"))
    meta: dict[str, Any] = {"kind": kind}
    if kind == "field":
        asked, answer = choose(rng, _FIELD).format(k=key, K=key.capitalize()), f"The {key} is {value.shown}."
        if chance(rng, 0.25):
            asked, answer = asked + " Answer only with it.", value.shown
    elif kind == "yes no":
        right = chance(rng, 0.5)
        asked = choose(rng, _YES_NO).format(k=key, v=value.shown if right else other.shown)
        short = chance(rng, 0.6)
        asked += choose(rng, (" Answer yes or no.", " Yes or no?", " Yes/no.")) if short else ""
        answer = (
            ("Yes" if right else "No")
            if short
            else (f"Yes, the {key} is {value.shown}." if right else f"No, the {key} is {value.shown}.")
        )
        meta["options"] = ["Yes", "No"] if short else None
    else:
        options = [value.shown, other.shown]
        third = VALUES[fact.kind](rng)
        if third.json not in (value.json, other.json):
            options.append(third.shown)
        options = [options[int(i)] for i in rng.permutation(len(options))]
        asked = choose(rng, _CHOICE).format(k=key, c=f"{', '.join(options[:-1])} or {options[-1]}")
        answer = value.shown
        meta["options"] = options
    asked = varied(rng, asked, keep=0.6)
    prompt = f"{text.text}\n\n{asked}" if chance(rng, 0.7) else f"{asked}\n\n{text.text}"
    return Example(prompt, answer, meta)
