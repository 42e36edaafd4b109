"""Fine-tuning on people's own conversations: the file, the examples made of it, the command, what comes out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import diffusiongemma as dg
from diffusiongemma import evaluation
from diffusiongemma.chat import encode_prompt
from diffusiongemma.cli import main
from diffusiongemma.config import ModelConfig
from diffusiongemma.errors import InputError
from diffusiongemma.tasks import sudoku
from diffusiongemma.train import parallel, sft
from diffusiongemma.train.chats import MOST_SHOWN, Chat, check, encode_chat, parse
from diffusiongemma.train.checkpointing import RunDirectory
from diffusiongemma.train.config import DataConfig
from diffusiongemma.train.data import by_length, collate, tokenise
from diffusiongemma.train.finetune import CHATS_SMALL
from diffusiongemma.train.mixtures import Mixture, Part, divided, mixed_source, pair_source, task_source
from diffusiongemma.train.plot import curves, save_plot, sparkline
from diffusiongemma.train.sudoku import solved_share, sudoku_source
from diffusiongemma.train.trainer import Training
from diffusiongemma.weights.locate import ASSETS, load_tokenizer

WIDTH = 8
CONFIG = ModelConfig(vocab_size=4096, canvas_length=WIDTH, max_position_embeddings=4096)
USER, ASSISTANT, SYSTEM = "user", "assistant", "system"


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(ASSETS / "nano")


def chat(*turns: tuple[str, str]) -> Chat:
    return Chat([{"role": role, "content": content} for role, content in turns])


def write(path: Path, *lines: object) -> Path:
    path.write_bytes(b"".join(x if isinstance(x, bytes) else json.dumps(x).encode() + b"\n" for x in lines))
    return path


def pair(prompt: str = "hi", response: str = "yes") -> dict[str, str]:
    return {"prompt": prompt, "response": response}


def messages(*turns: tuple[str, object]) -> dict[str, object]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


# --- the file -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{oops\n", "is not JSON: Expecting property name enclosed in double quotes at character 2"),
        (b'{"prompt": "\xff"}\n', "is not UTF-8 (byte 13 of the line)"),
        (b"[1, 2]\n", "is a JSON list, not an object"),
        (b"null\n", "is a JSON NoneType"),
        (b"[" * 100_000 + b"\n", "nested too deeply"),
        ({"text": "hi"}, "has neither messages nor prompt and response"),
        ({"prompt": "hi"}, "has neither messages nor prompt and response"),
        (pair(response=7), "has a response that is no text"),
        (pair(prompt="  "), "message 1 (user) is empty"),
        (pair(response=" \n"), "has no answer to learn"),
        ({"messages": "hi"}, "has messages that are no list"),
        ({"messages": []}, "the conversation is empty"),
        (messages((USER, "hi")), "has no answer to learn"),
        (messages((ASSISTANT, "hi")), "does not begin with a message of the user"),
        (messages((SYSTEM, "be kind"), (ASSISTANT, "hi")), "does not begin with a message of the user"),
        (messages((USER, "hi"), ("boss", "no")), "message 2 has the unknown role 'boss'"),
        (messages((USER, [{"type": "image", "image": "x.png"}]), (ASSISTANT, "a cat")), "has an image or a video"),
        ({**messages((USER, "hi"), (ASSISTANT, "yes")), "tools": "search"}, "has tools that are no list"),
    ],
)
def test_bad_lines_are_told_with_their_number_and_reason(tmp_path, line, reason):
    file, bad = check(write(tmp_path / "a.jsonl", pair(), line, b"\n", pair("what?", "that")))
    assert len(file) == 2 and bad.count == 1
    assert bad.shown[0][0] == 2 and reason in bad.shown[0][1] and "\n" not in bad.shown[0][1]
    assert [file[i].messages[1]["content"] for i in range(2)] == ["yes", "that"]


def test_the_first_twenty_bad_lines_are_told_one_by_one(tmp_path):
    file, bad = check(write(tmp_path / "a.jsonl", *[pair() if i % 3 == 0 else {} for i in range(99)]))
    lines = str(bad).split("\n")
    assert len(file) == 33 and bad.count == 66 and len(bad.shown) == MOST_SHOWN == 20
    assert lines[0].startswith("line 2: ") and lines[1].startswith("line 3: ") and lines[-1] == "and 46 more"


def test_files_as_editors_write_them(tmp_path):
    """A byte order mark, Windows line ends, no line end at the end."""
    lines = [json.dumps(pair("é", str(i)), ensure_ascii=False).encode() for i in range(3)]
    path = write(tmp_path / "a.jsonl", b"\xef\xbb\xbf" + b"\r\n".join(lines))
    file, bad = check(path)
    assert not bad.count and [file[i].messages[1]["content"] for i in range(3)] == ["0", "1", "2"]


@pytest.mark.parametrize("content", [None, b"", b"\n \n"])
def test_files_without_anything(tmp_path, content):
    path = tmp_path / "a.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read|is empty"):
        check(path)
    with pytest.raises(InputError, match="cannot read"):
        check(tmp_path)


def test_large_files_stay_on_disk(tmp_path):
    path = write(tmp_path / "a.jsonl", *[pair("x" * 2000, str(i)) for i in range(2000)])
    file, _ = check(path)
    assert file.spans.nbytes == 16 * 2000 < path.stat().st_size / 100
    assert file[1234].messages[1]["content"] == "1234"
    assert check(path)[0].digest == file.digest


def test_a_file_that_changes_is_told(tmp_path):
    path = write(tmp_path / "a.jsonl", pair(), pair())
    file, _ = check(path)
    write(path, b"x" * 200)
    with pytest.raises(InputError, match="changed while it was in use"):
        file[1]
    path.unlink()
    with pytest.raises(InputError, match="changed while it was in use"):
        file[0]


# --- examples -------------------------------------------------------------------------------------------------------


def encode(conversation: Chat, tokenizer, limit: int = 1000, seed: int = 0):
    return encode_chat(conversation, tokenizer, CONFIG, np.random.default_rng(seed), limit)


def test_an_example_is_what_the_model_will_be_asked_and_shall_write(tokenizer):
    conversation = chat((SYSTEM, "Be brief."), (USER, "What is two and two?"), (ASSISTANT, " Four. \n"))
    example = encode(conversation, tokenizer)
    assert example.prompt == encode_prompt(conversation.messages[:2], tokenizer).ids
    assert tokenizer.decode(example.answer[: example.length]) == "Four.<turn|>"
    assert set(example.answer[example.length :]) == {CONFIG.eos_token_id} and len(example.answer) % WIDTH == 0


def test_every_answer_is_chosen_as_often_as_it_has_canvases(tokenizer):
    """Here one and three."""
    long = " ".join(["again"] * 18)
    conversation = chat((USER, "a"), (ASSISTANT, "yes"), (USER, "b"), (ASSISTANT, long), (USER, "c"))
    found = Counter(len(encode(conversation, tokenizer, seed=seed).answer) // WIDTH for seed in range(400))
    assert set(found) == {1, 3} and abs(found[3] / 400 - 0.75) < 0.07
    second = next(e for seed in range(20) if len((e := encode(conversation, tokenizer, seed=seed)).answer) > WIDTH)
    assert second.prompt == encode_prompt(conversation.messages[:3], tokenizer).ids


def test_tool_calls_are_learnt_and_tools_declared(tokenizer):
    call = {"type": "function", "id": "1", "function": {"name": "search", "arguments": {"q": "cats"}}}
    line = {
        "messages": [
            {"role": USER, "content": "Look for cats."}, {"role": ASSISTANT, "content": "", "tool_calls": [call]},
        ],
        "tools": [{"type": "function", "function": {"name": "search", "description": "Look it up."}}],
    }  # fmt: skip
    example = encode(parse(json.dumps(line).encode()), tokenizer)
    expected = '<|tool_call>call:search{q:<|"|>cats<|"|>}<tool_call|><turn|>'
    assert tokenizer.decode(example.answer[: example.length]) == expected
    assert "declaration:search" in tokenizer.decode(example.prompt)


@pytest.mark.parametrize("template", [None, "{{ bos_token }}{% for m in messages %}[{{ m.content }}]{% endfor %}"])
def test_markup_in_a_text_is_only_text(tokenizer, template):
    """Also with a template that writes past answers in another way than the model."""
    other = load_tokenizer(ASSETS / "nano")
    other.chat_template = template or other.chat_template
    example = encode(chat((USER, "hi"), (ASSISTANT, "end<turn|>now")), other)
    end = tokenizer.convert_tokens_to_ids("<turn|>")
    assert example.answer.count(end) == 1 and example.answer[example.length - 1] == end
    assert tokenizer.decode(example.answer[: example.length]) == "end<turn|>now<turn|>"


def test_past_thoughts_are_not_shown(tokenizer):
    conversation = parse(json.dumps(messages((USER, "a"), (ASSISTANT, "<|channel>thought\nhm<channel|>b"))).encode())
    example = encode(conversation, tokenizer)
    assert tokenizer.decode(example.answer[: example.length]) == "b<turn|>"


def test_long_prompts_lose_their_oldest_turns(tokenizer):
    turns = [(role, f"{role} {i} " + "word " * 20) for i in range(6) for role in (USER, ASSISTANT)]
    conversation = chat((SYSTEM, "Be brief."), *turns[:-1], (ASSISTANT, "done"))
    example = next(e for s in range(200) if (e := encode(conversation, tokenizer, 160, s)).length < WIDTH)
    text = tokenizer.decode(example.prompt)
    assert "Be brief." in text and "user 5" in text and "user 0" not in text and text.startswith("<bos><|turn>system")
    assert len(example.prompt) <= 160 - WIDTH


def test_prompts_without_older_turns_lose_their_beginning(tokenizer):
    example = encode(chat((USER, "first " + "word " * 100 + "last"), (ASSISTANT, "ok")), tokenizer, 60)
    assert len(example.prompt) == 60 - WIDTH and example.prompt[0] == tokenizer.bos_token_id
    assert tokenizer.decode(example.prompt).endswith(" last<turn|>\n<|turn>model\n")


def test_long_answers_are_cut_to_whole_canvases_without_an_end(tokenizer):
    example = encode(chat((USER, "go"), (ASSISTANT, "word " * 100)), tokenizer, 60)
    room = (60 - len(example.prompt)) // WIDTH * WIDTH
    assert len(example.answer) == example.length == room
    assert not {CONFIG.eos_token_id, tokenizer.convert_tokens_to_ids("<turn|>")} & set(example.answer)


text = st.text(min_size=1, max_size=80).filter(lambda s: s.strip())


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(text, text), min_size=1, max_size=4), st.integers(40, 200), st.integers(0, 9))
def test_any_conversation_makes_an_example_within_the_limit(pairs, limit, seed):
    tokenizer = load_tokenizer_once()
    conversation = chat(*[turn for user, assistant in pairs for turn in ((USER, user), (ASSISTANT, assistant))])
    example = encode_chat(conversation, tokenizer, CONFIG, np.random.default_rng(seed), limit)
    assert len(example.prompt) > 0 and 0 < example.length <= len(example.answer)
    assert len(example.prompt) + len(example.answer) <= limit and len(example.answer) % WIDTH == 0


def load_tokenizer_once(_cache: list = []):  # noqa: B006
    return _cache[0] if _cache else _cache.append(load_tokenizer(ASSETS / "nano")) or _cache[0]


def test_canvases_and_supervision_of_a_batch(tokenizer):
    """Of each example one canvas; the encoder learns the answer up to its end, whatever the canvas."""
    examples = tokenise([("hi", "word " * 18), ("what is that?", "no")], tokenizer, CONFIG)
    starts = set()
    for seed in range(20):
        batch = collate(examples, CONFIG, np.random.default_rng(seed))
        for i, example in enumerate(examples):
            whole = example.prompt + example.answer
            start = int(batch.start[i])
            assert (start - len(example.prompt)) % WIDTH == 0
            assert batch.canvas[i].tolist() == whole[start : start + WIDTH]
            end = len(example.prompt) + example.length
            assert batch.supervised[i].nonzero().flatten().tolist() == list(range(len(example.prompt), end))
            assert batch.ids[i, : max(start, end)].tolist() == whole[: max(start, end)]
        starts.add(int(batch.start[0]))
    assert len(starts) == 3
    silent = collate(examples, CONFIG, np.random.default_rng(0), encoder_loss=False)
    assert not silent.supervised.any() and silent.ids.shape[1] == int(silent.start.max())


# --- batches --------------------------------------------------------------------------------------------------------


def tokens(batches) -> list[list[int]]:
    return [row for batch in batches for row in batch.canvas.tolist()]


def test_batches_depend_on_the_step_alone_and_go_through_every_line(tmp_path, tokenizer):
    file, _ = check(write(tmp_path / "a.jsonl", *[pair(f"number {i}", str(1000 + i)) for i in range(50)]))
    lines, apart = sft.split(len(file), 0)
    assert len(apart) == 2 and sorted([*lines, *apart]) == list(range(50))
    assert len(sft.split(10_000, 0)[1]) == 64 and len(sft.split(39, 0)[1]) == 0
    about = dict(tokenizer=tokenizer, config=CONFIG, limit=200, seed=3)
    one, other = (sft.chat_batches(file, lines, data=DataConfig(), **about) for _ in range(2))
    later = [tokens(one(step)) for step in (5, 0, 5)]
    assert later == [tokens(other(step)) for step in (5, 0, 5)] and later[0] == later[2] != later[1]
    epochs = [[tuple(row) for step in range(3 * e, 3 * e + 3) for row in tokens(one(step))] for e in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) and len(set(epochs[0])) == 48 and epochs[0] != epochs[1]
    kept = sft.held_out_batches(file, apart, **about)
    assert not set(map(tuple, tokens(kept))) & set(epochs[0])


def test_lengths_of_runs():
    steps = [sft.sized(lines, {}, CHATS_SMALL)[0].train.steps for lines in (5, 2000, 10**6)]
    assert steps == [200, 375, 2000]
    assert sft.sized(5, {"train.steps": 40}, CHATS_SMALL)[0].train.evaluate_every == 10
    assert sft.token_limit(CONFIG, None) == 2048 and sft.token_limit(CONFIG, 100) == 100
    with pytest.raises(InputError, match="max_length"):
        sft.token_limit(CONFIG, 10)


def test_likes_are_padded_together(tokenizer):
    examples = tokenise([("hi", "word " * n) for n in (9, 1, 5, 2, 8, 1, 7)], tokenizer, CONFIG)
    groups = by_length(examples, 3)
    assert [len(g) for g in groups] == [2, 3, 2]
    assert [e for group in groups for e in group] == sorted(examples, key=lambda e: e.length)


# --- the command ----------------------------------------------------------------------------------------------------


def command(capsys, *arguments: object) -> tuple[int, str]:
    """Exit code and stderr of `diffusiongemma train …`."""
    with pytest.raises(SystemExit) as caught:
        main(["train", *map(str, arguments)])
    return caught.value.code, capsys.readouterr().err


@pytest.fixture
def data(tmp_path) -> Path:
    return write(tmp_path / "my.jsonl", *[pair("Say it.", "banana"), pair("Say the other.", "orange")] * 25)


@pytest.mark.parametrize("lora", [0, 4])
def test_what_is_trained_works_at_once(capsys, tmp_path, data, tiny_directory, lora):
    out = tmp_path / "out"
    code, err = command(
        capsys, "sft", "--data", data, "--model", tiny_directory, "--out", out, "--steps", 30, "--lora", lora,
        "--set", "train.learning_rate=0.01", "--set", "data.batch=8", "--set", "train.evaluate_every=15",
    )  # fmt: skip
    assert code == 0, err
    assert (out / "adapter_config.json").exists() == bool(lora) and (out / "config.json").exists() == (not lora)
    assert "held_out_loss" in err and f"run --model {out}" in err and ("█" in err or "#" in err)
    records = list(RunDirectory(out).records())
    assert [r["step"] for r in records if "loss" in r] == list(range(1, 31))
    scores = [r["held_out_loss"] for r in records if "score" in r]
    assert len(scores) == 2 and scores[1] < scores[0] < 0.7 * records[0]["loss"]
    before, after = dg.load(tiny_directory), dg.load(out)
    canvas = torch.full((1, 16), 300)
    ids = torch.tensor([after.prompt("Say it.").ids])
    wanted = after.tokenizer("banana").input_ids[0]
    chances = [m.denoise(canvas, m.encode(ids)).log_softmax(-1)[0, 0, wanted] for m in (before, after)]
    assert chances[1] > chances[0] + (0.2 if lora else 2)  # adapters on random weights learn slowly
    assert isinstance(after.generate("Say it.", max_new_tokens=16).text, str)


def test_a_run_goes_on_where_it_was_interrupted(capsys, tmp_path, data, tiny_directory, monkeypatch):
    arguments = ["sft", "--data", data, "--model", tiny_directory, "--set", "data.batch=4", "--lora", 2, "--steps", 12]
    assert command(capsys, *arguments, "--out", tmp_path / "whole")[0] == 0
    original = Training.update

    def interrupted(self):
        original(self)
        if self.step == 7:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "update", interrupted)
        code, err = command(capsys, *arguments, "--out", tmp_path / "cut")
        assert code == 130 and "with --resume goes on" in err
    assert RunDirectory(tmp_path / "cut").load()[1]["step"] == 7
    code, err = command(capsys, *arguments, "--out", tmp_path / "cut")
    assert code == 2 and "--resume" in err
    code, err = command(capsys, *arguments, "--out", tmp_path / "cut", "--resume", "--set", "train.seed=3")
    assert code == 2 and "another" in err
    assert command(capsys, *arguments, "--out", tmp_path / "cut", "--resume")[0] == 0
    files = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert files[0] == files[1]
    with data.open("ab") as file:
        file.write(json.dumps(pair()).encode() + b"\n")
    code, err = command(capsys, *arguments[:-1], 14, "--out", tmp_path / "cut", "--resume")
    assert code == 2 and "another data" in err


def test_bad_lines_stop_the_run_unless_they_are_skipped(capsys, tmp_path, data, tiny_directory):
    with data.open("ab") as file:
        file.write(b"{oops\n")
    arguments = ["sft", "--data", data, "--model", tiny_directory, "--out", tmp_path / "out", "--steps", 2]
    code, err = command(capsys, *arguments)
    assert code == 2 and "line 51: is not JSON" in err and "--skip-bad-lines" in err
    assert "1 of 51 lines" in err.strip().split("\n")[-1] and not (tmp_path / "out").exists()
    assert command(capsys, *arguments, "--skip-bad-lines")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "absent.jsonl"], "cannot read absent.jsonl"),
        (["--model", "absent"], "no model 'absent'"),
        (["--budget", "soon"], "write it like 50m"),
        (["--steps", 0], "steps is 0"),
        (["--set", "train.learning_rate=-1"], "train.learning_rate is -1"),
        (["--lora", -2], "lora is -2"),
        (["--set", "objective.draws=0"], "objective.draws is 0"),
        (["--set", "data.max_length=20"], "data.max_length is 20"),
        (["--set", "train.precision=float8"], "train.precision is 'float8'"),
        (["--set", "train.accumulate=0"], "train.accumulate is 0"),
        (["--set", "data.batch=0"], "data.batch is 0"),
    ],
)
def test_mistakes_are_told_in_one_line(capsys, tmp_path, data, tiny_directory, arguments, words):
    given = ["sft", "--data", data, "--model", tiny_directory, "--out", tmp_path / "out", "--steps", 2]
    code, err = command(capsys, *given, *arguments)
    assert code == 2 and words in err and len(err.strip().split("\n")) == 1
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_not_overwritten(capsys, tmp_path, data, tiny_directory):
    taken = tmp_path / "model"
    shutil.copytree(tiny_directory, taken)
    given = ["sft", "--data", data, "--model", tiny_directory, "--steps", 2, "--out"]
    for out, words in ((taken, "holds a model already"), (data, "is a file")):
        code, err = command(capsys, *given, out)
        assert code == 2 and words in err


@pytest.fixture
def few_seeds(monkeypatch):
    bank = sudoku.SeedBank.build(train=6, test=2)
    monkeypatch.setattr(sudoku.SeedBank, "load_or_build", lambda *_: bank)
    return bank.train


@pytest.mark.parametrize(
    ("encoder", "learns"), [((), [False, False]), (("--set", "data.encoder_every=2"), [True, False])]
)
def test_train_sudoku(capsys, tmp_path, tiny_directory, few_seeds, encoder, learns):
    arguments = ["sudoku", "--model", tiny_directory, "--steps", 3, "--device", "cpu", "--set", "data.batch=4"]
    arguments += ["--set", "train.evaluate_every=100", "--set", "train.seed=1", *encoder]
    small = evaluation.sudoku_suite(2, 1, "30-45")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "sudoku_suite", lambda *_, **__: small)
        code, err = command(capsys, *arguments, "--out", tmp_path / "out")
    assert code == 0, err
    records = list(RunDirectory(tmp_path / "out").records())
    assert records[-1]["solved"] == 0.0 and {"cell_accuracy", "steps_per_canvas"} < records[-1].keys()
    assert ["encoder" in record for record in records[:2]] == learns
    assert dg.load(tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--set", "data.encoder_every=-1"], "data.encoder_every is -1"),
        (["--set", "rollouts.reads=-1"], "rollouts.reads is -1"),
        (["--set", "rollouts.after=0", "--set", "objective.draws=2"], "rollouts take the place of"),
        (["--set", "help"], ", rollouts=none"),
        (["--set", "rollouts.after=1"], "rollouts.after is 1.0"),
        (["--set", "train.accumulate=2"], "leave out accumulate and shard, or rollouts"),
    ],
)
def test_train_sudoku_refuses(capsys, tmp_path, tiny_directory, few_seeds, options, words):
    code, err = command(capsys, "sudoku", "--model", tiny_directory, "--out", tmp_path / "out", *options)
    assert code == 2 and words in err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "reads", "after", "draws"),
    [
        ([], 3, 0.75, 2),
        (["--set", "rollouts.reads=2", "--set", "rollouts.after=0"], 2, 0.0, 1),
        (["--set", "rollouts.after=0.5"], 3, 0.5, 2),
    ],
)
def test_train_sudoku_by_rollouts(capsys, tmp_path, tiny_directory, few_seeds, options, reads, after, draws):
    """In the end, or all the time, of the canvases that decoding with the model's own settings makes."""
    arguments = [
        "--steps",
        4,
        "--set",
        "data.batch=4",
        "--set",
        "train.evaluate_every=100",
        "--device",
        "cpu",
        *options,
    ]
    small = evaluation.sudoku_suite(1, 1, "30-45")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "sudoku_suite", lambda *_, **__: small)
        code, err = command(capsys, "sudoku", "--model", tiny_directory, *arguments, "--out", tmp_path / "out")
    assert code == 0, err
    tensors, values = RunDirectory(tmp_path / "out").load()
    chosen, canvases = values["settings"], len(tensors["rollouts"]["0/0/start"])
    assert canvases == 16 * 4 and int(tensors["rollouts"]["0/0/step"].max()) > 0
    assert (chosen["rollouts"]["reads"], chosen["rollouts"]["after"], chosen["draws"]) == (reads, after, draws)
    config = dg.load(tiny_directory).generation
    assert chosen["rollouts"]["decoding"]["steps"] == config.steps


def test_processes_share_the_held_out_puzzles(monkeypatch):
    """Each asks its part, and the figures add up to those of all: here a process answers every question, or none."""
    suite, asked = evaluation.sudoku_suite(5, 1, "30-45"), []

    def ask(model, mine, setting, seed):
        asked.append(mine.questions)
        for i, question in enumerate(mine.questions):
            yield i, evaluation.Answer(question.wanted if len(asked) == 1 else "", 90, 3)

    monkeypatch.setattr(evaluation, "sudoku_suite", lambda *_, **__: suite)
    monkeypatch.setattr(evaluation, "ask", ask)
    monkeypatch.setattr(parallel, "world_size", lambda: 2)
    monkeypatch.setattr(parallel, "all_reduce", lambda values: values)
    solved = []
    for rank in range(2):
        monkeypatch.setattr(parallel, "rank", lambda rank=rank: rank)
        solved.append(solved_share(None)(None).score)
    assert solved == [pytest.approx(3 / 5), 0.0]
    assert len(asked[0]) == 3 and asked[1] == [q for q in suite.questions if q not in asked[0]]


# --- mixtures -------------------------------------------------------------------------------------------------------


def test_mixtures_are_divided_and_depend_on_the_step_alone(tokenizer, few_seeds):
    parts = (
        Part(sudoku_source(tokenizer, CONFIG, few_seeds), 0.5),
        Part(task_source("words", tokenizer, CONFIG), 0.3),
        Part(pair_source([("a", "b")], tokenizer, CONFIG), 0.2),
    )
    mixture = Mixture(parts, encoder_every=2)
    batches = mixture.batches(CONFIG, 9, seed=1)
    assert divided(9, [0.5, 0.3, 0.2]) == [4, 3, 2]
    assert [len(b.start) for b in batches(4)] == [4, 3, 2]
    assert [bool(b.supervised.any()) for step in (4, 5) for b in batches(step)] == [True] * 3 + [False] * 3
    assert tokens(batches(4)) == tokens(mixture.batches(CONFIG, 9, seed=1)(4)) != tokens(batches(6))
    assert tokens(batches(4)) != tokens(mixture.batches(CONFIG, 9, seed=2)(4))


def test_a_part_with_a_limit_passes_over_longer_examples(tokenizer):
    """Both of two sources appear all the same, and the noise comes in runs."""
    few = mixed_source(
        (pair_source([("a", "b")], tokenizer, CONFIG), 0.5), (task_source("words", tokenizer, CONFIG), 2)
    )
    part = Part(few, 1.0, length=30, runs=8.0)
    for step in range(6):
        (batch,) = Mixture((part,), encoder_every=2).batches(CONFIG, 12, seed=1)(step)
        assert len(batch.ids) == 12 and batch.ids.shape[1] <= 30 and batch.runs == 8.0
        assert bool(batch.supervised.any()) == (step % 2 == 0)
    unlimited = few(np.random.default_rng(0), 200, 0)
    lengths = {example.tokens for example in unlimited}
    assert max(lengths) > 30 and sum(e.tokens == min(lengths) for e in unlimited) in range(20, 70)
    with pytest.raises(InputError, match="too few examples of at most 5 tokens"):
        Part(few, 1.0, length=5).draw(np.random.default_rng(0), 2, 0)


def test_puzzles_get_harder(tokenizer, few_seeds):
    source = sudoku_source(tokenizer, CONFIG, few_seeds, harder_every=10)
    givens = [
        min(81 - tokenizer.decode(e.prompt).count(".") for e in source(np.random.default_rng(0), 40, step))
        for step in (0, 10)
    ]
    assert givens[0] >= 45 > 30 > givens[1] >= 24


# --- pictures -------------------------------------------------------------------------------------------------------


def test_lines_of_characters():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([3.0, 1.0], plain=True) == "@_" and sparkline([2, 2]) == "▁▁" and sparkline([]) == ""
    assert len(sparkline(list(range(1000)), width=50)) == 50


RECORDS = [{"step": s, "denoise": 5 / s, "encoder": 2.0} for s in range(1, 300)]
RECORDS += [{"step": 5, "denoise": 9.0}, {"step": 100, "solved": 0.5}]


def test_curves_follow_the_steps_and_the_later_record_of_one():
    found = curves(RECORDS)
    assert found["denoise"][4] == (5, 9.0) and len(found["denoise"]) == 299 and found["solved"] == [(100, 0.5)]


def test_a_plot_shows_every_curve(tmp_path):
    from matplotlib.image import imread

    encoder = [{"step": r["step"], "encoder": 2.0} for r in RECORDS]
    for count, records in enumerate((encoder, [r for r in RECORDS if "solved" not in r], RECORDS)):
        assert save_plot(records, tmp_path / f"{count}.png")
    pictures = [imread(tmp_path / f"{count}.png")[..., :3] for count in range(3)]
    red, blue, orange = ((0.839, 0.153, 0.157), (0.122, 0.467, 0.706), (1.0, 0.498, 0.055))  # tab:red and the first two

    def drawn(picture, color) -> bool:
        return bool((abs(picture - color) < 0.01).all(-1).any())

    assert [[drawn(picture, color) for color in (blue, orange, red)] for picture in pictures] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_without_matplotlib_there_is_no_plot(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert not save_plot(RECORDS, tmp_path / "loss.png") and not (tmp_path / "loss.png").exists()
