"""How many of the schemas that people have can be kept, how soon they compile, and whether what is written is valid.

    python bench/schema_suite.py --schemas NAME=DIRECTORY … [--sample 200] [--walks 5]  # collections, a file a schema
    python bench/schema_suite.py --test-suite JSON-Schema-Test-Suite/tests            # what is valid, and what is not
    python bench/schema_suite.py … --compare               # beside llguidance, xgrammar, outlines-core, if installed

Collections come from public repositories: guidance-ai/jsonschemabench (`data/…`) and
json-schema-org/JSON-Schema-Test-Suite. Each schema compiles for a synthetic vocabulary (`--vocabulary`, 262,144 tokens
by default) as for a server: in a process that has compiled others, has nothing else to do and is stopped after 2 s of
processor time or 512 MiB. Answers are random walks through the language, checked with `jsonschema` under the draft that
the schema names, formats asserted, and patterns read by Node's RegExp where Node is installed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import re
import shutil
import socket
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path
from subprocess import PIPE
from typing import Any

import jsonschema
import numpy as np
from constraints import synthetic_vocabulary
from suite_instances import Outcome, in_a_process, judge
from walks import random_texts

from diffusiongemma.control.compiling import CompileJob
from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.compiler import compile_language
from diffusiongemma.control.structure import Structure
from diffusiongemma.errors import InputError
from diffusiongemma.serve.transport.compiling_process import (
    USUAL,
    WARMING,
    receive,
    send,
    work,
)

FORMATS = jsonschema.Draft202012Validator.FORMAT_CHECKER


@dataclass
class Tally:
    """One collection."""

    tried: int = 0
    taken: int = 0
    seconds: list[float] = field(default_factory=list)
    walks: int = 0
    invalid: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)

    def row(self, name: str) -> str:
        share = 100 * self.taken / max(1, self.tried)
        ms = [1000 * q for q in np.quantile(self.seconds or [0.0], [0.5, 0.99])]
        others = "".join(f"  {other} {100 * n / max(1, self.tried):.0f} %" for other, n in sorted(self.others.items()))
        return (
            f"{name:<18} {self.taken:>5} of {self.tried:>5}  {share:5.1f} %  p50 {ms[0]:6.0f} ms  p99 {ms[1]:6.0f} ms  "
            f"{len(self.invalid)} of {self.walks} invalid{others}"
        )


class Workers:
    """Processes that compile one schema after another, as a server's do: a new one where one has ended."""

    def __init__(self, vocabulary: Any, walks: int) -> None:
        self._vocabulary, self._walks = vocabulary, walks
        self._connection: socket.socket | None = None

    def outcome(self, schema: Any) -> Outcome:
        """("done", `compiled`), ("refused", why) or ("stopped", "") at the limits."""
        connection = self._connection or self._new()
        stays = False
        try:
            send(connection, schema)
            outcome, stays, _ = receive(connection)
        except (EOFError, ConnectionError):
            return "stopped", "its limits of time or memory"
        finally:
            self._connection = connection if stays else None
        if isinstance(outcome, InputError):
            return "refused", str(outcome)
        assert isinstance(outcome, tuple), outcome
        return "done", outcome

    def _new(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            ours.close()
            compiled(json.loads(WARMING), self._vocabulary, 0)
            work(theirs, lambda schema: compiled(schema, self._vocabulary, self._walks))
            os._exit(0)
        theirs.close()
        receive(ours)  # its process id, once it is ready
        return ours


def compiled(schema: Any, vocabulary: Any, walks: int) -> tuple[float, list[str]]:
    """Seconds of processor time, and answers."""
    begin = time.process_time()
    grammar = _Remembered(Structure(json_schema=json.dumps(schema)))
    CompileJob.of(grammar, vocabulary, [0]).run()
    seconds = time.process_time() - begin
    return seconds, random_texts(compile_language(grammar.latest), random.Random(0), walks)


class _Remembered:
    """A grammar that remembers which language was read last, which is the one that was compiled."""

    def __init__(self, grammar: Structure) -> None:
        self._grammar, self.latest = grammar, lang.NEVER

    def language(self, *given: Any) -> lang.Language:
        self.latest = self._grammar.language(*given)
        return self.latest


class EcmaScript:
    """Node's RegExp, asked line by line."""

    SCRIPT = """require("readline").createInterface({input: process.stdin}).on("line", line => {
        const [pattern, text] = JSON.parse(line);
        let answer = null;
        for (const flags of ["u", ""]) try { answer = new RegExp(pattern, flags).test(text); break } catch {}
        console.log(JSON.stringify(answer));
    })"""

    def __init__(self) -> None:
        self._node = subprocess.Popen(["node", "-e", self.SCRIPT], stdin=PIPE, stdout=PIPE, text=True)

    def search(self, pattern: str, text: str) -> bool | None:
        """Whether it matches somewhere; None for what is no pattern."""
        assert self._node.stdin is not None and self._node.stdout is not None
        print(json.dumps([pattern, text]), file=self._node.stdin, flush=True)
        found: bool | None = json.loads(self._node.stdout.readline())
        return found

    def rule(self, validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
        """`pattern` for `jsonschema`."""
        if validator.is_type(instance, "string") and self.search(pattern, instance) is False:
            yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


def multiple_of(validator: Any, step: Any, instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
    """`multipleOf` for `jsonschema`, in decimal, where its own divides floats."""
    if validator.is_type(instance, "number") and Fraction(str(instance)) % Fraction(str(step)):
        yield jsonschema.ValidationError(f"{instance!r} is not a multiple of {step!r}")


@cache
def validator_class(dialect: Any) -> Any:
    rules = {"multipleOf": multiple_of}
    if shutil.which("node") is not None:
        rules["pattern"] = ecma_script().rule
    return jsonschema.validators.extend(dialect, rules)


@cache
def ecma_script() -> EcmaScript:
    return EcmaScript()


def problem(schema: Any, text: str) -> str | None:
    """Why an answer is invalid. What OpenAPI adds is told to `jsonschema` in its own words."""
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        validator_class(kind)(schema, format_checker=FORMATS).validate(json.loads(text))
    except jsonschema.ValidationError as error:
        nullable = error.instance is None and isinstance(error.schema, dict) and error.schema.get("nullable")
        return None if nullable else error.message[:200]
    except Exception as error:  # a pattern that Python does not read, a reference that is not there
        return None if isinstance(error, RecursionError | re.error) or "Unresolvable" in repr(error) else repr(error)
    return None


def collection(directory: Path, sample: int, seed: int = 0) -> Iterator[tuple[str, Any]]:
    files = sorted(directory.rglob("*.json"))
    random.Random(seed).shuffle(files)
    for path in files[:sample] if sample else files:
        try:
            yield path.name, json.loads(path.read_text())
        except (ValueError, RecursionError):
            continue


def measure(directory: Path, options: argparse.Namespace, workers: Workers, engines: dict[str, Any]) -> Tally:
    tally = Tally()
    for name, schema in collection(directory, options.sample, options.seed):
        tally.tried += 1
        state, outcome = workers.outcome(schema)
        if state == "done":
            tally.taken += 1
            tally.seconds.append(outcome[0])
            tally.walks += len(outcome[1])
            found = [f"{name}: {why}: {t[:200]}" for t in outcome[1] if (why := problem(schema, t))]
            tally.invalid += found
        else:
            tally.refused[f"{state}: {outcome}" if options.refusals else state] += 1
            if options.refusals:
                print(f"    {name}: {state}: {outcome[:300]}")
        for engine, takes in engines.items():
            tally.others[engine] += in_a_process(lambda takes=takes, schema=schema: takes(schema))[0] == "done"
    return tally


def other_engines() -> dict[str, Callable[[Any], None]]:
    """Those that are installed, each a function that raises where it does not take a schema."""
    engines: dict[str, Callable[[Any], None]] = {}
    try:
        import llguidance

        def llguidance_takes(schema: Any) -> None:
            grammar = llguidance.LLMatcher.grammar_from_json_schema(schema)
            if problem := llguidance.LLMatcher.validate_grammar(grammar):
                raise InputError(str(problem))

        engines["llguidance"] = llguidance_takes
    except ImportError:
        pass
    try:
        import xgrammar

        engines["xgrammar"] = lambda schema: xgrammar.Grammar.from_json_schema(json.dumps(schema)) and None
    except ImportError:
        pass
    try:
        from outlines_core import json_schema

        engines["outlines-core"] = lambda schema: json_schema.build_regex_from_schema(json.dumps(schema)) and None
    except ImportError:
        pass
    return {name: _refusing(takes) for name, takes in engines.items()}


def _refusing(takes: Callable[[Any], None]) -> Callable[[Any], None]:
    def quietly(schema: Any) -> None:
        try:
            takes(schema)
        except BaseException as error:
            raise InputError(str(error)) from error

    return quietly


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schemas", action="append", default=[], metavar="NAME=DIRECTORY")
    parser.add_argument("--test-suite", type=Path)
    parser.add_argument("--sample", type=int, default=200, help="schemas of each collection; 0: all")
    parser.add_argument("--seed", type=int, default=0, help="of the order in which schemas are picked")
    parser.add_argument("--walks", type=int, default=5, help="answers of each schema")
    parser.add_argument("--vocabulary", type=int, default=262_144)
    parser.add_argument("--refusals", action="store_true", help="print every refusal, and what is left out")
    parser.add_argument("--compare", action="store_true")
    options = parser.parse_args()
    if options.test_suite:
        judge(options.test_suite, ["draft4", "draft6", "draft7", "draft2019-09", "draft2020-12"], options.refusals)
    if not options.schemas:
        return
    vocabulary = synthetic_vocabulary(options.vocabulary)
    _ = vocabulary.trie, vocabulary.trie_of_characters
    CompileJob.of(Structure(json_schema=USUAL), vocabulary, [0]).run()
    gc.disable()  # as in the process that compiles for a server
    gc.freeze()
    workers = Workers(vocabulary, options.walks)
    engines = other_engines() if options.compare else {}
    tallies = []
    for named in options.schemas:
        name, _, directory = named.partition("=")
        tallies.append(measure(Path(directory), options, workers, engines))
        print(tallies[-1].row(name), dict(tallies[-1].refused) if not options.refusals else "", flush=True)
        for line in tallies[-1].invalid[:20]:
            print("    INVALID", line)
    every = [s for tally in tallies for s in tally.seconds]
    if every:
        p99 = 1000 * np.quantile(every, 0.99)
        print(f"all: median {1000 * statistics.median(every):.0f} ms, p99 {p99:.0f} ms of processor time")


if __name__ == "__main__":
    main()
