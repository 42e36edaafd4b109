"""Vocabularies and their token automata against Python's `re`, brute force and real tokenizers."""

from __future__ import annotations

import itertools
import random
import re
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_regex import REGEXES, random_regex
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from diffusiongemma.control.compiling import compile_constraint
from diffusiongemma.control.constraint import Constraint
from diffusiongemma.control.inference.bundles import Bundles
from diffusiongemma.control.languages.compiler import compile_language
from diffusiongemma.control.languages.regex import regex_language
from diffusiongemma.control.languages.utf8 import ByteDfa, to_bytes
from diffusiongemma.control.tokens.automaton import compile_tokens, compile_whole_characters
from diffusiongemma.control.tokens.bias import LogitBias
from diffusiongemma.control.tokens.coarse import landing_states
from diffusiongemma.control.tokens.vocabulary import Vocabulary, vocabulary_of
from diffusiongemma.errors import InputError

BYTES = tuple(bytes([b]) for b in range(256))
WORDS = ("ab", "abc", "ba", "é", "日本", "😀", "cab", "a-b", "12", "34", " a", "\n\n", "Ab")
PARTS = ("é".encode()[:1], "日".encode()[1:])
VOCABULARY = Vocabulary((None, *BYTES, *(word.encode() for word in WORDS), *PARTS, None))
END = 0


def test_random_scores_always_give_a_match():
    """300 random regexes × random scores at temperatures 0 to 2: best paths, all match `re`."""
    rng, generator = random.Random(1), torch.Generator().manual_seed(1)
    count = 0
    for _ in range(REGEXES):
        pattern = random_regex(rng)
        try:
            constraint = compile_constraint(regex=pattern, vocabulary=VOCABULARY, end_ids=[END])
        except InputError as error:
            assert "no text at all" in str(error)
            continue
        positions = constraint.minimum_tokens + rng.randint(1, 6)
        chain = constraint.begin(positions).open_canvas(positions)
        for _ in range(2):
            scores = torch.randn(chain.positions, len(VOCABULARY), generator=generator)
            path = chain.most_probable_path(scores / rng.choice([0.02, 0.5, 1.0, 2.0]))
            text = VOCABULARY.decode(path.tolist())
            assert re.fullmatch(pattern, text), (pattern, text)
            count += 1
    assert count > REGEXES


def test_a_banned_word_is_not_written_across_tokens():
    words = {"banned_words": ["cab", "日"], "required_words": ["12"]}
    constraint = compile_constraint(vocabulary=VOCABULARY, end_ids=[END], **words)
    favourites = torch.full((8, len(VOCABULARY)), -20.0)
    for token in (b"c", b"a", b"b", b"ab", b"cab", "日".encode()[:1], "日".encode()[1:]):
        favourites[:, VOCABULARY.token_bytes.index(token)] = 5.0
    chain = constraint.begin(8).open_canvas(8)
    for seed in range(20):
        scores = favourites + torch.randn(favourites.shape, generator=torch.Generator().manual_seed(seed))
        text = VOCABULARY.decode(chain.most_probable_path(scores).tolist())
        assert "cab" not in text and "日" not in text and "12" in text and "\ufffd" not in text


def test_logit_bias():
    logits = torch.zeros(3, 5)
    LogitBias.of({1: 2.5, 4: -100}, 5)(logits, 0)
    assert logits.tolist() == [[0, 2.5, 0, 0, -100]] * 3


@pytest.mark.parametrize(
    ("bias", "words"),
    [({9: 1.0}, "token 9"), ({-1: 1.0}, "vocabulary"), ({1: 101}, "-100 to 100"), ({1: float("nan")}, "-100 to 100")],
)
def test_logit_bias_out_of_range_is_refused(bias, words):
    with pytest.raises(InputError, match=words):
        LogitBias.of(bias, 5)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["(ab|c)*", "a*b{2}", "[abc]{1,3}c", "(?:ab)?ba|cab"]), st.integers(0, 2**31))
def test_token_automaton_accepts_exactly_the_splits_of_matching_texts(pattern, seed):
    rng = random.Random(seed)
    pieces = [None, b"a", b"b", b"c", b"ab", b"ba", b"abc", b"cc", b"ab"]
    vocabulary = Vocabulary(tuple(pieces))
    automaton = compile_tokens(to_bytes(compile_language(regex_language(pattern))), vocabulary, [0])
    for _ in range(100):
        tokens = [rng.randrange(len(pieces)) for _ in range(rng.randint(0, 4))]
        text_tokens = list(itertools.takewhile(lambda t: t != 0, tokens))
        matches = re.fullmatch(pattern, b"".join(pieces[t] for t in text_tokens).decode()) is not None
        ends_cleanly = all(t == 0 for t in tokens[len(text_tokens) :])
        state = automaton.run(tokens)
        assert (state >= 0 and bool(automaton.accepting[state])) == (matches and ends_cleanly)
        if state >= 0:  # never a dead end
            assert automaton.tokens_to_finish[state] <= 4


def test_tokens_that_write_the_same_share_a_class_and_shortest_ends_are_known():
    vocabulary = Vocabulary((None, b"a", b"b", b"a", b"aa", b"x"))
    automaton = compile_tokens(to_bytes(compile_language(regex_language("a{3}b"))), vocabulary, [0])
    assert automaton.class_of_token[1] == automaton.class_of_token[3]
    assert automaton.class_of_token[5] == -1
    assert automaton.tokens_to_finish[0] == 3  # aa, a, b
    assert [token for token in range(6) if automaton.advance(0, token) >= 0] == [1, 3, 4]
    assert automaton.advance(automaton.run([4, 1, 2]), 0) == automaton.done
    assert automaton.run([0]) == -1 and automaton.run([4, 4]) == -1


def test_characters_may_be_split_over_tokens_and_end_whole():
    """With single bytes only, every character of a Unicode class can be written, and never left unfinished."""
    vocabulary = Vocabulary((None, *BYTES))
    automaton = compile_tokens(to_bytes(compile_language(regex_language(r"[é日😀]{2}"))), vocabulary, [0])
    for text in ("éé", "日😀", "😀é"):
        state = 0
        for i, byte in enumerate(text.encode()):
            assert not automaton.accepting[state], (text, i)
            state = automaton.advance(state, byte + 1)
        assert automaton.accepting[state]
    assert automaton.tokens_to_finish[0] == 4


def test_a_thought_may_come_first():
    vocabulary = Vocabulary((None, b"a", b"b", None, None, b"c"))
    opens, closes = 3, 4
    constraint = compile_constraint(regex="ab", vocabulary=vocabulary, end_ids=[0], preamble=(opens, closes))
    run, accepting = constraint.automaton.run, constraint.automaton.accepting
    for tokens in ([1, 2], [1, 2, 0], [opens, closes, 1, 2], [opens, 5, 2, 1, closes, 1, 2, 0, 0]):
        assert accepting[run(tokens)], tokens
    for tokens in ([5], [closes], [opens, 0], [1, opens], [opens, closes, opens], [opens, closes, 5], [opens, opens]):
        assert run(tokens) == -1, tokens
    assert not accepting[run([opens, 1, 2])] and constraint.minimum_tokens == 2
    scores = torch.zeros(6, 6).index_fill_(1, torch.tensor([5]), 3.0)
    scores[0, opens] = 9.0
    path = constraint.begin(6).open_canvas(6).most_probable_path(scores).tolist()
    assert path == [opens, 5, 5, closes, 1, 2]


def test_a_thought_writes_no_markup():
    """Tokens with a bar may stand in the answer, beside others of their class, and not in the thought."""
    vocabulary = Vocabulary((None, b"a", b"|", b"b|", None, None, b"b"))
    opens, closes = 4, 5
    constraint = compile_constraint(regex="[ab|]*", vocabulary=vocabulary, end_ids=[0], preamble=(opens, closes))
    run, accepting = constraint.automaton.run, constraint.automaton.accepting
    for tokens in ([1, 2, 3, 6, 0], [opens, 1, 6, closes, 2, 3, 1], [2], [opens, closes, 0]):
        assert accepting[run(tokens)], tokens
    for tokens in ([opens, 2], [opens, 1, 3], [opens, 0], [opens, closes, 0, 1]):
        assert run(tokens) == -1, tokens


def test_a_vocabulary_that_cannot_write_the_text_is_refused():
    with pytest.raises(InputError, match="can't write"):
        compile_tokens(to_bytes(compile_language(regex_language("ac"))), Vocabulary((None, b"a", b"b")), [0])


def test_budgets_are_refused_before_any_work():
    constraint = compile_constraint(choices=["abcabc", "ab12"], vocabulary=VOCABULARY, end_ids=[END])
    assert constraint.minimum_tokens == 2
    with pytest.raises(InputError, match="at least 2 tokens"):
        constraint.begin(1)
    with pytest.raises(InputError, match="7 to 9 tokens"):
        constraint.begin(9, min_tokens=7)
    state = constraint.begin(5, min_tokens=4)
    text = VOCABULARY.decode(state.open_canvas(8).most_probable_path(torch.zeros(5, len(VOCABULARY))).tolist())
    assert text in ("abcabc", "ab12")


def test_minimum_and_maximum_length_hold_across_canvases():
    constraint = compile_constraint(regex="a*b", vocabulary=VOCABULARY, end_ids=[END])
    generator = torch.Generator().manual_seed(0)
    for least, most in ((7, 9), (1, 3), (9, 9), (4, 30)):
        state, tokens = constraint.begin(most, least), []
        while not state.finished and state.written < most:
            chain = state.open_canvas(4)
            path = chain.most_probable_path(torch.randn(chain.positions, len(VOCABULARY), generator=generator)).tolist()
            state, tokens = state.after(path), tokens + path
        text_tokens = [t for t in tokens if t != END]
        assert re.fullmatch("a*b", VOCABULARY.decode(tokens)) and least <= len(text_tokens) <= most


def test_constraints_are_compiled_once():
    first = compile_constraint(regex="ab+", vocabulary=VOCABULARY, end_ids=[END])
    assert compile_constraint(regex="ab+", vocabulary=Vocabulary(VOCABULARY.token_bytes), end_ids=[END]) is first
    assert compile_constraint(regex="ab+", vocabulary=VOCABULARY.without([5]), end_ids=[END]) is not first
    with pytest.raises(InputError, match="choose one"):
        compile_constraint(regex="a", choices=["a"], vocabulary=VOCABULARY, end_ids=[END])


def test_far_counts_are_kept_with_fewer_states():
    """A limit of 300 characters: coarse counting shrinks the automaton, keeps the limit and comes near it."""
    dfa = compile_language(regex_language("<[a-zé\\\\n]{0,300}>x{2,3}"))
    exact = compile_tokens(to_bytes(dfa), VOCABULARY, [END])
    coarse, _ = compile_whole_characters(dfa, VOCABULARY, [END], landing_states(dfa))
    assert coarse.num_states < exact.num_states / 2
    generator = torch.Generator().manual_seed(0)
    longest = 0
    for favourite in (b"ab", b"abc", b"a", "é".encode(), b"cab"):
        scores = torch.randn(400, len(VOCABULARY), generator=generator)
        scores[:, [t for t, written in enumerate(VOCABULARY.token_bytes) if written == favourite]] += 20
        chain = Constraint(coarse, Bundles.of(coarse)).begin(400).open_canvas(400)
        text = VOCABULARY.decode(chain.most_probable_path(scores).tolist())
        assert dfa.matches(text), text
        longest = max(longest, len(text))
    assert longest > 270


def test_without_counters_whole_characters_say_the_same():
    dfa = compile_language(regex_language("(a|é|[^ab]){0,9}b"))
    exact = compile_tokens(to_bytes(dfa), VOCABULARY, [END])
    whole, _ = compile_whole_characters(dfa, VOCABULARY, [END], np.arange(dfa.num_states))
    split = {t for t, written in enumerate(VOCABULARY.token_bytes) if written and not _is_text(written)}
    rng = random.Random(0)
    for _ in range(500):
        tokens = [rng.randrange(1, len(VOCABULARY)) for _ in range(rng.randrange(5))]
        if not split & set(tokens):
            ends = [a.run(tokens) for a in (exact, whole)]
            assert [end >= 0 and bool(a.accepting[end]) for a, end in zip((exact, whole), ends, strict=True)] in (
                [True, True],
                [False, False],
            )


def _is_text(written):
    try:
        return bool(written.decode())
    except UnicodeDecodeError:
        return False


@pytest.mark.parametrize(
    ("structure", "seconds"),
    [
        ({"regex": r"\w{1,2000}"}, 4), ({"regex": r"[\s\S]*(foo|bar|baz)[\s\S]*"}, 4),
        ({"json_schema": {"type": "string", "maxLength": 30_000}}, 8),
        ({"json_schema": {"properties": {f"p{i}": {"type": "string", "maxLength": 5000} for i in range(12)}}}, 12),
        ({"json_schema": {"enum": [f"Icon{i:04}OfTheMaterialSet" for i in range(4000)]}}, 8),
    ],
)  # fmt: skip
def test_what_counts_far_compiles_soon(structure, seconds):
    """In processor time, which was 30 to 80 s; the bounds are twenty times what it takes alone."""
    begin = time.process_time()
    constraint = compile_constraint(vocabulary=VOCABULARY, end_ids=[END], **structure)
    assert time.process_time() - begin < seconds
    assert constraint.nbytes < 50 * 2**20


# -- real tokenizers


def byte_level_tokenizer() -> Tokenizer:
    letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(letters, []))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def sentencepiece_tokenizer() -> Tokenizer:
    pieces = [f"<0x{b:02X}>" for b in range(256)] + ["a", "b", "▁a", "▁▁", "é", "日本", "<html>"]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, [], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


@pytest.mark.parametrize("make", [byte_level_tokenizer, sentencepiece_tokenizer])
def test_vocabulary_writes_what_the_tokenizer_decodes(make):
    tokenizer = make()
    tokenizer.add_special_tokens(["<end>"])
    tokenizer.add_tokens(["<b> "])
    vocabulary = vocabulary_of(tokenizer, size=tokenizer.get_vocab_size() + 5)
    assert len(vocabulary) == tokenizer.get_vocab_size() + 5 and vocabulary.token_bytes[-1] is None
    special = tokenizer.token_to_id("<end>")
    assert vocabulary.token_bytes[special] is None
    rng = random.Random(0)
    for _ in range(300):
        text = "".join(rng.choice(["a", "é", "日本", "😀", " ", "\n"]) for _ in range(4)).encode()
        ids = [vocabulary.token_bytes.index(bytes([b])) for b in text]
        words = [token for token, written in enumerate(vocabulary.token_bytes) if written and written < b"\x80"]
        ids += [rng.choice(words) for _ in range(3)]
        assert vocabulary.decode(ids) == tokenizer.decode(ids, skip_special_tokens=True)


def test_other_tokenizers_are_refused():
    tokenizer = Tokenizer(models.WordPiece({"a": 0, "[UNK]": 1}))
    tokenizer.decoder = decoders.WordPiece()
    with pytest.raises(InputError, match="WordPiece"):
        vocabulary_of(tokenizer)


def test_tokens_that_are_passed_over_move_as_those_that_are_followed():
    """Each automaton twice: skipping what lies below a node where nothing changes, and following every token."""
    patterns = [
        "[a-z]*",
        ".*",
        r"[^\"\n]{0,9}[\u2028-\u2fff]*",
        "(ab|[^b])*",
        "[\u0400-\u9fff]*x?",
        r"\w*",
        "[^é]*",
        "a{3,5}.*",
    ]
    tokens = [
        *WORDS,
        "x\u2028y",
        "\u2028",
        "\ufeffa",
        "日本語",
        "ß",
        "ßß",
        '"a',
        "abcabcabc",
        "bb",
        "\u0410\u0411",
        "😀😀",
    ]
    vocabulary = Vocabulary(
        (None, *BYTES, *(token.encode() for token in dict.fromkeys(tokens)), *PARTS, b"a\xe6\x97", b"\xc0\x80")
    )
    for pattern in patterns:
        dfa = compile_language(regex_language(pattern))
        encoded = to_bytes(dfa)
        skipping = compile_tokens(encoded, vocabulary, [END])
        following = compile_tokens(ByteDfa(encoded.next, encoded.accepting), vocabulary, [END])
        pairs = itertools.product(range(skipping.num_states), range(len(vocabulary)))
        assert all(skipping.advance(*pair) == following.advance(*pair) for pair in pairs), pattern
