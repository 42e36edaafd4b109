from __future__ import annotations

import json
import struct
import zlib
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusiongemma.chat import MARKERS, TEMPLATE_FILE
from diffusiongemma.evaluation import corpora
from recipes.nano.tokenizer import BASE_TOKENS, MARKUP_TOKENS, VOCABULARY, save_tokenizer, train_tokenizer


@cache
def nano():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(TEMPLATE_FILE.parent)


def pieces(text):
    return [nano().decode([token]) for token in nano().encode(text)]


def test_layout():
    tokenizer = nano()
    special = [*BASE_TOKENS.values(), *MARKUP_TOKENS.values()]
    assert len(tokenizer) == VOCABULARY == 4096
    assert tokenizer.convert_tokens_to_ids(special) == list(range(len(special)))
    assert [tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id] == [
        0,
        1,
        2,
        3,
    ]
    assert set(special) == set(MARKERS) == set(tokenizer.all_special_tokens)
    raw = json.loads((TEMPLATE_FILE.parent / "tokenizer.json").read_text())["model"]
    assert len(raw["merges"]) == 4096 - len(special) - 256
    assert all(
        len(token) == 1 for token in tokenizer.convert_ids_to_tokens(list(range(len(special), len(special) + 256)))
    )


def test_what_the_gemma_4_processor_asks_for():
    tokenizer = nano()
    assert (tokenizer.boi_token, tokenizer.image_token, tokenizer.eoi_token) == ("<|image>", "<|image|>", "<image|>")
    assert tokenizer.image_token_id == tokenizer.convert_tokens_to_ids("<|image|>")
    assert tokenizer.add_special_tokens({"additional_special_tokens": ["<|video|>"]}) == 0
    assert tokenizer.boa_token and tokenizer.audio_token and tokenizer.eoa_token


def test_nothing_is_added_and_no_template_is_lost():
    assert nano().encode("") == [] and nano().bos_token_id not in nano().encode("Hi")
    assert nano().chat_template == TEMPLATE_FILE.read_text()


@settings(max_examples=300, deadline=None)
@given(st.text() | st.text(st.sampled_from("\n\t\r \"{}[]:,0123abÉ漢🎉'’-")))
def test_lossless(text):
    assert nano().decode(nano().encode(text), clean_up_tokenization_spaces=False) == text


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from('\n\n 09a"{,.')))
def test_digits_newlines_and_json_marks_stand_alone(text):
    for piece in pieces(text):
        assert "\n" not in piece or piece == "\n"
        assert not any(char.isdigit() for char in piece) or len(piece) == 1
        assert not any(char in '"{}[],:.' for char in piece) or len(piece.strip()) == 1


def test_text_is_compressed():
    assert pieces('{"name": "the"}') == ["{", '"', "name", '"', ":", ' "', "the", '"', "}"]
    prose = "She was not certain of the answer, but the people of the country were happy with the government."
    assert len(nano().encode(prose)) < len(prose) / 3.5
    assert pieces("user\nmodel\nsystem\nthought\n")[::2] == ["user", "model", "system", "thought"]


def test_training_and_saving(tmp_path, monkeypatch):
    from transformers import AutoImageProcessor, AutoTokenizer

    monkeypatch.setattr("recipes.nano.tokenizer.VOCABULARY", 300)
    save_tokenizer(train_tokenizer(["hello hello hello world\n"] * 3), tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert 23 + 256 < len(loaded) < 300 and len(loaded.encode("hello")) == 1
    assert loaded.decode(loaded.encode("漢 9\n")) == "漢 9\n"
    assert AutoImageProcessor.from_pretrained(tmp_path).max_soft_tokens == 70


# --- corpora: each reader on a small package of its own making -----------------------------------------------------


def test_a_source_that_cannot_be_fetched_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.warns(UserWarning, match="austen left out"):
        found = corpora.fetch_corpora(tmp_path, ("austen", "python"))
    assert list(found) == ["python"] and found["python"].licence == "PSF-2.0"
    assert "def " in next(found["python"].documents())


def test_austen(tmp_path):
    lines = [
        "PRIDE",
        "",
        "Chapter 1",
        "",
        "It is a _truth_",
        "universally acknowledged",
        "",
        "x " * 600,
        "Chapter 2",
        "short",
    ]
    strings = b"".join(struct.pack(">Ii", 0x40009, len(line)) + line.encode() for line in lines)
    record = (
        b"X\n" + struct.pack(">IIII", 3, 0x40201, 0x30500, 5) + b"UTF-8" + struct.pack(">II", 16, len(lines)) + strings
    )
    path = tmp_path / "usr" / "data" / "Rdata.rdb"
    path.parent.mkdir(parents=True)
    path.write_bytes(struct.pack(">I", len(record)) + zlib.compress(record))
    (chapter,) = corpora.read_austen(tmp_path)
    assert chapter.startswith("It is a truth universally acknowledged\n\nx x")


def test_bible(tmp_path):
    book = (
        '<title>T</title><chapter n="1" sID="Gen.1"/><div sID="g" type="x-p"/>In the <w lemma="a">beginning</w>'
        '<note>or: start</note>,<lg sID="l"/><l sID="1"/>a line <l eID="1"/> <l sID="2"/>and another.'
        '<chapter eID="Gen.1"/>'
    )
    packed = zlib.compress(book.encode())
    for testament in ("ot", "nt"):
        (tmp_path / f"{testament}.bzs").write_bytes(struct.pack("<III", 0, len(packed), len(book)))
        (tmp_path / f"{testament}.bzz").write_bytes(packed)
    assert list(corpora.read_bible(tmp_path)) == ["In the beginning,\n\na line\nand another."] * 2


def test_wordnet(tmp_path):
    for kind in ("noun", "verb", "adj", "adv"):
        (tmp_path / f"data.{kind}").write_text("  1 licence\n")
    line = '00402 04 n 02 ice_cream 0 gelato 2 001 @ 0039 n 0000 | frozen; sweet; "cold gelato"; "more"  \n'
    (tmp_path / "data.noun").write_text("  1 licence\n" + line)
    expected = 'ice cream, gelato (noun): frozen; sweet. Example: "cold gelato". Example: "more".'
    assert list(corpora.read_wordnet(tmp_path)) == [expected]


def test_factbook(tmp_path):
    (tmp_path / "europe").mkdir()
    country = {
        "Introduction": {"Background": {"text": "Old   land."}},
        "Government": {"Country name": {"conventional short form": {"text": "Ruritania"}}},
    }
    (tmp_path / "europe" / "ru.json").write_text(json.dumps(country))
    prose, facts = corpora.read_factbook(tmp_path)
    assert prose == "Ruritania\n\nOld land."
    assert json.loads(facts)["facts"] == {"Country name": {"conventional short form": "Ruritania"}}


def test_chatterbot(tmp_path):
    folder = tmp_path / "chatterbot_corpus" / "data" / "english"
    folder.mkdir(parents=True)
    (folder / "a.yml").write_text("conversations:\n- - Hi\n  - Hello,\n    you\n")
    assert list(corpora.read_chatterbot(tmp_path)) == ["Hi\nHello, you"]
