"""Structured extraction: a few sentences in, a JSON object of the asked shape out.

Train and test share sentence patterns and field names; the person or product that a text is about is in one of them
only. What the text does not state is null.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from diffusiongemma.tasks.example import Example, Split, chance, choose, in_split
from diffusiongemma.tasks.extraction_domains import DOMAINS
from diffusiongemma.tasks.extraction_fields import TYPE_NAMES, Clause, Domain, Field, json_schema
from diffusiongemma.tasks.vocabulary import NUMBER_WORDS

_CLAUSE_CHANCE = 0.65
_FILLERS = (
    "Thank you for your help.",
    "Please check everything twice.",
    "More will follow soon.",
    "This note was written in a hurry.",
    "Nothing else has changed.",
    "The weather is fine today.",
)
_KEY_REQUESTS = (
    "Extract {keys} as JSON.",
    "Return a JSON object with the keys {keys}.",
    "Give {keys} as JSON.",
    "Read the text and answer with JSON. Keys: {keys}.",
)
_SKETCH_REQUESTS = (
    "Answer with JSON of this shape: {shape}",
    "Extract the facts as {shape}",
    "Fill in this JSON: {shape}",
)
_SCHEMA_REQUESTS = ("Extract JSON that follows this schema: {shape}", "JSON schema: {shape}")
_NULL_HINTS = ("Use null for what is missing.", "If something is not stated, write null.", "")


def generate(rng: np.random.Generator, split: Split) -> Example:
    """One text with a question; meta holds `schema` (JSON Schema), `record` (the object wanted), `domain`, `style`."""
    domain = choose(rng, DOMAINS)
    facts = domain.draw(rng)
    while not in_split(facts[domain.main], split):
        facts = domain.draw(rng)
    text, stated = _write_text(domain, facts, rng)
    asked = _choose_asked(domain, stated, rng)
    keys = {name: choose(rng, domain.fields[name].keys) for name in asked}
    keys = _without_clashes(keys, domain)

    record = {keys[name]: facts[name] if name in stated else None for name in asked}
    nullable = {name: not set(domain.opening.fields) >= {name} for name in asked}
    schema = json_schema({keys[name]: (domain.fields[name], nullable[name]) for name in asked})
    style = choose(rng, ("keys", "sketch", "schema"))
    request = _request(style, [(keys[name], domain.fields[name], nullable[name]) for name in asked], schema, rng)
    parts = [request, text] if chance(rng, 0.7) else [text, request]
    meta = {"schema": schema, "record": record, "domain": domain.name, "style": style}
    return Example("\n\n".join(parts), _compact(record), meta)


def score(example: Example, text: str) -> dict[str, Any]:
    """`valid_json` (the whole answer parses), `exact` (same object, any key order), `fields` (share right)."""
    try:
        answer = json.loads(text, parse_constant=_reject_constant)
    except (ValueError, RecursionError):
        return {"valid_json": False, "exact": False, "fields": 0.0}
    wanted = example.meta["record"]
    given = answer if isinstance(answer, dict) else {}
    right = sum(key in given and _canonical(given[key]) == _canonical(value) for key, value in wanted.items())
    exact = _canonical(answer) == _canonical(wanted)
    return {"valid_json": True, "exact": exact, "fields": right / len(wanted)}


# --- the text -------------------------------------------------------------------------------------------------------


def _write_text(domain: Domain, facts: dict[str, Any], rng: np.random.Generator) -> tuple[str, set[str]]:
    """The sentences and the names of the fields they state."""
    clauses = [clause for clause in domain.clauses if chance(rng, _CLAUSE_CHANCE)]
    clauses = [domain.opening] + [clauses[i] for i in rng.permutation(len(clauses))]
    sentences = [_write_clause(clause, facts, rng) for clause in clauses]
    if chance(rng, 0.2):
        sentences.insert(int(rng.integers(1, len(sentences) + 1)), choose(rng, _FILLERS))
    return " ".join(sentences), {name for clause in clauses for name in clause.fields}


def _write_clause(clause: Clause, facts: dict[str, Any], rng: np.random.Generator) -> str:
    denied = bool(clause.denials) and facts[clause.fields[0]] is False
    template = choose(rng, clause.denials if denied else clause.templates)
    shown = {name: _in_words(value, rng) for name, value in facts.items()}
    if not template.startswith("{_"):  # a pronoun inside the sentence
        shown["_They"] = shown.get("_They", "").lower()
    return template.format(**shown)


def _in_words(value: Any, rng: np.random.Generator) -> str:
    if isinstance(value, list):
        parts = [f"{_in_words(v['quantity'], rng)} {v['item']}" if isinstance(v, dict) else v for v in value]
        return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    if isinstance(value, int) and not isinstance(value, bool) and value <= 10 and chance(rng, 0.4):
        return NUMBER_WORDS[value]
    return str(value)


# --- the question ---------------------------------------------------------------------------------------------------


def _choose_asked(domain: Domain, stated: set[str], rng: np.random.Generator) -> list[str]:
    """Two to five fields in random order; fewer than half of them are missing from the text."""
    names = list(domain.fields)
    shuffled = [names[i] for i in rng.permutation(len(names))]
    size = int(rng.integers(2, 6))
    missing = [name for name in shuffled if name not in stated][: int(rng.integers(0, (size + 1) // 2))]
    present = [name for name in shuffled if name in stated][: size - len(missing)]
    asked = missing + present
    return [asked[i] for i in rng.permutation(len(asked))]


def _without_clashes(keys: dict[str, str], domain: Domain) -> dict[str, str]:
    """First names for all fields when two were given the same one."""
    if len(set(keys.values())) == len(keys):
        return keys
    return {name: domain.fields[name].keys[0] for name in keys}


def _request(style: str, asked: list[tuple[str, Field, bool]], schema: dict[str, Any], rng: np.random.Generator) -> str:
    if style == "schema":
        shown = {"type": "object", "properties": schema["properties"]}  # the rest goes without saying
        return choose(rng, _SCHEMA_REQUESTS).format(shape=_compact(shown))
    if style == "sketch":
        shape = ", ".join(f'"{key}": {TYPE_NAMES[f.type]}{" or null" if null else ""}' for key, f, null in asked)
        return choose(rng, _SKETCH_REQUESTS).format(shape="{" + shape + "}")
    keys = [f"{key} (list of item, quantity)" if f.type == "items" else key for key, f, _ in asked]
    request = choose(rng, _KEY_REQUESTS).format(keys=", ".join(keys))
    return f"{request} {choose(rng, _NULL_HINTS)}".strip()


# --- JSON -----------------------------------------------------------------------------------------------------------


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _canonical(value: Any) -> str:
    """Text that is equal for equal JSON values: true is not 1, 1.50 is 1.5, key order does not count."""
    return json.dumps(value, sort_keys=True)


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
