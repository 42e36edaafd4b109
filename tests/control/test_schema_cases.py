"""Schemas and patterns that once went wrong: what each must write, what it must not, and in what time."""

from __future__ import annotations

import gc
import json
import time
import weakref
from dataclasses import replace
from pathlib import Path

import pytest

from diffusiongemma.control.compiling import CompileJob, compile_constraint
from diffusiongemma.control.inference import lattice
from diffusiongemma.control.languages.compiler import compile_language
from diffusiongemma.control.languages.dfa import TooLarge
from diffusiongemma.control.structure import Structure
from diffusiongemma.control.tokens.vocabulary import Vocabulary
from diffusiongemma.errors import InputError

FOLDER = Path(__file__).parent.parent / "cases"
CASES = json.loads((FOLDER / "schemas.json").read_text())
VOCABULARY = Vocabulary((None, *(bytes([b]) for b in range(256))))
NAMES = {
    "one by one": [f"Icon{i:04}OfTheMaterialSet" for i in range(2000)],
    "numbered first": [f"{i:03}Name" * 3 for i in range(900)],
    "numbered first, all else alike": [f"{i:03}NameOfAnIconOfTheSet123" for i in range(900)],
}
BUSY = 8  # seconds of a processor for what takes one here and once took 19 to 37: others may share the core
NOTHING = "no finite JSON value meets it"


def structure(case):
    return Structure.of({name: case.get(key) for name, key in (("json_schema", "schema"), ("regex", "regex"))})


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_must_be_written_is_and_nothing_else(case):
    try:
        dfa = compile_language(structure(case).language())
    except InputError as error:
        assert "must" not in case and NOTHING in str(error), "a schema without any answer may be refused"
        return
    assert [text for text in case.get("must", []) if not dfa.matches(text)] == []
    assert [text for text in case.get("must_not", []) if dfa.matches(text)] == []


def of_client(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


(TAGGED,) = of_client("discriminated_union")["schemas"]
NUMBERS, BINARY = of_client("number_formats")["schemas"]
MAIL = of_client("lookahead_tool")["bodies"][0]["tools"][1]["function"]["parameters"]
UNTAGGED = TAGGED | {"$defs": {n: d | {"required": d["required"][1:]} for n, d in TAGGED["$defs"].items()}}
NULLABLE = TAGGED | {"properties": {"shape": {"anyOf": [TAGGED["properties"]["shape"], {"type": "null"}]}}}
SHAPES = [{"kind": "disc", "r": 1.5}, {"kind": "box", "w": 2147483647}]
OTHERS = [
    {"kind": "disc", "w": 1},
    {"kind": "box", "r": 1},
    {"kind": "box", "w": 2147483648},
    {"kind": "other", "r": 1},
]
FITTING = {"page": 4294967295, "since": -(2**63), "ratio": 0.5}


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        (TAGGED, [{"shape": s} for s in SHAPES], [{"shape": s} for s in [*OTHERS, {"r": 1}, None]]),
        (UNTAGGED, [{"shape": s} for s in [*SHAPES, {"r": 1}, {"w": 1}]], [{"shape": s} for s in [*OTHERS, {}, None]]),
        (NULLABLE, [{"shape": s} for s in [*SHAPES, None]], [{"shape": s} for s in [*OTHERS, {"r": 1}]]),
        (
            NUMBERS,
            [FITTING, FITTING | {"page": 0, "since": 2**63 - 1}],
            [FITTING | {"page": n} for n in (-1, 4294967296)] + [FITTING | {"since": 2**63}],
        ),
        (BINARY, [{"f": ""}, {"f": "é😀 0\n"}], [{"f": 1}, {}]),
        (
            MAIL,
            [{"to": to} for to in ("a@b.org", "a.b@c-d.e.org")],
            [{"to": to} for to in (".a@b.org", "a..b@c.org", "a@b..org", "a.@b.org")],
        ),
    ],
    ids=["tagged", "tags not required", "tagged or null", "formats of numbers", "unknown format", "look-ahead"],
)
def test_schemas_of_clients_allow_what_they_say(schema, right, wrong):
    dfa = compile_language(structure({"schema": schema}).language())
    texts = [[json.dumps(v, ensure_ascii=False, separators=(",", ":")) for v in values] for values in (right, wrong)]
    assert [text for text in texts[0] if not dfa.matches(text)] == []
    assert [text for text in texts[1] if dfa.matches(text)] == []


@pytest.mark.parametrize("case", [case for case in CASES.values() if "seconds" in case], ids=lambda case: case["why"])
def test_what_was_slow_compiles_in_time(case):
    begin = time.process_time()
    CompileJob.of(structure(case), VOCABULARY, [0]).run()
    assert time.process_time() - begin < BUSY


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_long_lists_of_names_compile(names):
    dfa = compile_language(Structure.of({"json_schema": {"enum": names}}).language())
    assert all(dfa.matches(json.dumps(name)) for name in names)
    assert not dfa.matches(json.dumps(names[0][:-1])) and not dfa.matches(json.dumps(names[0] + "x"))


def test_schemas_nested_thousands_deep_are_refused_in_words():
    with pytest.raises(InputError, match="nested too deeply"):
        Structure.of({"json_schema": '{"const":' + "[" * 3000 + "]" * 3000 + "}"}).language()


def test_an_automaton_that_tells_too_much_apart_is_refused_soon_and_named():
    begin = time.process_time()
    with pytest.raises(TooLarge, match=r"the repetition \{12\} is too large.*tells too many tokens apart"):
        compile_constraint(regex=".*a.{12}", vocabulary=LONG_TOKENS, end_ids=[0])
    assert time.process_time() - begin < BUSY


def test_a_canvas_with_too_many_moves_is_refused_before_it_is_built(monkeypatch):
    for limit in ("MOST_MOVES", "MOST_MOVES_OF_TWIN"):
        monkeypatch.setattr(lattice, limit, 30)
    state = compile_constraint(regex="[a-z]{1,40}", vocabulary=VOCABULARY, end_ids=[0]).begin(20)
    assert state.lattice(4).moves <= 30
    with pytest.raises(TooLarge, match="moves on one canvas, 30 are the most"):
        state.lattice(20)


def test_kept_lattices_are_found_again_and_do_not_keep_their_constraint():
    constraint = replace(compile_constraint(regex="[a-z]{1,40}", vocabulary=VOCABULARY, end_ids=[0]))
    assert constraint.begin(20).lattice(4) is constraint.begin(20).lattice(4)
    gone = weakref.ref(constraint)
    del constraint
    gc.collect()
    assert gone() is None


LONG_TOKENS = Vocabulary(
    (
        *VOCABULARY.token_bytes,
        *{(a * i + b * j).encode() for a in "abcde" for b in "abxyz" for i in range(1, 6) for j in range(1, 6)},
    )
)
