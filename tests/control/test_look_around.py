"""What a pattern asks of its neighbours: look-ahead, word boundaries, lines; and ECMA-262's way with patterns."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess

import pytest

from diffusiongemma.control.json_schema.patterns import pattern_shape
from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.compiler import compile_language
from diffusiongemma.control.languages.ecma import as_python
from diffusiongemma.control.languages.regex import found_language, regex_language
from diffusiongemma.errors import InputError

PATTERNS = [
    r"\bfoo\b( \bbar\b)?", r"\b\w+\b", r".*\Ba\B.*", r"\Bo", r"(?a:\ba)b*", r"a\b|\bb-", r"(?:a|-)*\b", r"\b",
    r"^(?=.*[ab])(?=.*1).{2,}$", r"^(?!\.)(?!.*\.\.)[ab.]*$", r"(?!ab)(?:a|b|-)*", r"a(?!b)[ab]*", r"(a(?=b)|b)[ab-]*",
    r"^(?!^[-.]*$)[-]?0*1*\.?1*$", r"(?:a(?!a)|b){0,3}", r"(?=a)\w{2}|b", r"(?m)^a$", r"(?m)(?:^a$\n?)*", r"(?m).*^b",
    r"(?m)a$[\s\S]*", r"(?:(?=a)a)?b", r"^\b(?!ab\b)[ab]+", r"(?=a$)a|b$", r"(?!a|b)-*1?", r"(?m)\b$\n^\b.*",
    # looks at what stands beside them
    r"^(?!-)[ab1-]{1,3}(?<!-)$", r"((?!-)[ab-]{1,3}(?<!-)\.)+[ab]{1,2}", r"(?:(?!b)[a-f])+", r"a(?<=a)b",
    r"(?:(?![ab])(?=f)[a-f])*1?", r"(ab|a)(?<!b)1?", r"^[ab.]*(?<!\.)$", r"^a*(?<!aa)b", r"(?i)(?:(?!A)[a-f])+",
    r"(?:(?!-)[ab-]{0,2}[ab]\.)+", r"^(?=.*a)(?!b)[ab]{2}(?<!bb)$", r"(?:(?=a)a(?<=a)|b)+", r"(?:a|b(?!a)[ab])+",
    r"^\.?(?<!\.)a", r"1(?<=1)(?<!a)(?=-)-", r"(?:(?!ab)[a-f]{2})*",
    # look-ahead from the start of the text
    r"(?!^[0-9]+$)([ab0-9-]+)", r"(?=^.{2,3}$)(?!^(b+\.)+b+$)(^(([ab]|[ab]-*[ab])\.)*([ab])$)", r"(?!^[.-])^([ab.-]+)$",
    r"(^1-.+$)|(^(?=(.{2})*$)[ab]*-?$)", r"^a$|(?=^[ab.]{2,4}$)(?!.*\.\.)a.*", r"((?!^a)b|a)", r"(?!^a)\ba", r"(?!^)a",
    r"(?!^(?=a)a)a",
]  # fmt: skip
LETTERS = "aabb1.-- \nfoA"


def texts(rng, count=150):
    special = ["foo", "foo bar", "foobar", "a\nb", "a\n", "ab1", "1.1", "-", "a\na", "b\n\na"]
    return special + ["".join(rng.choice(LETTERS) for _ in range(rng.randint(0, 6))) for _ in range(count)]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_as_python_reads_it(pattern):
    whole, found = compile_language(regex_language(pattern)), compile_language(found_language(pattern))
    for text in texts(random.Random(0)):
        assert whole.matches(text) == (re.fullmatch(pattern, text) is not None), text
        assert found.matches(text) == (re.search(pattern, text) is not None), text


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("(?<=a)b", "look-behind"), ("(?m)^a?(?<!a)b", "look-behind"), ("a*(?<!aa)b", "look-behind"),
        ("(?:a(?!b))*", "repeat without end"), ("(?:(?!ab).){1,20}", "more than 8"),
        (r"a(?=\bb)b", "behind other text"), (r"(?:a|(?=^b)b)c|ab", "behind other text"),
        (r"\ba(?a:\b)", "two kinds"),
    ],
)  # fmt: skip
def test_what_is_refused(pattern, named):
    with pytest.raises(InputError, match=named):
        compile_language(found_language(pattern))


ECMA = {
    r"^\S$": ("aé", "\ufeff \u00a0"), r"^.$": ("a\x85", "\n\u2028\r"), r"^\d$": ("1", "٣"), r"^\w$": ("a_", "é"),
    r"^a{,3}$": (["a{,3}"], ["aa", "aaa"]), r"^a$": ("a", ["a\n"]), r"^\p{L}$": ("aé日", "1-"),
    r"^\P{Lu}$": ("a1", "A"), r"^\p{ASCII}$": ("a~", "é"), r"^[^\p{Alphabetic}]$": ("1-", "aⅠⒶ"),
    r"^\p{Extended_Pictographic}$": ("😀❤", "a#"), r"^\p{Emoji_Component}$": ("#1", "a😀"),
    r"^\p{Currency_Symbol}$": ("$€", "s"), r"^\P{Lowercase}$": ("A1", "aªⓐ"),
    r"^(?<x>a)$": ("a", "b"), r"^[^]$": ("a\n", [""]), r"^[]$": ([], "a"), r"^\cJ$": ("\n", "J"),
    r"^\u0061$": ("a", "u"),
    r"^[\w.-]+$": (["a.-"], ["é"]), r"^[a-\d]$": ("a-1", "b"), r"^[\d-x]$": ("1-x", "b"), r"^[[a]$": ("[a", "]"),
    r"^\/\-\@$": (["/-@"], ["/"]), r"^a{2}{$": (["aa{"], ["a"]), r"^[\b]$": ("\b", "b"), r"\bé": (["aé"], ["é"]),
    r"^[^\s-]$": ("a", " -\ufeff"), r"^(?:a|b){1,2}$": (["ab"], ["abc"]), r"^\u{1F600}$": (["😀"], ["x"]),
}  # fmt: skip


@pytest.mark.parametrize("pattern", ECMA)
def test_as_ecma_reads_it(pattern):
    dfa = compile_language(found_language(as_python(pattern), re.ASCII))
    accepted, rejected = ECMA[pattern]
    assert [text for text in accepted if not dfa.matches(text)] == []
    assert [text for text in rejected if dfa.matches(text)] == []


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")
def test_as_node_reads_it():
    rng = random.Random(1)
    patterns = [*ECMA, *(p for p in PATTERNS if not any(flags in p for flags in ("(?m)", "(?a", "(?i)")))]
    asked = [(p, [*texts(rng, 40), "é", "٣", "\ufeff", "\u2028", "A", "aaa", "a{,3}", "b[", "]"]) for p in patterns]
    script = """const asked = JSON.parse(require('fs').readFileSync(0));
    const read = p => { try { return new RegExp(p, 'u') } catch { return new RegExp(p) } };
    console.log(JSON.stringify(asked.map(([p, texts]) => texts.map(t => read(p).test(t)))))"""
    done = subprocess.run(["node", "-e", script], input=json.dumps(asked), capture_output=True, text=True, check=True)
    for (pattern, tried), expected in zip(asked, json.loads(done.stdout), strict=True):
        dfa = compile_language(found_language(as_python(pattern), re.ASCII))
        assert [dfa.matches(text) for text in tried] == expected, pattern


def test_patterns_of_schemas_match_in_both_dialects():
    shape = pattern_shape(r"^a{,3}\S$")
    assert shape.outer is not None
    assert not compile_language(shape.content).matches("aab") and compile_language(shape.outer).matches("aab")
    assert pattern_shape(r"^\p{Lu}+$").outer is None and pattern_shape("(?i)^ab$").outer is None
    assert pattern_shape(r"^\p{Alphabetic}$").outer is lang.ANY_TEXT
    with pytest.raises(InputError, match="Unicode property"):
        pattern_shape(r"^\p{Script=Greek}$")


def test_of_a_pattern_that_is_too_large_less_is_repeated():
    shape = pattern_shape(r"^(?=.{1,253}$)((?!-)[a-z-]{1,63}(?<!-)\.)+[a-z]{2,63}$")
    assert shape.outer is lang.ANY_TEXT
    dfa = compile_language(shape.content)
    assert dfa.matches("a-b.example.org") and dfa.matches("a" * 60 + ".org")
    assert not dfa.matches("-a.org") and not dfa.matches("a-.org") and not dfa.matches("a..org")
