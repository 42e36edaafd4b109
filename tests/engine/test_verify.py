"""Drafts that the encoder checks: "always" writes what autoregressive mode writes, and nothing sent is taken back."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from itertools import pairwise

import pytest
import torch

import diffusiongemma as dg
from diffusiongemma.chat import Prompt
from diffusiongemma.cli.demonstration import PROMPT
from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.diffusion.denoise import Canvas
from diffusiongemma.diffusion.readout import Prediction
from diffusiongemma.diffusion.stop import Never, StableAndConfident
from diffusiongemma.engine.draft import Draft
from diffusiongemma.engine.engine import Engine
from diffusiongemma.engine.phases import WritingRest
from diffusiongemma.engine.request import Request
from diffusiongemma.errors import CheckpointError, InputError
from diffusiongemma.events import CanvasCommitted, CanvasStep, Finished, TextDelta
from diffusiongemma.options import VERIFY
from diffusiongemma.recording import load_trace, save_trace
from diffusiongemma.serve.native.traces import _commits
from diffusiongemma.weights.generation import decoding_files, load_decoding
from diffusiongemma.weights.saving import save_model

MEND = "Fix the spelling mistakes.\n\nAnna bougth a red car. Omar lsot the game in the garden."


@pytest.fixture(scope="module")
def nano() -> dg.DiffusionGemma:
    return dg.load("nano")


@pytest.fixture(scope="module")
def tiny(tiny_directory) -> dg.DiffusionGemma:
    """Random weights: the encoder hardly ever agrees."""
    return dg.load(tiny_directory)


OPTIONS: list[dict] = [
    {},
    {"temperature": 0.7, "seed": 5},
    {"temperature": 1.0, "top_p": 0.8, "seed": 6},
    {"logit_bias": {"a": 3.0}, "min_tokens": 20},
    {"pins": {1: "a", 18: "b"}},
    {"regex": "[a-z ]{5,30}"},
    {"regex": "[A-Z][a-z]+( [a-z]+)*[.]", "temperature": 0.5},
    {"banned_words": ["the"]},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: " ".join(o) or "plain")
@pytest.mark.parametrize("name", ["tiny", "nano"])
def test_checking_every_canvas_gives_the_text_of_autoregressive_mode(name, options, request):
    """Across canvases, drawn tokens included; with as many tokens and the same distributions behind them."""
    model = request.getfixturevalue(name)
    options = {"max_new_tokens": 40, "top_logprobs": 2, **options}
    checked = model.generate(MEND, verify="always", steps=6, **options)
    written = model.generate(MEND, mode="ar", **options)
    assert checked.tokens == written.tokens and checked.text == written.text
    assert checked.finish_reason == written.finish_reason
    assert checked.logprobs == pytest.approx(written.logprobs, abs=0.02)
    assert [[t for t, _ in told] for told in checked.alternatives] == [
        [t for t, _ in told] for told in written.alternatives
    ]
    assert len(checked.settled) == len(checked.tokens) and checked.mode == "diffusion"


def say(monkeypatch, tokens: list[int], width: int = 16) -> None:
    """Let finished canvases say this, whatever they found."""
    plain = Canvas.advance

    def advance(self, prediction, vocab_size):
        accepted = plain(self, prediction, vocab_size)
        if self.done:
            first = width * self.noise.canvas
            said = [*tokens[first : first + width], *[1] * width][:width]
            self.prediction = replace(self.prediction, argmax=torch.tensor(said))
        return accepted

    monkeypatch.setattr(Canvas, "advance", advance)


def test_a_draft_that_the_encoder_agrees_with_costs_one_pass(tiny, monkeypatch):
    options = {"steps": 3, "max_new_tokens": 40, "eos_token_ids": ()}
    written = tiny.generate("hello", mode="ar", **options)
    say(monkeypatch, list(written.tokens))
    events = list(tiny.stream("hello", verify="always", **options))
    result = events[-1].result
    assert result.tokens == written.tokens and [c.written for c in events if isinstance(c, CanvasCommitted)] == [
        0,
        0,
        0,
    ]
    assert result.steps == (3, 3, 3) and result.forward_passes == 9 + 3 < written.forward_passes


@pytest.mark.parametrize("wrong", [0, 7, 15, 16, 39])
def test_the_encoder_writes_from_the_first_wrong_token_to_the_end_of_the_canvas(wrong, tiny, monkeypatch):
    options = {"steps": 3, "max_new_tokens": 40, "eos_token_ids": ()}
    written = tiny.generate("hello", mode="ar", **options)
    said = list(written.tokens)
    said[wrong] += 1
    say(monkeypatch, said)
    events = list(tiny.stream("hello", verify="always", **options))
    assert events[-1].result.tokens == written.tokens
    expected = [0, 0, 0]
    expected[wrong // 16] = min(40, 16 * (wrong // 16 + 1)) - wrong
    assert [c.written for c in events if isinstance(c, CanvasCommitted)] == expected
    assert (events[-1].result.checked, events[-1].result.written_by_encoder) == (3, sum(expected))


def test_a_draft_stands_where_the_encoder_knows_nothing(tiny):
    """Random weights: every token is about as probable as any other, so none is a surprise."""
    options = {"steps": 3, "max_new_tokens": 40}
    plain, checked = (tiny.generate(MEND, verify=verify, **options) for verify in ("never", "surprising"))
    assert checked.tokens == plain.tokens and checked.checked > 0 == checked.written_by_encoder


@pytest.mark.parametrize("top_logprobs", [0, 2])
def test_a_draft_that_surprises_the_encoder_is_written_anew(nano, monkeypatch, top_logprobs):
    """A word that nobody asked for in place of one that the encoder is sure of."""
    options = {"max_new_tokens": 40, "top_logprobs": top_logprobs}
    written = nano.generate(MEND, mode="ar", **options)
    wrong = list(written.tokens)
    wrong[4] = wrong[4] + 1
    for said, by_encoder in ((list(written.tokens), 0), (wrong, len(wrong) - 4)):
        monkeypatch.undo()
        say(monkeypatch, said, width=nano.config.canvas_length)
        checked = nano.generate(MEND, verify="surprising", **options)
        assert checked.tokens == written.tokens and checked.written_by_encoder == by_encoder
        assert len(checked.alternatives or ()) == (len(checked.tokens) if top_logprobs else 0)


def test_surprise_is_what_entropy_does_not_explain():
    def read(*shares: float) -> Prediction:
        p = torch.tensor([shares])
        top = torch.tensor([[3, 5, 7][: len(shares)]])
        entropy, none = torch.distributions.Categorical(p).entropy(), torch.zeros(1)
        return Prediction(top[:, 0], top[:, 0], entropy, none, none, none[:, None], top, p.log())

    def surprises(token: int, *shares: float) -> bool:
        return Draft(None, [token], torch.zeros(2, 1), 0).surprises(read(*shares))

    assert not surprises(5, 0.5, 0.4, 0.1) and not surprises(5, 0.97, 0.02, 0.01)
    assert surprises(5, 0.995, 0.004, 0.001)
    assert surprises(9, 0.995, 0.004, 0.001) and not surprises(9, 0.4, 0.3, 0.3)  # at most the last one's share


def test_only_canvases_that_are_not_sure_are_checked(tiny, monkeypatch):
    options = {"steps": 3, "max_new_tokens": 40}
    sure, unsure = {"stop_rule": StableAndConfident(0, 1e9)}, {"stop_rule": Never()}
    plain, checked = (tiny.generate(MEND, verify=v, **options, **sure) for v in ("never", "unconverged"))
    assert (checked.tokens, checked.forward_passes) == (plain.tokens, plain.forward_passes)
    assert checked.checked == checked.written_by_encoder == 0 and checked.converged == (True,) * checked.canvases
    monkeypatch.setattr(Draft, "is_surer_than", lambda draft, predictions: False)
    plain, checked = (tiny.generate(MEND, verify=v, **options, **unsure) for v in ("never", "unconverged"))
    assert checked.tokens == tiny.generate(MEND, mode="ar", max_new_tokens=40).tokens != plain.tokens
    assert checked.checked == checked.canvases and checked.converged == (False,) * checked.canvases


def test_the_encoder_has_no_say_where_the_canvas_is_surer(tiny, monkeypatch):
    """The draft stands, encoded once: what comes next is what comes next without a check."""
    options = {"steps": 3, "max_new_tokens": 40, "stop_rule": Never(), "eos_token_ids": ()}
    plain = tiny.generate(MEND, **options)
    asked = []
    monkeypatch.setattr(Draft, "is_surer_than", lambda draft, predictions: asked.append(draft.first) or True)
    events = list(tiny.stream(MEND, verify="unconverged", **options))
    result = events[-1].result
    assert asked == [0, 16, 32] and all(e.written == 0 for e in events if isinstance(e, CanvasCommitted))
    same = ("tokens", "steps", "logprobs", "entropies", "settled", "text", "finish_reason")
    assert all(getattr(result, name) == getattr(plain, name) for name in same)
    assert result.forward_passes == plain.forward_passes + 1  # the last canvas is encoded too


@pytest.mark.parametrize(("mine", "theirs", "surer"), [(-0.1, -0.3, True), (-0.5, -0.1, False)])
def test_who_is_surer(mine, theirs, surer):
    """By what the draft's own tokens, not the noise behind its end, get in all."""
    canvas = Canvas(None, torch.zeros(4), None, Decoding(), logprob=torch.tensor([mine, mine, -99.0, -99.0]))
    told = [Prediction(**dict.fromkeys(PREDICTED, torch.zeros(1)) | {"logprob": torch.tensor([theirs])})] * 2
    assert Draft(canvas, [5, 1], torch.zeros(3, 3), 0).is_surer_than(told) is surer


PREDICTED = [field.name for field in fields(Prediction)]


def test_requests_do_not_see_each_other(tiny):
    options = dict(
        seed=[1, 2, 3, 4], steps=[3, 5, 2, 4], max_new_tokens=[40, 20, 40, 30], temperature=[None, 0.5, 1.0, None],
        verify=["always", "unconverged", "never", "always"], mode=["diffusion", "diffusion", "diffusion", "ar"],
    )  # fmt: skip
    prompts = ["one", "a longer prompt, with some words", "12", "naïve ☃"]
    together = tiny.generate(prompts, **options)
    for i, (prompt, result) in enumerate(zip(prompts, together, strict=True)):
        alone = tiny.generate(prompt, **{name: values[i] for name, values in options.items()})
        assert (alone.tokens, alone.steps, alone.forward_passes) == (result.tokens, result.steps, result.forward_passes)


def test_events_tell_the_whole_story(tiny):
    events = list(tiny.stream("hello", verify="always", steps=3, max_new_tokens=40, eos_token_ids=()))
    commits = [e for e in events if isinstance(e, CanvasCommitted)]
    result = next(e.result for e in events if isinstance(e, Finished))
    assert [len(c.tokens) for c in commits] == [16, 16, 8] and [c.canvas for c in commits] == [0, 1, 2]
    assert sum((c.tokens for c in commits), ()) == result.tokens and isinstance(events[-1], Finished)
    assert sum((c.logprobs for c in commits), ()) == result.logprobs
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == result.text
    written = [c.written for c in commits]
    assert all(0 < count <= len(c.tokens) for count, c in zip(written, commits, strict=True))
    # Steps, a pass over each draft and one for each token of the encoder's but the last of the answer.
    assert result.forward_passes == sum(result.steps) + 3 + sum(written) - 1


def test_sent_text_stands(nano):
    """Early text has been read by somebody: the encoder has its word from there on."""
    events = list(nano.stream(PROMPT, verify="always", early_steps=1, early_entropy=9.0))
    steps = [e for e in events if getattr(e, "sent", 0)]
    result = events[-1].result
    assert steps and "".join(e.text for e in events if isinstance(e, TextDelta)) == result.text
    sent = min(steps[-1].sent, len(result.tokens))  # what fills the canvas behind the end may be sent too
    assert result.tokens[:sent] == tuple(steps[-1].argmax[:sent])
    assert result.tokens != nano.generate(PROMPT, mode="ar").tokens
    assert all(logprob <= 0 for logprob in result.logprobs) and result.logprobs[0] < 0


def test_a_cancelled_request_leaves_with_what_it_had(tiny):
    engine = Engine(tiny.network, tiny.tokenizer)
    config = Decoding.of(max_new_tokens=40, steps=2, verify="always", eos_token_ids=())
    engine.submit(Request(Prompt([2, 5, 6], [], []), config))
    for _ in range(8):
        engine.step()
    assert engine.running[0].phase.then.func is WritingRest
    result = engine.cancel(0)
    assert result is not None and 0 < len(result.tokens) < 16 and result.finish_reason == "cancelled"


def test_a_second_turn_goes_on_behind_a_checked_one(tiny):
    """The cache holds what the answer says, not what the draft said."""
    options = {"max_new_tokens": 24, "steps": 3, "verify": "always"}
    chat = tiny.chat(**options)
    first = chat.send("hello")
    second = chat.send("and then?")
    assert second.cached_tokens > first.prompt_tokens
    history = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": first.text},
        {"role": "user", "content": "and then?"},
    ]
    assert tiny.prompt(history).ids == tiny.prompt(chat.messages[:3]).ids
    assert second.tokens == tiny.generate(history, **options).tokens


def test_a_trace_keeps_it(tiny, tmp_path):
    request = tiny.request("hello", verify="always", steps=3, max_new_tokens=40, trace=True, eos_token_ids=())
    events = list(Engine(tiny.network, tiny.tokenizer).run([request]))
    result, path = events[-1].result, tmp_path / "t.npz"
    ids = request.prompt.ids
    save_trace(path, result, prompt="hello", prompt_ids=ids, model="tiny", config=request.config, text_of=str)
    recording = load_trace(path)
    assert recording.options["verify"] == "always" and recording.result.tokens == result.tokens
    for name in ("converged", "checked", "written_by_encoder"):
        assert getattr(recording.result, name) == getattr(result, name)
    assert result.checked == len(result.converged) > 0 and result.written_by_encoder > 0
    told = [c.tokens for c in events if isinstance(c, CanvasCommitted)]
    assert [c.tokens for c in _commits(recording)] == told


@pytest.mark.parametrize("before", [3, 40, 1400])
def test_a_cache_forgets_the_last_tokens(tiny, before):
    """Within the sliding window, beyond it, and where a long prompt has been trimmed."""
    model, made = tiny.network, torch.Generator().manual_seed(0)
    prompt, draft, rest = (torch.randint(20, 4096, (1, n), generator=made) for n in (before, 16, 5))
    cache, other = model.encode(prompt), model.encode(prompt)
    model.denoise(draft, cache)
    model.encode(draft, cache)
    cache.rows[0].forget(12)
    model.encode(draft[:, :4], other)
    for one in (cache, other):
        model.encode(rest, one)
    assert cache.lengths == other.lengths
    torch.testing.assert_close(model.denoise(draft, cache), model.denoise(draft, other), atol=1e-4, rtol=1e-4)


def test_what_cannot_be_checked_is_refused(tiny):
    with pytest.raises(InputError, match="choose never, unconverged, surprising or always"):
        tiny.generate("hello", verify="sometimes")
    with pytest.raises(InputError, match="choose never, unconverged, surprising or always"):
        tiny.edit_plan("I has a dog.", "Correct it.", verify="sometimes")
    with pytest.raises(InputError, match=r"verify: .*leave it at never"):
        tiny.infill("Dear Ann,", "Yours, Bob", verify="always")
    with pytest.raises(InputError, match=r"verify: .*leave it at never"):
        tiny.edit("I has a dog.", "Correct it.", spans=[(2, 5)], verify="unconverged")
    with pytest.raises(InputError, match=r"verify: .*leave it at never"):
        tiny.edit("I has a dog.", verify="always")


LINES = "Anna bougth a red car.\r\n\r\nOmar lsot the game.\n"


@pytest.mark.parametrize(("name", "text"), [("tiny", "I has a dog."), ("nano", "I has a dog."), ("nano", LINES)])
def test_an_edit_that_is_always_checked_is_what_the_encoder_writes(name, text, request):
    """In the lines of the text, which is no longer than a canvas."""
    model, seed = request.getfixturevalue(name), 4
    room = {"max_new_tokens": 2 * model.network.config.canvas_length}
    body = text.rstrip("\n")
    lines = re.sub(r"[^\r\n]+", lambda _: "[^\\r\\n]+", body)
    written = model.generate(f"Correct it.\n\n{body}", mode="ar", regex=lines, seed=seed, **room)
    edited = model.edit(text, "Correct it.", strength=0.5, verify="always", seed=seed)
    assert edited.text == written.text + text[len(body) :]


def test_an_edit_ends_where_the_text_does(nano):
    """With its last line break, which the encoder would not write of itself."""
    for breaks in ("", "\n", "\r\n", "\n\n"):
        assert nano.edit(f"I has a dog.{breaks}", "Correct the grammar.", seed=0).text == f"I have a dog.{breaks}"


def test_an_edit_is_checked_as_the_checkpoint_asks(nano):
    text, instruction = "Anna bougth a red car.", "Fix the spelling mistakes."
    edits = {verify: nano.edit(text, instruction, seed=0, **verify_of(verify)) for verify in (None, *VERIFY)}
    assert nano.generation.verify == "surprising" and edits[None].text == edits["surprising"].text
    assert {verify for verify, edit in edits.items() if edit.results[0].checked} >= {None, "surprising", "always"}
    assert not edits["never"].results[0].checked
    assert not nano.edit(text, instruction, spans=[(5, 11)], seed=0).results[0].checked


def verify_of(verify: str | None) -> dict[str, str]:
    return {} if verify is None else {"verify": verify}


def test_a_checkpoint_may_ask_for_it(tiny, tiny_directory, tmp_path):
    """In a file of its own: transformers refuses such fields in the one it reads. It goes with copies."""
    asked, once, twice = replace(tiny.generation, verify="always", patience=4), tmp_path / "once", tmp_path / "twice"
    save_model(tiny.network, once, asked, source=tiny_directory)
    save_model(tiny.network, twice, source=once)
    for directory in (once, twice):
        assert json.loads((directory / "decoding.json").read_text()) == {"verify": "always", "patience": 4}
        assert "verify" not in (directory / "generation_config.json").read_text()
        assert load_decoding(directory, tiny.config) == asked
    save_model(tiny.network, once, tiny.generation)
    assert not (once / "decoding.json").exists()
    assert set(decoding_files(Decoding(), tiny.config)) == {"generation_config.json"}
    assert not (tiny_directory / "decoding.json").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [('{"verify": "now"}', "choose never"), ('{"patience": -1}', "patience"), ('{"steps": 3}', "'steps' is none of")],
)
def test_a_bad_decoding_file_is_named(content, words, tiny, tiny_directory, tmp_path):
    save_model(tiny.network, tmp_path / "m", source=tiny_directory)
    (tmp_path / "m" / "decoding.json").write_text(content)
    with pytest.raises(CheckpointError, match=f"decoding.json: .*{words}"):
        load_decoding(tmp_path / "m", tiny.config)


# --- patience -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("patience", [1, 3])
def test_a_canvas_that_does_not_change_ends(patience, nano):
    """At the first step at which the argmax is as it was for so many steps, and it counts as not sure of itself."""
    options = {"stop_rule": Never(), "steps": 20}
    whole = [e for e in nano.stream(PROMPT, patience=0, **options) if isinstance(e, CanvasStep)]
    kept = [bool((a.argmax == b.argmax).all()) for a, b in pairwise(whole)]
    ends = next(i + 1 for i in range(patience, len(whole)) if all(kept[i - patience : i]))
    events = list(nano.stream(PROMPT, patience=patience, verify="never", **options))
    commit = next(e for e in events if isinstance(e, CanvasCommitted))
    assert commit.steps == ends < 20 and not commit.converged
    assert commit.tokens == tuple(whole[ends - 1].argmax[: len(commit.tokens)])
    checked = nano.generate(PROMPT, patience=patience, verify="always", **options)
    assert checked.steps == (ends,) and checked.tokens == nano.generate(PROMPT, mode="ar").tokens


def test_pinned_positions_do_not_wear_patience_out(tiny):
    options = {"stop_rule": Never(), "steps": 6, "max_new_tokens": 16, "eos_token_ids": (), "temperature": 5.0}
    result = tiny.generate("hello", patience=1, pins={i: "a" for i in range(15)}, **options)
    free = [
        e.argmax[15]
        for e in tiny.stream("hello", pins={i: "a" for i in range(15)}, **options)
        if isinstance(e, CanvasStep)
    ]
    same = [a == b for a, b in pairwise(free)]
    assert result.steps == (same.index(True) + 2 if True in same else 6,)


def test_impossible_patience_is_refused(tiny):
    for wrong in (-1, 1.5, True):
        with pytest.raises(InputError, match="patience"):
            tiny.generate("hello", patience=wrong)
