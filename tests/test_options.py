"""The table of options is what the command line, HTTP, Python and the documentation have."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

import diffusiongemma as dg
from diffusiongemma import options
from diffusiongemma.cli import build
from diffusiongemma.diffusion.samplers import SAMPLERS, Confidence, EntropyBound, FixedK
from diffusiongemma.diffusion.stop import Never
from diffusiongemma.options import COMMANDS, OF_DECODING, OPTIONS, SAMPLER_NAMES, Option, of_surface
from diffusiongemma.request_options import RequestOptions
from diffusiongemma.serve.native.bodies import EditRequest, InfillRequest
from diffusiongemma.serve.openai.bodies import ChatRequest


@pytest.fixture(scope="module")
def nano():
    return dg.load("nano")


DOCS = Path(__file__).parents[1] / "docs" / "options.md"


def documented(option: Option) -> str:
    commands = [command for command in COMMANDS if option.on(command)]
    line = f"`{option.on_command_line}` ({', '.join(commands)})" if commands else "–"
    body = f"`{option.in_body}`" if option.on("http") else "–"
    cells = f"`{option.name}`", line, body, str(option.values), option.default or "none", option.help
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def test_the_documented_table_is_the_one_in_the_code():
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    assert rows == [documented(option) for option in OPTIONS.values()]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_the_options_of_its_surface(name):
    import typer

    command = typer.main.get_command(build()).commands[name]
    flags = {flag for parameter in command.params for flag in parameter.opts}
    own = {"eval": {"--mode", "--steps", "--seed", "--verify"}}.get(name, set())  # which there take several values
    for option in OPTIONS.values():
        assert (option.on_command_line in flags) == (option.on(name) or option.on_command_line in own), option.name


def test_a_body_has_the_options_of_its_surface():
    for option in of_surface("http"):
        assert has_field(ChatRequest, option.in_body), option.name
    for option in of_surface("rewriting"):
        assert has_field(InfillRequest, option.in_body) and has_field(EditRequest, option.in_body), option.name


def has_field(body, place: str) -> bool:
    name, _, rest = place.partition(".")
    field = body.model_fields.get(name)
    inner = (
        [kind for kind in getattr(field.annotation, "__args__", ()) if hasattr(kind, "model_fields")] if field else []
    )
    return field is not None and (not rest or any(has_field(kind, rest) for kind in inner))


def test_python_has_them_all():
    assert {field.name for field in fields(RequestOptions)} | set(dg.Decoding().options()) >= set(OPTIONS)


def test_defaults_that_are_told_are_those_of_the_code():
    released = dg.Decoding().options()
    for option in OF_DECODING.values():
        if found := re.search(r"(\S+) as released", option.default):
            assert found[1] == str(released[option.name]), option.name


def test_flat_options_and_values_say_the_same():
    made = dg.Decoding.of(temperature=0, t_min=0.2, top_p=0.5, early_steps=3, stop_rule=Never(), entropy_bound=0.3)
    assert (made.temperature.scale, made.temperature.t_min, made.reading.top_p, made.early.steps) == (0, 0.2, 0.5, 3)
    assert made.sampler == EntropyBound(0.3) and made.stop == Never()
    assert dg.Decoding.of(**made.options()) == made
    assert made.with_options(early_steps=0).early is None
    assert dg.Decoding.of(sampler=Confidence(0.8), entropy_bound=0.3).sampler == Confidence(0.8), "a rule wins"


def test_a_sampler_may_be_given_by_its_name(nano):
    assert tuple(SAMPLERS) == SAMPLER_NAMES
    assert dg.Decoding(sampler="confidence").sampler == Confidence()
    assert dg.Decoding.of(sampler="fixed_k").sampler == dg.Decoding.of(sampler="fixed-k").sampler == FixedK()
    options = dict(seed=1, max_new_tokens=8, steps=3)
    assert nano.generate("hi", sampler="ancestral", **options).tokens == (
        nano.generate("hi", sampler=SAMPLERS["ancestral"](), **options).tokens
    )
    with pytest.raises(dg.InputError, match="sampler is 'best': choose entropy-bound, confidence") as caught:
        nano.generate("hi", sampler="best")
    assert caught.value.option == "sampler"


def test_texts_that_exist_take_top_p_and_patience(nano):
    asked = next(nano.infill_plan(["a", "b"], length=2, top_p=0.5, patience=3))[0].config
    assert (asked.reading.top_p, asked.patience) == (0.5, 3)


def test_an_unknown_option_is_answered_with_all_there_are(nano):
    with pytest.raises(dg.InputError, match="unknown option 'colour'") as caught:
        nano.generate("hi", colour="red")
    assert all(name in str(caught.value) for name in (*OPTIONS, "tools", "think"))
    with pytest.raises(dg.InputError, match="unknown option 'regex'") as caught:
        nano.infill("a", "b", regex="c")
    assert "regex," not in str(caught.value)


def test_type_checkers_know_every_choice():
    assert get_args(options.Verify) == options.VERIFY
    assert set(get_args(options.Mode)) == set(options.MODES)
