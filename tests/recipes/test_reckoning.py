"""Sums: what they come to, which are held out, pages of them, and what share of them a model gets right."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest

from diffusiongemma.tasks import Example
from diffusiongemma.weights.locate import ASSETS, load_tokenizer
from recipes.nano import everyday, reckoning
from recipes.nano.__main__ import main
from recipes.nano.pages import LENGTH, Pages
from recipes.nano.sources import sums
from recipes.nano.sources.phrasing import is_probe
from recipes.nano.sources.sums import Sum

SAID = re.compile(r"(\d+) (.) (\d+) = .*\.")


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(ASSETS / "nano")


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (Sum(7, "plus", 5), "7 + 5 = 12"),
        (Sum(17, "plus", 25), "17 + 25 = 30 + 12 = 42"),
        (Sum(20, "plus", 25), "20 + 25 = 45"),
        (Sum(53, "minus", 27), "53 - 27 = 33 - 7 = 26"),
        (Sum(7, "minus", 12), "7 - 12 = -5"),
        (Sum(12, "times", 12), "12 * 12 = 144"),
        (Sum(48, "times", 7), "48 * 7 = 280 + 56 = 336"),
        (Sum(81, "divided by", 9), "81 / 9 = 9"),
    ],
)
def test_a_sum_is_said_with_a_step_where_it_takes_one(one: Sum, said: str):
    assert one.said == said and said.endswith(str(one.result))


def test_every_step_is_right():
    rng = np.random.default_rng(0)
    for _ in range(1000):
        one = sums.draw_sum(rng)
        values = {sum(map(_product, re.findall(r"-?[^-]+", part))) for part in one.said.replace(" ", "").split("=")}
        assert values == {one.result}, one.said


def _product(term: str) -> float:
    """Of what has no minus but at its beginning: numbers with + or * or / between them."""
    if "*" in term or "/" in term:
        a, sign, b = re.split(r"([*/])", term)
        return int(a) * int(b) if sign == "*" else int(a) / int(b)
    return sum(map(int, term.split("+")))


def test_tables_are_known_by_heart_and_one_of_ten_others_is_held_out():
    rng = np.random.default_rng(1)
    drawn = [sums.draw_sum(rng) for _ in range(3000)]
    assert all(one.belongs("train") and not one.belongs("test") for one in drawn if one.by_heart)
    others = {one.key: one for one in drawn if not one.by_heart}
    held = [one for one in others.values() if one.belongs("test")]
    assert 0.06 < len(held) / len(others) < 0.14 and not any(one.belongs("train") for one in held)
    assert {one.operation for one in held} >= {"plus", "minus", "times"}
    assert sums.held_out(rng).belongs("test") and sums.of_tables(rng).by_heart


def test_of_a_page_is_learnt_what_sums_come_to_and_all_of_what_was_asked(tokenizer):
    pages = Pages(tokenizer, 3, seed=0)
    batch, again, other = pages.batch(4), pages.batch(4), pages.batch(5)
    assert batch.ids.tolist() == again.ids.tolist() != other.ids.tolist() and batch.ids.shape == (3, LENGTH)
    for ids, learnt in zip(batch.ids, batch.supervised, strict=True):
        text = tokenizer.decode(ids)
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == ids.tolist()
        lines = text.split("model\n")[1].split("\n")[:-1]
        asked = [line for line in lines if not SAID.fullmatch(line)]
        assert 0 < len(asked) < len(lines) / 2 and not any(is_probe(line) for line in asked)
        said = [(line, before in asked) for before, line in pairwise([""] + lines) if line not in asked]
        learnt_of = [line if question else line.partition(" =")[2] for line, question in said]
        assert tokenizer.decode(ids[learnt]).startswith("".join(learnt_of))
        for line, _ in said:
            a, sign, b = SAID.fullmatch(line).groups()
            one = Sum(int(a), next(name for name, s in sums._SIGN.items() if s == sign), int(b))
            assert line == f"{one.said}." and one.belongs("train")


def test_sums_are_no_longer_declined_that_are_taught():
    (before, texts), (now, same) = everyday.SHARES["whole"], everyday.SHARES["reckoning"]
    assert now.keys() ^ before.keys() == {"sums", "sums declined"} and "sums" in now and texts == same
    assert all(now[name] == share for name, share in before.items() if name in now)


def test_an_answer_is_right_that_ends_with_the_result():
    asked = Example("17 + 25", "17 + 25 = 30 + 12 = 42.", {"result": 42})
    for said in ("17 + 25 = 42.", "42", "17 + 25 = 31 + 11 = 42.", "42, so the answer is 42 apples."):
        assert reckoning.is_right(asked, said), said
    for said in ("", "I cannot calculate.", "42 + 1 = 43", "-42", "17 + 25 = 42 + 12."):
        assert not reckoning.is_right(asked, said), said
    assert reckoning.is_right(Example("7 - 12", "", {"result": -5}), "7 - 12 = -5.")


def test_the_command_has_a_line_for_each_operation(tiny_directory, capsys):
    main(["sums", str(tiny_directory), "--limit", "6", "--show", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"held out +\d+% of 6", lines[0]) and any(line.startswith("tables") for line in lines)
    with pytest.raises(SystemExit, match="give a number of at least 2"):
        main(["sums", str(tiny_directory), "--limit", "1"])
