"""JSON-Schema-Test-Suite against the languages of its schemas; and work in a process with a server's limits."""

from __future__ import annotations

import json
import multiprocessing
import resource
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import permutations, product
from pathlib import Path
from typing import Any

from diffusiongemma.control.languages.compiler import compile_language
from diffusiongemma.control.structure import Structure
from diffusiongemma.errors import InputError
from diffusiongemma.serve.transport.compiling_process import CPU_SECONDS, MOST_BYTES

LEFT_OUT = "left out"
Outcome = tuple[str, Any]


def in_a_process(work: Callable[[], Any]) -> Outcome:
    """("done", its result), ("refused", why) or ("stopped", "") at the limits."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_limited, args=(work, theirs))
    process.start()
    theirs.close()
    try:
        return ours.recv()  # type: ignore[no-any-return]
    except EOFError:
        return "stopped", "its limits of time or memory"
    finally:
        process.kill()
        process.join()


def _limited(work: Callable[[], Any], result: Any) -> None:
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (pages + MOST_BYTES, pages + MOST_BYTES))
    try:
        result.send(("done", work()))
    except InputError as error:
        result.send(("refused", str(error)))
    except MemoryError:
        result.send(("stopped", "its limit of memory"))


def judge(tests: Path, drafts: list[str], show: bool) -> None:
    """JSON-Schema-Test-Suite: no invalid instance may be in a language; valid ones should be, as they stand there or in
    the order and the spelling in which answers are written."""
    for draft in drafts:
        counts: Counter[str] = Counter()
        for path in sorted((tests / draft).glob("*.json")):
            for group in json.loads(path.read_text()):
                _judge_group(group, f"{draft}/{path.stem}", counts, show)
        print(draft, dict(counts))


def _judge_group(group: dict[str, Any], where: str, counts: Counter[str], show: bool) -> None:
    drafts = {"draft4": "http://json-schema.org/draft-04/schema#", "draft6": "http://json-schema.org/draft-06/schema#"}
    drafts["draft7"] = "http://json-schema.org/draft-07/schema#"
    schema = group["schema"]
    if isinstance(schema, dict) and "$schema" not in schema and where.split("/")[0] in drafts:
        schema = {"$schema": drafts[where.split("/")[0]], **schema}

    def taken() -> list[str]:
        dfa = compile_language(Structure(json_schema=json.dumps(schema)).language())
        return [how_taken(dfa, test["data"], test["valid"]) for test in group["tests"]]

    state, found = in_a_process(taken)
    counts[f"schemas {state}"] += 1
    for test, how in zip(group["tests"], found if state == "done" else [], strict=False):
        counts[f"{'valid' if test['valid'] else 'INVALID'} {how}"] += 1
        if test["valid"] != (how != LEFT_OUT) and (show or not test["valid"]):
            kind = "left out" if test["valid"] else "UNSOUND"
            print(f"  {kind} {where}: {group['description']}: {test['description']}: {test['data']!r}")


def how_taken(dfa: Any, value: Any, is_valid: bool) -> str:
    """Whether some text of a value is in a language. A whole number with a point is another spelling of the same, but
    for drafts in which it is not valid."""
    if dfa.matches(_text(value)):
        return "taken"
    if is_valid and dfa.matches(_text(without_points(value))):
        return "taken, whole numbers without a point"
    orders = (*in_orders(value), *(in_orders(without_points(value)) if is_valid else ()))
    return "taken, in another order of keys" if any(map(dfa.matches, map(_text, orders))) else LEFT_OUT


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def without_points(value: Any) -> Any:
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [without_points(item) for item in value]
        case dict():
            return {key: without_points(item) for key, item in value.items()}
    return value


def in_orders(value: Any) -> Iterator[Any]:
    """With the keys of its objects in every order."""
    match value:
        case list():
            yield from map(list, product(*map(list, map(in_orders, value))))
        case dict():
            for keys in permutations(value):
                inside = product(*(list(in_orders(value[key])) for key in keys))
                yield from (dict(zip(keys, items, strict=True)) for items in inside)
        case _:
            yield value
