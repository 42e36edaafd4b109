"""The command line, in process where that is enough, on a pseudo-terminal where signals and cursors matter."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pexpect
import pytest
from cli_fixtures import Outcome

import diffusiongemma as dg
from diffusiongemma.cli import demonstration, doctor
from diffusiongemma.cli.cells import printable
from diffusiongemma.cli.commands import COMMANDS
from diffusiongemma.cli.sudoku import verdict
from diffusiongemma.engine.engine import Engine
from diffusiongemma.kernels import automata
from diffusiongemma.options import SAMPLER_NAMES
from diffusiongemma.recording import load_trace

KEYS = (
    "text", "finish_reason", "tokens", "canvases", "steps", "converged", "checked", "written_by_encoder",
    "forward_passes", "tokens_per_forward", "seconds", "seed", "mode",
)  # fmt: skip


pytest_plugins = ["cli_fixtures"]


# --- starting up ----------------------------------------------------------------------------------------------------

HELP = """
import sys, time
from diffusiongemma.cli import main
try:
    main({arguments})
except SystemExit as left:
    print(left.code, time.process_time(), {{"torch", "transformers", "numpy"}} & set(sys.modules))
"""


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]):
    """The interpreter's start included it takes 0.2 s here, alone on a core; the bound is for slow and busy ones."""
    done = subprocess.run([sys.executable, "-c", HELP.format(arguments=arguments)], capture_output=True, text=True)
    code, cpu_seconds, heavy = done.stdout.splitlines()[-1].split(maxsplit=2)
    assert (code, heavy) == ("0", "set()"), done.stderr
    assert float(cpu_seconds) < 2


def test_help_names_the_commands_and_options(cli):
    for name in ("run", "chat", "replay", "doctor"):
        assert name in cli("--help").out
        assert cli(name, "--help").code == 0
    assert cli().out == cli("--help").out
    assert cli("--version").out == dg.__version__ + "\n"
    help_text = cli("run", "--help").out
    for option in ("model", "system", "image", "video", "max-new-tokens", "mode", "steps", "seed", "temperature"):
        assert f"--{option}" in help_text
    for option in ("sampler", "think", "watch", "trace", "json", "device", "dtype", "delay"):
        assert f"--{option}" in help_text


def test_the_lines_of_help_are_those_of_the_commands():
    """They are said without loading a command."""
    for command in COMMANDS.values():
        loaded = command.load()
        assert command.help == ((getattr(loaded, "info", None) and loaded.info.help) or loaded.__doc__.splitlines()[0])


def test_sampler_names_are_those_of_the_package():
    from diffusiongemma.diffusion.samplers import SAMPLERS

    assert tuple(SAMPLERS) == SAMPLER_NAMES


# --- run ------------------------------------------------------------------------------------------------------------


def test_run_writes_the_text_and_one_line_about_it(cli, model, tiny):
    result = tiny.generate("hello", seed=5)
    done = cli("run", "hello", *model, "--seed", 5)
    assert (done.code, done.out) == (0, result.text + "\n")
    line = f"16 steps · 32 tokens · {result.tokens_per_forward:.1f} tokens per forward · "
    assert done.err.startswith(line) and done.err.count("\n") == 1


def test_json_is_the_result_and_nothing_else(cli, model, tiny):
    result = tiny.generate("hello", seed=5, max_new_tokens=20, steps=3)
    done = cli("run", "hello", *model, "--seed", 5, "--max-new-tokens", 20, "--steps", 3, "--json")
    assert done.err == "" and done.out.count("\n") == 1
    found = done.json
    assert tuple(found)[: len(KEYS)] == KEYS
    assert (found["text"], found["tokens"], found["canvases"]) == (result.text, 20, 2)
    assert (found["steps"], found["forward_passes"]) == (6, result.forward_passes)
    assert found["tokens_per_forward"] == pytest.approx(20 / 7, abs=1e-3)
    assert (found["seed"], found["mode"], found["finish_reason"]) == (5, "diffusion", "length")
    assert 0 < found["seconds"] < 60
    assert cli("run", "hello", *model, "--seed", 6, "--json").json["text"] != found["text"]


@pytest.mark.parametrize("name", SAMPLER_NAMES)
def test_every_sampler_is_the_one_named(cli, model, tiny, name: str):
    from diffusiongemma.diffusion.samplers import SAMPLERS

    expected = tiny.generate("hello", sampler=SAMPLERS[name](), max_new_tokens=16)
    assert cli("run", "hello", *model, "--sampler", name, "--max-new-tokens", 16).out == expected.text + "\n"


def test_options_reach_the_model(cli, model, tiny):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
    expected = tiny.generate(messages, temperature=0.0, think=True)
    done = cli("run", "hello", *model, "--system", "Be brief.", "--temperature", 0, "--think", "--json").json
    assert (done["text"], done["prompt_tokens"]) == (expected.text, expected.prompt_tokens)
    narrow = cli("run", "hello", *model, "--top-p", 0.3, "--steps", 4, "--max-new-tokens", 16).out
    assert narrow == tiny.generate("hello", top_p=0.3, steps=4, max_new_tokens=16).text + "\n"
    assert narrow != tiny.generate("hello", steps=4, max_new_tokens=16).text + "\n"
    ar = cli("run", "hello", *model, "--mode", "ar", "--max-new-tokens", 6, "--json").json
    assert ar["text"] == tiny.generate("hello", mode="ar", max_new_tokens=6).text
    assert (ar["mode"], ar["forward_passes"], ar["tokens_per_forward"]) == ("ar", 6, 1.0)
    auto = cli("run", "hello", *model, "--mode", "auto", "--max-new-tokens", 6, "--json").json
    assert auto["mode"] in ("ar", "diffusion") and "faster here" in auto["note"]
    half = cli("run", "hello", *model, "--dtype", "bfloat16", "--json").json
    assert half["text"] == dg.load(model[1], dtype="bfloat16").generate("hello").text


def test_thoughts_go_to_stderr(cli, model, monkeypatch):
    from diffusiongemma.events import TextDelta

    run = Engine.run

    def thinking(engine, requests):
        yield TextDelta("", "let me see")
        yield from run(engine, requests)

    monkeypatch.setattr(Engine, "run", thinking)
    assert cli("run", "hello", *model, "--think").err.startswith("let me see")
    assert "let me see" not in cli("run", "hello", *model).err


def test_prompts_come_from_stdin(cli, model, tiny):
    expected = tiny.generate("Grüße\n").text + "\n"
    assert cli("run", "-", *model, stdin="Grüße\n".encode()).out == expected
    assert cli("run", *model, stdin="Grüße\n".encode()).out == expected
    assert cli("run", "Grüße\n", *model, stdin=b"not this").out == expected


def test_images_are_read(cli, model, tiny, tmp_path: Path):
    from PIL import Image

    path = tmp_path / "a.png"
    Image.new("RGB", (64, 48), "red").save(path)
    parts = [{"type": "image", "image": str(path)}] * 2 + [{"type": "text", "text": "what?"}]
    expected = tiny.generate([{"role": "user", "content": parts}])
    done = cli("run", "what?", *model, "--image", path, "--image", path, "--json").json
    assert (done["text"], done["prompt_tokens"]) == (expected.text, expected.prompt_tokens)


def test_watching_without_a_terminal_is_plain_text(cli, model, tiny):
    done = cli("run", "hello", *model, "--watch")
    assert done.out == tiny.generate("hello").text + "\n" and "\x1b" not in done.out + done.err


# --- the demonstration ----------------------------------------------------------------------------------------------


def test_the_demonstration_is_a_proper_sudoku():
    from diffusiongemma.tasks.sudoku import PROMPT, format_solution, parse_puzzle_line, solve

    assert demonstration.PROMPT == PROMPT + demonstration.PUZZLE
    puzzle, _ = parse_puzzle_line(demonstration.PUZZLE.replace("\n", ""))
    solutions = solve(puzzle.tolist(), limit=2)
    assert (puzzle > 0).sum() >= 30 and len(solutions) == 1
    answer = format_solution(np.array(solutions[0]))
    assert verdict(puzzle.tolist(), answer + "\n").startswith("✓")
    assert verdict(puzzle.tolist(), answer[::-1]).startswith("✗ not solved: the given ")
    assert verdict(puzzle.tolist(), "I do not know").startswith("✗ not solved: this is not nine lines")


def test_nothing_to_do_is_the_demonstration(cli, model, tiny, monkeypatch):
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        done = cli("run", *model)
    assert done.out == tiny.generate(demonstration.PROMPT).text + "\n"
    assert done.err.startswith(demonstration.PROMPT) and done.err.rstrip().splitlines()[-1].startswith("✗")


# --- mistakes -------------------------------------------------------------------------------------------------------


def assert_mistake(done: Outcome, *words: str) -> None:
    assert done.code == 2, done.err
    assert done.out == "" and done.err.count("\n") == 1 and done.err.startswith("diffusiongemma: "), done.err
    for word in words:
        assert word in done.err


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["run", ""], ["prompt is empty"]),
        (["run", "  \n"], ["prompt is empty"]),
        (["run", "x", "--system", " "], ["system message is empty"]),
        (["run", "\udcff"], ["not UTF-8"]),
        (["run", "x", "--max-new-tokens", "0"], ["max-new-tokens is 0", "at least 1"]),
        (["run", "x", "--max-new-tokens", "-3"], ["max-new-tokens is -3"]),
        (["run", "x", "--max-new-tokens", "many"], ["--max-new-tokens", "run --help"]),
        (["run", "x", "--steps", "0"], ["steps is 0"]),
        (["run", "x", "--seed", "-1"], ["seed is '-1'"]),
        (["run", "x", "--temperature", "-1"], ["temperature is -1"]),
        (["run", "x", "--temperature", "nan"], ["temperature is nan"]),
        (["run", "x", "--mode", "fast"], ["mode is 'fast'", "auto, diffusion or ar"]),
        (["run", "x", "--sampler", "best"], ["--sampler is 'best'", "entropy-bound"]),
        (["run", "x", "--delay", "-1"], ["--delay is -1"]),
        (["run", "x", "--delay", "1"], ["--delay has a meaning with --watch only"]),
        (["run", "x", "--max-new-tokens", "5000"], ["--max-new-tokens is 5000: the model takes 4,096 tokens"]),
        (["run", "x", "--device", "toaster"], ["no device 'toaster'"]),
        (["run", "x", "--dtype", "int8"], ["--dtype is 'int8'"]),
        (["run", "x", "--image", "/none.png"], ["--image: /none.png cannot be opened"]),
        (["run", "x", "--image", __file__], ["is not an image"]),
        (["run", "x", "--video", __file__], ["video"]),
        (["run", "x", "--trace", "/none/t.npz"], ["cannot write the trace /none/t.npz"]),
        (["run", "x", "y"], ["unexpected extra argument", "run --help"]),
        (["run", "x", "--json-schema", "s"], ["cannot read the schema s"]),
        (["run", "x", "--colour", "red"], ["No such option"]),
        (["rum", "x"], ["No such command 'rum'"]),
        (["chat", "--steps", "-1"], ["steps is -1"]),
        (["replay"], ["Missing argument 'FILE'"]),
        (["replay", "/none.npz"], ["cannot read the trace /none.npz"]),
        (["replay", __file__], ["is not a trace"]),
    ],
)
def test_mistakes_are_told_in_one_line(cli, model, arguments: list[str], words: list[str]):
    assert_mistake(cli(*arguments, *(model if arguments[0] in ("run", "chat") else ())), *words)


def test_broken_stdin_is_a_mistake(cli, model, monkeypatch):
    assert_mistake(cli("run", "-", *model, stdin=b"ab\xff"), "not UTF-8 text (byte 3)")
    assert_mistake(cli("run", "-", *model, stdin=b""), "prompt on stdin is empty")
    monkeypatch.setattr(sys, "stdin", None)
    assert_mistake(cli("run", "-", *model), "stdin is closed")


def test_mistakes_are_found_before_anything_is_loaded(cli):
    assert_mistake(cli("run", "x", "--model", "/no/such", "--steps", 0), "steps is 0")


def test_a_long_prompt_is_a_mistake(cli, model):
    assert_mistake(cli("run", "word " * 5000, *model), "context length is 4096 tokens", "shorten the prompt")


@pytest.fixture
def copy(tiny_directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_directory, tmp_path / "copy"))


def test_broken_models_are_mistakes(cli, copy: Path, tmp_path: Path):
    def run(path=copy):
        return cli("run", "x", "--model", path)

    for name in ("nanoo", "/no/such/place", "x" * 300, copy / "config.json"):
        assert_mistake(run(name))
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    assert_mistake(run(), "model.safetensors is not a readable safetensors file")
    (copy / "model.safetensors").unlink()
    assert_mistake(run(), "model.safetensors is missing")
    (copy / "tokenizer.json").write_text("{")
    (copy / "model.safetensors").write_bytes(weights)
    assert_mistake(run(), "tokenizer files cannot be read")
    (copy / "tokenizer.json").unlink()
    assert_mistake(run(), "has no tokenizer files")
    (copy / "config.json").write_text('{"model_type":')
    assert_mistake(run(), "config.json is not readable JSON")
    assert_mistake(run(tmp_path), "config.json is missing")


def test_a_reader_that_leaves_is_no_error(tiny_directory: Path, tmp_path: Path):
    trace = tmp_path / "t.npz"
    a_trace(dg.load(tiny_directory), trace)
    command = f"{sys.executable} -m diffusiongemma replay {trace} --json | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == "" and done.returncode in (0, 141)


UNHEARD = {
    "> /dev/full": (2, "diffusiongemma: cannot write the output: No space left on device\n"),
    ">&-": (2, "diffusiongemma: cannot write the output: Bad file descriptor\n"),
    ">&- 2>&-": (2, ""),
    "| true": (141, ""),
}


@pytest.mark.slow
@pytest.mark.parametrize("where", UNHEARD)
def test_output_that_cannot_be_written_is_no_traceback(where: str, tmp_path: Path):
    """Of help, which rich writes, and of a text, in bytes."""
    (tmp_path / "t.txt").write_text("x" * 100_000)  # more than a pipe holds
    for command in ("--help", f"edit {tmp_path / 't.txt'} --strength 0", "--version"):
        line = f"sleep 0.2; {sys.executable} -m diffusiongemma {command}"
        script = f"({line}) {where}; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == UNHEARD[where], command


# --- traces ---------------------------------------------------------------------------------------------------------


def a_trace(model: dg.DiffusionGemma, path: Path, prompt: str = "hello", **wanted):
    from diffusiongemma.cli.running import token_text
    from diffusiongemma.recording import save_trace

    request = model.request(prompt, trace=True, **wanted)
    result = model.generate(prompt, trace=True, **wanted)
    save_trace(
        path, result, prompt=prompt, prompt_ids=request.prompt.ids, model="tiny", config=request.config,
        text_of=token_text(model.tokenizer),
    )  # fmt: skip
    return result


def test_run_records_what_it_did(cli, model, tiny, tmp_path: Path):
    path = tmp_path / "t.npz"
    done = cli("run", "hello", *model, "--seed", 4, "--trace", path)
    found, expected = load_trace(path), tiny.generate("hello", seed=4, trace=True)
    assert found.result.text + "\n" == done.out and found.prompt == "hello" and found.model == model[1]
    assert len(found.result.trace) == 16
    np.testing.assert_array_equal(found.result.trace[9].tokens, expected.trace[9].tokens)
    assert found.options["seed"] == 4 and list(found.prompt_ids) == tiny.prompt("hello").ids


def test_replay_shows_and_sums_up(cli, tiny, tmp_path: Path):
    path = tmp_path / "t.npz"
    result = a_trace(tiny, path)
    shown = cli("replay", path)
    assert shown.out.startswith("canvas 1 · 8 steps · entropy ") and "canvas 2 · 8 steps" in shown.out
    assert "tiny · seed 0 · 16 steps · 32 tokens" in shown.err and "\x1b" not in shown.out
    first = tiny.tokenizer.decode(result.tokens[:16])
    assert first in shown.out and first not in cli("replay", path, "--canvas", 2).out

    summary = cli("replay", path, "--json").json
    assert (summary["text"], summary["steps"], summary["prompt"]) == (result.text, 16, "hello")
    assert [canvas["steps"] for canvas in summary["canvas_steps"]] == [8, 8]
    assert summary["canvas_steps"][0]["entropy"][2] == pytest.approx(result.trace[2].entropy.mean(), abs=0.01)

    step = cli("replay", path, "--canvas", 2, "--step", 3).out
    assert "canvas 2 · step 3/8" in step and f"temperature {result.trace[10].temperature:.2f}" in step
    assert_mistake(cli("replay", path, "--step", 9), "no step 9: canvas 1 has 8")
    assert_mistake(cli("replay", path, "--canvas", 3), "no canvas 3: the trace has 2")
    assert_mistake(cli("replay", path, "--speed", 0), "speed is 0")


def test_replay_draws_a_picture(cli, tiny, tmp_path: Path):
    trace, picture = tmp_path / "a.npz", tmp_path / "a.svg"
    a_trace(tiny, trace)
    done = cli("replay", trace, "--svg", picture)
    assert done.code == 0 and done.out == ""
    drawn = picture.read_text().replace("&#160;", " ")
    assert drawn.startswith("<svg") and "canvas 1 · step 1/8" in drawn and "canvas 2 · step 8/8" in drawn
    assert cli("replay", trace, "--svg", tmp_path / "absent" / "a.svg").code == 2


def test_replay_of_autoregressive_text(cli, tiny, tmp_path: Path):
    result = a_trace(tiny, tmp_path / "t.npz", mode="ar", max_new_tokens=5)
    assert cli("replay", tmp_path / "t.npz").out == result.text + "\n"
    assert_mistake(cli("replay", tmp_path / "t.npz", "--step", 1), "has no steps")


def test_replay_needs_no_torch(tiny, tmp_path: Path):
    a_trace(tiny, tmp_path / "t.npz")
    code = HELP.format(arguments=["replay", str(tmp_path / "t.npz"), "--step", "1"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1].endswith("{'numpy'}"), done.stderr


def test_replay_takes_as_long_as_it_took_within_bounds(tiny, tmp_path: Path):
    from diffusiongemma.cli.replay import LONGEST_SHOW, SHORTEST_STEP, _frames, _pauses

    a_trace(tiny, tmp_path / "t.npz")
    frames = list(_frames(load_trace(tmp_path / "t.npz")))
    fast = _pauses(frames, 1.0)
    assert fast == pytest.approx([max(frame.step.seconds, SHORTEST_STEP) for frame in frames], rel=1e-3)
    assert _pauses(frames, 4.0) == pytest.approx([pause / 4 for pause in fast])
    slow = [replace(frame, seconds=100.0 * (i + 1)) for i, frame in enumerate(frames)]
    assert sum(_pauses(slow, 1.0)) == pytest.approx(LONGEST_SHOW)


# --- Ctrl-C ---------------------------------------------------------------------------------------------------------


def interrupt_in_step(monkeypatch, number: int) -> None:
    """A real SIGINT in the engine step of that number, counted over all runs."""
    step, count = Engine.step, [0]

    def interrupted(engine):
        count[0] += 1
        if count[0] == number:
            signal.raise_signal(signal.SIGINT)
        return step(engine)

    monkeypatch.setattr(Engine, "step", interrupted)


def test_interrupted_text_is_kept(cli, model, tiny, tmp_path, monkeypatch):
    expected = tiny.generate("hello", max_new_tokens=16).text
    # Step 1 encodes and opens the canvas; the second canvas begins with step 9.
    interrupt_in_step(monkeypatch, 12)
    done = cli("run", "hello", *model, "--max-new-tokens", 400, "--trace", tmp_path / "t.npz")
    assert done.code == 130 and done.out == expected + "\n"
    assert "8 steps · 16 tokens" in done.err and "interrupted" in done.err
    found = load_trace(tmp_path / "t.npz").result
    assert found.finish_reason == "cancelled" and [step.canvas for step in found.trace] == [0] * 8 + [1] * 3


def test_interrupted_json_is_whole(cli, model, monkeypatch):
    interrupt_in_step(monkeypatch, 12)
    done = cli("run", "hello", *model, "--max-new-tokens", 400, "--json")
    assert done.code == 130 and done.json["finish_reason"] == "cancelled" and done.json["tokens"] == 16


def terminal(*arguments: object) -> pexpect.spawn:
    """The program on a terminal of its own; after it come its exit code and the state of the terminal."""
    command = " ".join([sys.executable, "-m", "diffusiongemma", *map(str, arguments)])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm-256color"}
    script = ["-c", f"{command}; echo code=$?; stty -a"]
    return pexpect.spawn("bash", script, dimensions=(30, 80), encoding="utf-8", timeout=60, env=environment)


@pytest.mark.slow
def test_ctrl_c_while_watching_leaves_the_terminal_sane(model, tiny):
    child = terminal("run", "hello", *model, "--watch", "--max-new-tokens", 4000, "--delay", 0.02)
    child.expect("canvas 2 · step [3-8]")
    seen = child.before
    child.sendintr()
    child.expect("code=130")
    after = child.before
    child.expect(pexpect.EOF)
    assert "\x1b[?25l" in seen and "\x1b[?25h" in after and "\x1b[?25l" not in after.split("\x1b[?25h")[-1]
    assert "\x1b[?1049h" not in seen.split("\x1b[?1049l")[-1]  # no alternate screen is left on
    assert " echo " in child.before and " icanon " in child.before
    text = tiny.generate("hello", max_new_tokens=16).text
    assert printable(text).strip()[:40] in after.split("\x1b[?25h")[-1].replace("\r\n", "\n")
    assert "interrupted" in after and "Traceback" not in seen + after


# --- chat -----------------------------------------------------------------------------------------------------------


def test_chat_turns_share_their_cache(cli, model, tiny):
    session = tiny.chat()
    first, second = session.send("hello"), session.send("and now?")
    done = cli("chat", *model, stdin=b"hello\nand now?\n")
    assert done.code == 0 and done.out == f"{first.text}\n{second.text}\n"
    assert second.cached_tokens > 0
    lines = [line for line in done.err.splitlines() if "reused" in line]
    assert lines[0].startswith(f"0 of {first.prompt_tokens} prompt tokens reused · ")
    assert lines[1].startswith(f"{second.cached_tokens} of {second.prompt_tokens} prompt tokens reused · ")


def test_chat_commands(cli, model, tiny):
    script = b"hello\n/reset\n/seed 9\nhello\n/think on\n/reset\nhello\n/help\n/quit\nnever read\n"
    done = cli("chat", *model, stdin=script)
    texts = [tiny.generate("hello").text, tiny.generate("hello", seed=9).text]
    texts.append(tiny.generate("hello", seed=9, think=True).text)
    assert done.out == "".join(text + "\n" for text in texts)
    assert done.err.count("0 of ") == 3 and "/watch on|off" in done.err


def test_a_chat_has_the_options_of_run(cli, model, tiny):
    done = cli("chat", *model, "--regex", "[a-f]{3}", "--top-p", 0.5, "--min-new-tokens", 2, stdin=b"hello\nagain\n")
    texts = done.out.splitlines()
    assert texts[0] == tiny.generate("hello", regex="[a-f]{3}", top_p=0.5, min_tokens=2).text
    assert len(texts) == 2 and all(re.fullmatch("[a-f]{3}", text) for text in texts)


def test_chat_takes_a_message_of_several_lines(cli, model, tiny):
    done = cli("chat", *model, stdin=b'"""\nSolve\nthis\n"""\n')
    assert done.out == tiny.generate("Solve\nthis").text + "\n"


def test_chat_goes_on_after_mistakes(cli, model, tiny):
    script = b"/fly\n/seed x\n/think maybe\n" + b"word " * 5000 + b"\n\nhello\n"
    done = cli("chat", *model, stdin=script)
    assert done.code == 0 and done.out == tiny.generate("hello").text + "\n"
    for words in ("no command /fly", "/seed takes a whole number", "/think takes on or off", "shorten the prompt"):
        assert words in done.err


def test_an_interrupted_turn_is_forgotten(cli, model, tiny, monkeypatch):
    interrupt_in_step(monkeypatch, 12)
    done = cli("chat", *model, stdin=b"hello\nhello\n")
    whole = tiny.generate("hello").text
    assert done.code == 0 and "not part of the conversation" in done.err
    beginning, again = done.out.split("\n")[:2]
    assert whole.startswith(beginning) and again == whole and 0 < len(beginning) < len(whole)


def test_chat_told_in_another_encoding(cli, model):
    assert_mistake(cli("chat", *model, stdin=b"caf\xe9\n"), "not UTF-8")


def test_the_line_tells_of_checks_and_of_canvases_that_did_not_converge(tiny):
    from diffusiongemma.cli.running import summary

    result = replace(tiny.generate("hello", max_new_tokens=16), converged=(True, False), checked=1)
    told = summary(replace(result, written_by_encoder=5, forward_passes=90))
    assert " steps · 90 forward passes · " in told
    assert "1 of 2 canvases not converged · 1 checked, 5 tokens written by the encoder" in told
    assert "converged" not in summary(replace(result, converged=(True,), checked=0))


# --- doctor ---------------------------------------------------------------------------------------------------------


def test_doctor_finds_this_machine_fit(cli, model, monkeypatch):
    monkeypatch.setattr(doctor, "_load", lambda: 0.0)
    done = cli("doctor", *model)
    assert done.code == 0 and "✗" not in done.out.replace("✗  video", "") and "ready" in done.out
    checks = {check["name"]: check for check in cli("doctor", *model, "--json").json["checks"]}
    assert checks["torch"]["found"] == metadata.version("torch") and checks["torch"]["ok"]
    assert "ms a step for a canvas of 16 tokens" in checks["generation"]["found"]
    assert float(checks["generation"]["found"].split()[0]) > 0


def test_doctor_says_what_to_do(cli, model, monkeypatch):
    done = cli("doctor", "--model", "/no/such", "--json")
    assert done.code == 2 and not done.json["usable"]
    assert done.json["checks"][-1]["advice"] and "/no/such" in done.json["checks"][-1]["found"]
    assert "not usable yet" in cli("doctor", "--model", "/no/such").out

    versions = {"transformers": "5.11.0", "torch": "2.13.0"}

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(doctor.metadata, "version", version)
    checks = {check.name: check for check in doctor.machine()}
    assert not checks["transformers"].ok and checks["transformers"].advice == "pip install 'transformers>=5.12,<6'"
    assert checks["torch"].ok and not checks["video"].ok and not checks["video"].needed
    versions["transformers"] = "6.0.0"
    assert not {check.name: check for check in doctor.machine()}["transformers"].ok


@pytest.mark.parametrize("text, expected", [("5.12.0", (5, 12, 0)), ("5.12rc1", (5, 12)), ("2.13.0+cpu", (2, 13, 0))])
def test_versions(text: str, expected: tuple[int, ...]):
    assert doctor.numbers(text) == expected


@pytest.mark.parametrize(("tokens", "said"), [(30, 0), (60, 1)])
def test_less_than_a_schema_allows_is_said_where_the_answer_could_hold_more(cli, tokens, said):
    many = {"properties": {f"p{i}": {"type": "string", "maxLength": 5000} for i in range(12)}}
    done = cli("run", "?", "--json-schema", json.dumps(many), "--steps", 2, "--max-new-tokens", tokens)
    assert done.err.count("warning: 'maxLength' at /properties/p0 and 11 other places is written in part") == said
    assert json.loads(done.out).keys() <= many["properties"].keys()


def test_the_command_line_takes_structure(cli, tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text('{"enum": ["red", 7]}')
    done = cli("run", "who?", "--json-schema", schema, "--steps", 2, "--max-new-tokens", 60)
    assert json.loads(done.out) in ("red", 7)
    assert re.fullmatch("[xy]{7}", cli("run", "?", "--regex", "[xy]{7}", "--steps", 2).out.strip())
    assert cli("run", "?", "--choice", "red", "--choice", "blue", "--steps", 2).out.strip() in ("red", "blue")
    for bad in (["--regex", "("], ["--json-schema", tmp_path / "absent"], ["--regex", "a", "--choice", "b"]):
        failed = cli("run", "?", *bad)
        assert failed.code == 2 and failed.err.count("\n") == 1


def test_doctor_tells_where_constraints_compile_slowly(monkeypatch):
    checks = {check.name: check for check in doctor.machine()}
    assert checks["automata"].ok is automata.available()
    monkeypatch.setattr(automata, "available", lambda: False)
    check = doctor._automata()
    assert not check.ok and not check.needed
    assert "diffusiongemma.kernels.build" in check.advice and "not built" in check.found
    monkeypatch.setenv("DIFFUSIONGEMMA_KERNELS", "none")
    assert "DIFFUSIONGEMMA_KERNELS" in doctor._automata().found


def test_doctor_tells_when_the_cores_are_busy(monkeypatch):
    monkeypatch.setattr(doctor, "_load", lambda: 100.0)
    check = doctor._threads()
    assert not check.ok and not check.needed and "busy with other programs (load 100.0)" in check.found
    monkeypatch.setattr(doctor, "_load", lambda: 0.0)
    assert doctor._threads().ok
