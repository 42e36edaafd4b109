"""Languages, regular expressions, choices, templates and words against Python's `re`."""

from __future__ import annotations

import itertools
import os
import random
import re
import subprocess
import sys
from re import _parser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusiongemma.control.compiling import CompileJob
from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.charset import (
    ANY_CHAR,
    charset,
    complement,
    contains,
    difference,
    intersection,
    union,
)
from diffusiongemma.control.languages.choices import choices_language
from diffusiongemma.control.languages.compiler import compile_language
from diffusiongemma.control.languages.dfa import TooLarge
from diffusiongemma.control.languages.regex import found_language, regex_language
from diffusiongemma.control.languages.template import template_language
from diffusiongemma.control.languages.utf8 import to_bytes
from diffusiongemma.control.languages.words import words_language
from diffusiongemma.control.structure import Structure
from diffusiongemma.control.tokens import moves
from diffusiongemma.control.tokens.vocabulary import Vocabulary
from diffusiongemma.errors import InputError

REGEXES = int(os.environ.get("DIFFUSIONGEMMA_REGEXES", "300"))  # the full check: 1000

# -- sets and languages

ranges = st.lists(st.tuples(st.integers(0, 0x10FFFF), st.integers(0, 3000)), max_size=6)


@given(ranges, ranges, st.integers(0, 0x10FFFF))
def test_charset_algebra(first, second, code_point):
    a, b = (charset((low, min(low + span, 0x10FFFF)) for low, span in s) for s in (first, second))
    in_a, in_b, is_text = (contains(s, code_point) for s in (a, b, ANY_CHAR))
    assert contains(union(a, b), code_point) == (in_a or in_b)
    assert contains(intersection(a, b), code_point) == (in_a and in_b)
    assert contains(difference(a, b), code_point) == (in_a and not in_b)
    assert contains(complement(a), code_point) == (is_text and not in_a)
    assert complement(complement(a)) == a


def random_regex(rng: random.Random, depth: int = 3) -> str:
    atoms = ["a", "b", "c", "é", "日", r"\d", r"\w", r"\s", ".", "[ab]", "[^a]", "[a-c1-3]", r"\.", "-", r"[^\W\d]"]
    if depth == 0 or rng.random() < 0.25:
        return rng.choice(atoms)
    part = lambda: random_regex(rng, depth - 1)  # noqa: E731
    match rng.randrange(8):
        case 0 | 1:
            return part() + part()
        case 2:
            return f"(?:{part()}|{part()})"
        case 3:
            return f"({part()}){rng.choice(['*', '+', '?', '*?', '+?', '??'])}"
        case 4:
            low = rng.randint(0, 3)
            return f"(?:{part()}){{{low},{low + rng.randint(0, 3)}}}"
        case 5:
            return rng.choice(["^", "$", r"\Z", r"\A", ""]) + part() + rng.choice(["$", "", r"\Z"])
        case 6:
            return f"(?i:{part()})"
        case _:
            return f"(?s:{part()})" + part()


def random_text(rng: random.Random) -> str:
    return "".join(rng.choice("aabbccABé日1 2.\n-_٣ſK😀") for _ in range(rng.randint(0, 6)))


def test_languages_are_exactly_fullmatch():
    """300 random regexes: character and byte automata agree with `re.fullmatch` on random texts and on near misses."""
    rng = random.Random(0)
    for _ in range(REGEXES):
        pattern = random_regex(rng)
        dfa = compile_language(regex_language(pattern))
        in_bytes = to_bytes(dfa)
        matching = re.compile(pattern)
        texts = [random_text(rng) for _ in range(60)]
        for text in texts:
            expected = matching.fullmatch(text) is not None
            assert dfa.matches(text) == expected, (pattern, text)
            assert in_bytes.matches(text.encode()) == expected, (pattern, text)


ANCHORED = [
    "^a$",
    "^ab|b$",
    "^",
    "$",
    "^$",
    "^^a$$",
    "(^a|b$)",
    "(^a)|(b$)x?",
    r"a$\Z",
    r"a\Z$",
    "^a\n$",
    "$\n",
    "a|",
    "(?m)^a$",
    "^(a|^b)$",
    r"\Aa\Z",
    "(^)?a",
    "a$b",
    "^a(?!b)",
    "(?:^a$)b?",
    "$^",
    "a\n\\Z|^b",
    "^[ab]{0,3}$\n?",
    "x^a|b",
    "$a^",
]


@pytest.mark.parametrize("pattern", ANCHORED)
@pytest.mark.parametrize(("language", "found"), [(regex_language, re.fullmatch), (found_language, re.search)])
def test_anchors_anywhere(pattern, language, found):
    """Those at the ends are no part of the automaton (`anchored`)."""
    dfa = compile_language(language(pattern))
    for length in range(5):
        for text in map("".join, itertools.product("abx\n", repeat=length)):
            assert dfa.matches(text) == (found(pattern, text) is not None), text


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("(?:a(?=b))*", "look-ahead inside a repeat"),
        ("(?<!a)b", "look-behind"),
        (r"(a)\1", "back-reference"),
        ("(?>a)b", "atomic"),
        ("a*+b", "possessive"),
        ("(a)?(?(1)b|c)", "conditional"),
        ("(", "not a regular expression"),
        ("a{99999999999}", "not a regular expression"),
    ],
)
def test_what_no_automaton_can_follow_is_named(pattern, named):
    with pytest.raises(InputError, match=re.escape(named)):
        regex_language(pattern)


def test_large_repetitions_are_refused_in_one_line():
    with pytest.raises(InputError, match="more than"):
        compile_language(regex_language("(a|b)*a(a|b){30}"))


# -- choices, templates, words


def test_choices_are_taken_literally():
    dfa = compile_language(choices_language(("a.b", "yes", "é")))
    assert [dfa.matches(text) for text in ("a.b", "yes", "é", "axb", "ye", "")] == [True] * 3 + [False] * 3
    for wrong in ((), ("",)):
        with pytest.raises(InputError):
            choices_language(wrong)


def test_templates():
    dfa = compile_language(template_language("{{Name}}: {name} Age: {age:int} {ok:bool} {x:a|b.c} {f:float}"))
    assert dfa.matches("{Name}: Ada Lovelace Age: -36 true b.c 1.50")
    for middle in (" Age: 3 true a", "A Age: 03 true a", "A Age: 3 yes a", "A\nB Age: 3 true a"):
        assert not dfa.matches(f"{{Name}}: {middle} 1")
    for wrong in ("no hole", "{name:date}", "{name", "a } {b}", "{n:|a}"):
        with pytest.raises(InputError, match=r"template|choice"):
            template_language(wrong)


def test_words_never_or_surely_appear():
    dfa = compile_language(words_language(banned=["foo", "ab"], required=["x", "yz"]))
    for text in ("xyz", "yz fo x", "foxyz", "xfoo yz", "x", "xayz b", "xayzb ab"):
        expected = "foo" not in text and "ab" not in text and "x" in text and "yz" in text
        assert dfa.matches(text) == expected
    with pytest.raises(InputError, match="contains one of banned_words"):
        words_language(banned=["oo"], required=["foo"])


def test_what_outgrows_memory_is_refused_and_named(monkeypatch):
    monkeypatch.setattr(moves, "MOST_LEADING", 50)
    vocabulary = Vocabulary((None, *(bytes([b]) for b in range(256))))
    with pytest.raises(TooLarge, match=r"regex: the repetition \{1,200\} is too large: .*tokens apart") as caught:
        CompileJob.of(Structure(regex=r"[ab]{3}\w{1,200}"), vocabulary, [0]).run()
    assert caught.value.option == "regex"


def test_compiled_automata_embed():
    digits = lang.Compiled(compile_language(regex_language("[0-9]{2}")))
    dfa = compile_language(lang.sequence(lang.literal("<"), digits, lang.optional(digits), lang.literal(">")))
    assert [dfa.matches(t) for t in ("<12>", "<1234>", "<1>", "<123>")] == [True, True, False, False]
    quoted = compile_language(lang.Quoted(lang.both(regex_language('.["\\\\].', re.DOTALL))))
    assert quoted.matches(r'"a\"b"') and quoted.matches(r'"a\\\n"') and not quoted.matches('"a"b"')
    assert np.asarray(quoted.accepting).sum() == 1


@pytest.mark.parametrize(
    ("pattern", "nodes"),
    [
        ("a", "LITERAL"), ("[^a]", "NOT_LITERAL"), (".", "ANY"), ("[ab]", "IN LITERAL LITERAL"),
        (r"[^a-c\d]", "IN NEGATE RANGE CATEGORY"), ("ab|cd", "BRANCH"), ("(a)", "SUBPATTERN"), ("a*", "MAX_REPEAT"),
        ("a*?", "MIN_REPEAT"), ("^", "AT AT_BEGINNING"), ("$", "AT AT_END"), (r"\A", "AT AT_BEGINNING_STRING"),
        (r"\Z", "AT AT_END_STRING"), (r"\b", "AT AT_BOUNDARY"), (r"\B", "AT AT_NON_BOUNDARY"),
        ("(?=a)", "ASSERT"), ("(?!a)", "ASSERT_NOT"), ("(?>a)", "ATOMIC_GROUP"), ("a*+", "POSSESSIVE_REPEAT"),
        (r"(a)\1", "SUBPATTERN GROUPREF"), ("(a)?(?(1)b)", "MAX_REPEAT GROUPREF_EXISTS"),
    ],
)  # fmt: skip
def test_pythons_private_parser_still_says(pattern, nodes):
    """`regex.py` reads the tree of `re._parser`, which any new Python may change."""
    found = []
    for operation, argument in _parser.parse(pattern):
        found.append(str(operation))
        found += [str(member[0]) for member in argument] if str(operation) == "IN" else []
        found += [str(argument)] if str(operation) == "AT" else []
    assert " ".join(found) == nodes, f"Python {sys.version.split()[0]} reads {pattern!r} as {found}: see regex.py"


def test_patterns_of_tomorrow_are_read_in_silence():
    """What Python warns of (`[[a]`) is nothing that whoever serves such a schema could change."""
    program = "\n".join(
        [
            "from diffusiongemma.control.structure import Structure",
            "for part in ('[[a]', '[a||b]', '[a&&b]', '[a~~b]', '[[:alpha:]]', '(x([[a]))'):",
            "    Structure(regex=part).language()",
            '    Structure(json_schema=\'{"type": "string", "pattern": "\' + part + \'"}\').language()',
        ]
    )
    done = subprocess.run([sys.executable, "-W", "default", "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
