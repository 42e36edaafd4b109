"""`eval infill`: gaps in held-out text, judged with what follows them."""

from __future__ import annotations

import json

import pytest
import torch

import diffusiongemma as dg
from diffusiongemma.cli import main
from diffusiongemma.evaluation import infilling, judge
from diffusiongemma.evaluation.infilling import Filled, Gap, gap_in, infilling_report
from diffusiongemma.evaluation.text import Likelihood

TEXT = "Some words of mine that follow one another, and more. " * 60


def test_a_gap_is_words_of_the_text():
    gap = gap_in(TEXT)
    assert TEXT.startswith(gap.prefix + gap.human + gap.suffix)
    assert len(gap.human.split()) == infilling.WORDS and gap.human.startswith(" ")
    assert len(gap.prefix) <= 200 and len(gap.suffix) == infilling.SUFFIX
    assert gap_in("x" * 900).prefix == "x" * 200


class LikesTheLetterE:
    def likelihood(self, prefix, text):
        return Likelihood(sum(letter != "e" for letter in text), len(text), len(text))


def test_the_share_is_of_gaps_where_the_fill_is_likelier():
    def one(fill, continuation):
        return Filled(Gap("a", " b", " c"), fill, continuation)

    report = infilling_report([one("ee", "xx"), one("xx", "ee"), one("ex", "xe"), one("eee", "eex")], LikesTheLetterE())
    assert report["better"] == (1 + 0 + 0.5 + 1) / 4 and report["better_95"][0] < 0.625 < report["better_95"][1]
    assert report["judge_bits_per_byte"]["fill"] < report["judge_bits_per_byte"]["human"]
    assert infilling_report([one("a", "b")], None)["better"] is None and infilling_report([], None)["n"] == 0


@pytest.fixture
def evaluate(tiny_directory, capfd, tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text(TEXT)

    def call(*arguments):
        with pytest.raises(SystemExit) as left:
            main(["eval", "infill", "--file", str(path), "--model", str(tiny_directory), *map(str, arguments)])
        out, err = capfd.readouterr()
        return left.value.code, out, err

    return call


class Uniform:
    bos_token_id = 1

    def __call__(self, text, add_special_tokens):
        return type("Output", (), {"input_ids": [ord(letter) % 8 for letter in text]})


def test_from_the_command_line(evaluate, monkeypatch, tiny_directory):
    uniform = judge.Judge(lambda ids: type("Output", (), {"logits": torch.zeros(*ids.shape, 8)}), Uniform())
    monkeypatch.setattr(judge, "load_judge", lambda: uniform)
    code, out, _ = evaluate("--steps", 2, "--json")
    report = json.loads(out)
    assert code == 0 and report["n"] == 2 and report["judge"] == judge.NAME and report["steps"] == 2
    sample = report["samples"][0]
    expected = dg.load(tiny_directory).infill(
        sample["prefix"], sample["suffix"], length=min(14, _tokens(tiny_directory, sample["human"])), steps=2, seed=0
    )
    assert sample["fill"] == expected.fills[0] != sample["continuation"]
    assert "better than the continuation" in evaluate("--steps", 2)[1]


def _tokens(directory, text):
    return len(dg.load(directory).prompt(text, raw=True).ids)


def test_without_a_judge_there_is_no_verdict(evaluate, monkeypatch):
    monkeypatch.setattr(judge, "load_judge", lambda: None)
    report = json.loads(evaluate("--steps", 1, "--limit", 1, "--json")[1])
    assert report["better"] is None and "pip install" in report["notes"][0] and len(report["samples"]) == 1


@pytest.mark.parametrize(
    "arguments", [("--mode", "both"), ("--steps", 1, "--steps", 2), ("--batch", 2), ("--save", "x")]
)
def test_options_of_other_tasks_are_refused(evaluate, arguments):
    code, out, err = evaluate(*arguments)
    assert code == 2 and out == "" and len(err.strip().splitlines()) == 1
