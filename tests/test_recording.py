"""Trace files: what goes in comes out, nothing is half-written, and no file of another kind does harm."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import diffusiongemma as dg
from diffusiongemma import recording
from diffusiongemma.chat import ToolCall, decode
from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.errors import UserError
from diffusiongemma.events import CanvasStep, Result
from diffusiongemma.recording import load_trace, save_trace

VOCABULARY = 262_144


def text_of(token: int) -> str:
    return f" t{token}"


def save(path: Path, result: Result, config: Decoding = Decoding.of(seed=7), **changes) -> None:
    request = dict(prompt="Grüße\n", prompt_ids=[2, 9], model="tiny", config=config, text_of=text_of) | changes
    save_trace(path, result, **request)


def a_result(trace: list[CanvasStep], **changes) -> Result:
    counts = dict(canvases=1, steps=(len(trace),), forward_passes=len(trace), seconds=0.5, seed=7)
    values = dict(text="answer", tokens=(5, VOCABULARY - 1), finish_reason="stop", mode="diffusion", **counts)
    return Result(**(values | changes), trace=tuple(trace))


def a_step(rng: np.random.Generator, width: int, noisy: float, before: CanvasStep | None = None, **place) -> CanvasStep:
    """A step whose argmax differs from the step before in the noisy part alone."""
    accepted = rng.random(width) >= noisy
    fresh = rng.integers(0, VOCABULARY, (2, width)).astype(np.int32)
    argmax = fresh[0] if before is None else np.where(accepted, before.argmax, fresh[0])
    entropy = np.where(accepted, 0.01 * rng.random(width) ** 4, 6 * rng.random(width)).astype(np.float32)
    place = dict(canvas=0, step=1 if before is None else before.step + 1) | place
    return CanvasStep(
        tokens=np.where(accepted, argmax, fresh[1]), argmax=argmax, accepted=accepted, entropy=entropy,
        temperature=0.7, seconds=0.02, **place,
    )  # fmt: skip


def many_steps(noisy: float, count: int = 40, width: int = 256) -> list[CanvasStep]:
    rng, steps = np.random.default_rng(0), []
    for _ in range(count):
        steps.append(a_step(rng, width, noisy, steps[-1] if steps else None))
    return steps


def same_steps(first: tuple[CanvasStep, ...], second: tuple[CanvasStep, ...]) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert (a.canvas, a.step) == (b.canvas, b.step)
        for name in ("tokens", "argmax", "accepted"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
            assert getattr(a, name).dtype == getattr(b, name).dtype
        np.testing.assert_allclose(a.entropy, b.entropy, rtol=2**-10, atol=1e-7)
        assert a.temperature == pytest.approx(b.temperature, rel=1e-6)
        assert a.seconds == pytest.approx(b.seconds, rel=1e-6)


def test_a_generation_comes_back_whole(tiny_directory: Path, tmp_path: Path):
    model = dg.load(tiny_directory)
    result = model.generate("hello", seed=11, max_new_tokens=40, trace=True)
    config = model.generation.with_options(seed=11, max_new_tokens=40)
    ids = model.prompt("hello").ids
    word = lambda token: decode([token], model.tokenizer, skip_special=False)  # noqa: E731
    save(tmp_path / "x.npz", result, config, prompt="hello", prompt_ids=ids, text_of=word)
    back = load_trace(tmp_path / "x.npz")

    assert len(result.trace) == sum(result.steps) and result.canvases == 3  # there is something to lose
    same_steps(result.trace, back.result.trace)
    for name in ("text", "tokens", "steps", "canvases", "forward_passes", "finish_reason", "mode", "settled"):
        assert getattr(back.result, name) == getattr(result, name)
    assert back.result.seconds == result.seconds and back.result.prompt_tokens == len(ids)
    np.testing.assert_allclose(back.result.logprobs, result.logprobs, rtol=1e-6)
    assert (back.prompt, back.prompt_ids, back.model) == ("hello", tuple(ids), "tiny")
    assert back.options["seed"] == 11 and back.steps == 8 and back.stop_ids == {1, 5}
    occurring = {int(t) for step in result.trace for t in (*step.tokens, *step.argmax)} | set(result.tokens)
    assert back.texts == {token: word(token) for token in occurring}


@settings(max_examples=25, deadline=None)
@given(
    widths=st.lists(st.integers(1, 40), max_size=12),
    canvases=st.lists(st.integers(0, 3), min_size=12, max_size=12),
    noisy=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_steps_come_back(tmp_path_factory, widths, canvases, noisy, seed):
    rng = np.random.default_rng(seed)
    trace = [
        a_step(rng, w, noisy, canvas=c, step=i + 1) for i, (w, c) in enumerate(zip(widths, canvases, strict=False))
    ]
    path = tmp_path_factory.mktemp("trace") / "any.npz"
    save(path, a_result(trace))
    same_steps(tuple(trace), load_trace(path).result.trace)


def test_thoughts_calls_and_samplers_come_back(tmp_path: Path):
    from diffusiongemma.diffusion.samplers import FixedK

    calls = (ToolCall("weather", {"city": "Zürich", "days": [1, 2]}),)
    config = Decoding.of(sampler=FixedK(3))
    result = a_result([], thinking="hm", tool_calls=calls, note="why", text="\ud800 broken")
    save(tmp_path / "x", result, config)
    back = load_trace(tmp_path / "x")
    assert back.result.tool_calls == calls and back.result.thinking == "hm" and back.result.note == "why"
    assert back.options["sampler"] == {"name": "FixedK", "k": 3}
    assert back.result.text == "? broken"  # half a character is no text


@pytest.mark.parametrize("noisy, bytes_per_step", [(0.0, 600), (0.5, 1300), (1.0, 1900)])
def test_a_step_of_256_positions_takes_what_is_promised(tmp_path: Path, noisy: float, bytes_per_step: int):
    trace = many_steps(noisy)
    save(tmp_path / "x", a_result(trace))
    different = len(load_trace(tmp_path / "x").texts)
    assert ((tmp_path / "x").stat().st_size - 6 * different - 1500) / len(trace) < bytes_per_step


# --- files that cannot be written -----------------------------------------------------------------------------------


def test_places_where_no_trace_can_be(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "none" / "x", Path("/dev/null"), tmp_path / ("x" * 300)):
        for attempt in (lambda path=path: recording.check_writable(path), lambda path=path: save(path, a_result([]))):
            with pytest.raises(UserError, match="cannot write the trace") as caught:
                attempt()
            assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "folder"] and Path("/dev/null").is_char_device()


FULL_DISK = """
import resource, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import test_recording as t
path = Path({path!r})
result = t.a_result(t.many_steps(1.0))
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))  # writing more fails as on a full disk
try:
    t.save(path, result)
except t.UserError as error:
    print(error, "torch" in sys.modules)
"""


def test_a_full_disk_leaves_the_old_trace(tmp_path: Path):
    path = tmp_path / "x.npz"
    save(path, a_result([]))
    before = path.read_bytes()
    code = FULL_DISK.format(tests=str(Path(__file__).parent), path=str(path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith(f"cannot write the trace {path}: "), done.stderr
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(recording.np, "savez_compressed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "x", a_result([]))
    assert list(tmp_path.iterdir()) == []


# --- files that are not traces --------------------------------------------------------------------------------------


class Trap:
    sprung = False

    def __reduce__(self):
        return (setattr, (Trap, "sprung", True))


def npz(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def foreign_files() -> dict[str, bytes]:
    array = io.BytesIO()
    np.save(array, np.arange(3))
    return {
        "empty": b"",
        "text": b"hello\n",
        "zip of nothing": b"PK\x05\x06" + bytes(18),
        "one array": array.getvalue(),
        "other arrays": npz(a=np.arange(3)),
        "header is not JSON": npz(header=np.frombuffer(b"{", np.uint8)),
        "header of something else": npz(header=np.frombuffer(b'{"format": "x", "version": 1}', np.uint8)),
        "pickled header": npz(header=np.array([Trap()], object)),
        "pickle": pickle.dumps(Trap()),
    }


@pytest.mark.parametrize("kind", foreign_files())
def test_foreign_files_are_refused(tmp_path: Path, kind: str):
    Trap.sprung = False
    path = tmp_path / "x.npz"
    path.write_bytes(foreign_files()[kind])
    with pytest.raises(UserError, match="is not a trace") as caught:
        load_trace(path)
    assert "\n" not in str(caught.value) and not Trap.sprung


def test_missing_files_and_newer_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match=r"cannot read the trace .*No such file"):
        load_trace(tmp_path / "none")
    with pytest.raises(UserError, match="cannot read the trace"):
        load_trace(tmp_path)
    monkeypatch.setattr(recording, "VERSION", 2)
    save(tmp_path / "x", a_result([]))
    monkeypatch.undo()
    with pytest.raises(UserError, match="version 2, this program reads up to 1: update"):
        load_trace(tmp_path / "x")


def with_member(path: Path, name: str, array: np.ndarray) -> None:
    """The archive again with another array under `name`."""
    with zipfile.ZipFile(path) as archive:
        members = {entry: archive.read(entry) for entry in archive.namelist()}
    file = io.BytesIO()
    np.save(file, array)
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in (members | {f"{name}.npy": file.getvalue()}).items():
            archive.writestr(entry, content)


@pytest.mark.parametrize(
    "name, array",
    [
        ("width", np.array([2**31, 2**31], np.uint32)),
        ("width", np.array([3], np.uint32)),
        ("step_seconds", np.array([-1.0, 1.0], np.float32)),
        ("step_seconds", np.array([np.nan, 1.0], np.float32)),
        ("tokens", np.zeros(7, np.uint8)),
        ("texts", np.frombuffer(b'["a"]', np.uint8)),
        ("accepted", np.zeros(0, np.uint8)),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(tmp_path: Path, name: str, array: np.ndarray):
    path = tmp_path / "x.npz"
    save(path, a_result(many_steps(0.5, count=2, width=8)))
    with_member(path, name, array)
    with pytest.raises(UserError, match="is not a trace, or is damaged"):
        load_trace(path)


@settings(max_examples=60, deadline=None)
@given(where=st.floats(0, 1), value=st.integers(0, 255), cut=st.booleans())
def test_damage_is_told_in_one_line_or_harmless(tmp_path_factory, where: float, value: int, cut: bool):
    path = tmp_path_factory.mktemp("damage") / "x.npz"
    save(path, a_result(many_steps(0.5, count=2, width=8)))
    content = bytearray(path.read_bytes())
    place = int(where * (len(content) - 1))
    content[place:] = b"" if cut else bytes([value]) + content[place + 1 :]
    path.write_bytes(content)
    try:
        load_trace(path)
    except UserError as error:
        assert "\n" not in str(error)
