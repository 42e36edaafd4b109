"""What makes the command line forgiving: short names, files, stop strings, several answers, defaults of one's own."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image

import diffusiongemma as dg
from diffusiongemma.weights.locate import ASSETS

pytest_plugins = ["cli_fixtures"]


def test_the_prompt_may_be_in_a_file(cli, model, tiny, tmp_path):
    (tmp_path / "prompt.txt").write_text("hello")
    done = cli("run", "-f", tmp_path / "prompt.txt", "-m", model[1], "-n", 8, "--seed", 5, "-q")
    assert done.out == tiny.generate("hello", seed=5, max_new_tokens=8).text + "\n" and done.err == ""
    assert "cannot read" in cli("run", "--file", tmp_path / "none.txt", *model).err
    assert "leave one of them out" in cli("run", "x", "--file", tmp_path / "prompt.txt", *model).err


def test_stop_strings_end_the_answer_and_are_not_shown(cli, model, tiny):
    text = tiny.generate("hello", seed=5).text
    stop = text[6:9]
    done = cli("run", "hello", *model, "--seed", 5, "--stop", stop, "--stop", "\x07", "--json")
    assert done.json["text"] == text[: text.find(stop)] and done.json["finish_reason"] == "stop"
    assert cli("run", "hello", *model, "--seed", 5, "--stop", stop).out.rstrip("\n") == text[: text.find(stop)].rstrip(
        "\n"
    )
    cut = cli("run", "hello", *model, "--choice", "a b", "--choice", "c", "--stop", "b")
    assert cut.code == 2 and "--stop: 'b' stands in 'a b' of --choice" in cut.err and cut.err.count("\n") == 1
    assert cli("run", "hello", *model, "--choice", "a b", "--stop", "c").code == 0
    assert cli("run", "hello", *model, "--stop", "").code == 2


def test_several_answers_have_seeds_one_after_the_other(cli, model, tiny):
    lines = cli("run", "hello", *model, "--n", 3, "--seed", 7, "--json").out.splitlines()
    assert [json.loads(line)["seed"] for line in lines] == [7, 8, 9]
    assert [json.loads(line)["text"] for line in lines] == [tiny.generate("hello", seed=s).text for s in (7, 8, 9)]
    assert "--n is 0" in cli("run", "x", *model, "--n", 0).err


def test_a_schema_may_be_given_itself(cli, model, tmp_path):
    schema = '{"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}'
    (tmp_path / "n.json").write_text(schema)
    told = [cli("run", "hi", *model, "--json-schema", given, "-q").out for given in (schema, tmp_path / "n.json")]
    assert told[0] == told[1] and json.loads(told[0])["n"] in (1, 2)
    missing = cli("run", "hi", *model, "--json-schema", tmp_path / "none.json").err
    assert "Errno" not in missing and "No such file" in missing
    assert "it is not JSON" in cli("run", "hi", *model, "--json-schema", "{n}").err


def test_a_model_that_was_not_taught_to_think_says_so(cli):
    few = ("--steps", "1", "--max-new-tokens", "4")
    assert "not taught to think" in cli("run", "hi", "--think", "--model", "nano", *few).err
    assert cli("run", "hi", "--think", "--model", "nano", *few, "-q").err == ""
    assert "taught" not in cli("run", "hi", "--model", "nano", *few).err


@pytest.mark.parametrize("seed", ["-1", "1.5", "x", str(2**64)])
def test_a_wrong_seed_is_told_of_random(cli, model, seed):
    assert "or random" in cli("run", "hi", *model, "--seed", seed).err


def test_a_random_seed_is_told(cli, model, tiny):
    seeds = [cli("run", "hello", *model, "--seed", "random", "--steps", 1, "--json").json["seed"] for _ in range(2)]
    assert seeds[0] != seeds[1]
    assert "--seed is '1.5'" in cli("run", "x", *model, "--seed", "1.5").err
    assert f"seed {seeds[0]}" in cli("run", "hello", *model, "--seed", seeds[0], "--steps", 1, "-v").err


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--steps", 4, "--mode", "ar"], ["--steps", "token by token"]),
        (["--sampler", "ancestral", "--mode", "ar"], ["--sampler"]),
        (["--delay", 1], ["--watch"]),
        (["--trace", "t.npz", "--n", 2], ["--trace"]),
    ],
)
def test_options_without_effect_are_refused(cli, arguments, words):
    done = cli("run", "hello", *arguments)
    assert done.code == 2 and all(word in done.err for word in words), done.err


@pytest.fixture
def taught(tmp_path):
    """nano, told that it was taught something else."""

    def called(*skills: str):
        path = tmp_path / "taught"
        shutil.copytree(ASSETS / "nano", path)
        (path / "skills.json").write_text(json.dumps(skills))
        return path

    return called


def test_a_model_that_was_not_taught_to_converse_answers_each_message_by_itself(cli, taught, tmp_path):
    kept = tmp_path / "kept.json"
    steps = "--steps", 2, "--seed", 0
    done = cli("chat", "--model", taught("sudoku"), *steps, stdin=f"hello\nhello\n/save {kept}\n".encode())
    said = json.loads(kept.read_text())
    assert done.code == 0 and [m["role"] for m in said] == ["user", "assistant"] * 2
    assert said[:2] == said[2:] and done.err.count("0 of ") == 2


def test_a_picture_is_refused_by_a_model_that_was_not_taught_to_see(cli, taught):
    done = cli("run", "hello", "--image", "a.png", "--model", taught("sudoku"))
    assert done.code == 2 and "--image" in done.err and "never taught to see" in done.err


def test_a_picture_needs_no_prompt_and_a_model_of_one_skill_says_what_it_can_see(cli, taught, tmp_path):
    path, image = taught("sudoku", "sudoku-pictures"), tmp_path / "a.png"
    Image.new("RGB", (96, 96), "white").save(image)
    done = cli("run", "--image", image, "--model", path, "--seed", 0, "--steps", 1)
    request = {"type": "text", "text": "Solve this sudoku:"}
    message = {"role": "user", "content": [{"type": "image", "image": str(image)}, request]}
    assert done.out == dg.load(path).generate([message], seed=0, steps=1).text + "\n"
    assert "square pictures of one sudoku" in done.err
    assert "vision yes" in " ".join(cli("show", path).out.split()) or cli("show", path, "--json").json["vision"]


@pytest.fixture
def config(tmp_path, monkeypatch):
    path = tmp_path / "config.toml"
    monkeypatch.setenv("DIFFUSIONGEMMA_CONFIG", str(path))
    return path


def test_the_model_may_come_from_the_environment_or_a_file(cli, model, tiny, config, monkeypatch):
    text = tiny.generate("hello", seed=9, steps=2).text + "\n"
    monkeypatch.setenv("DIFFUSIONGEMMA_MODEL", model[1])
    assert cli("run", "hello", "--seed", 9, "--steps", 2).out == text
    monkeypatch.delenv("DIFFUSIONGEMMA_MODEL")
    config.write_text(f'model = "{model[1]}"\n[run]\nseed = "9"\nsteps = 2\n')
    assert cli("run", "hello").out == text
    assert cli("run", "hello", "--steps", 3).out == tiny.generate("hello", seed=9, steps=3).text + "\n"


def test_mistakes_in_the_file_are_told(cli, config):
    config.write_text("[run]\nstep = 2\n")
    assert "unknown option 'step'" in cli("run", "x").err
    config.write_text("nonsense")
    done = cli("run", "x")
    assert done.code == 2 and "not TOML" in done.err
    assert cli("run", "--help").code == 0


def test_models_are_listed_and_described_without_being_loaded(cli, tiny_directory):
    listed = cli("list", "--json").json
    assert {"nano", "nano-base"} <= {found["name"] for found in listed}
    told = cli("show", "nano", "--json").json
    nano = dg.load("nano")
    assert told["parameters"] >= 2_000_000 and told["canvas"] == nano.config.canvas_length
    assert told["taught"] == list(nano.skills)
    assert cli("show", tiny_directory).code == 0
    assert "no model" in cli("show", "nobody/nothing").err
    assert "no fetched model" in cli("rm", "nobody/nothing").err
    assert "not a hub id" in cli("pull", "nano").err


def test_a_conversation_is_kept_and_taken_up(cli, model, tmp_path):
    kept = tmp_path / "talk.json"
    cli("chat", *model, stdin=f"hello\n/save {kept}\n/exit\nnot read\n".encode())
    messages = json.loads(kept.read_text())
    assert [message["role"] for message in messages] == ["user", "assistant"]
    done = cli("chat", *model, stdin=f"/load {kept}\nand now?\n/save {kept}\n".encode())
    assert "2 messages from" in done.err and len(json.loads(kept.read_text())) == 4
    assert "cannot read a conversation" in cli("chat", *model, stdin=b"/load nowhere.json\n").err
