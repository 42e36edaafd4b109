"""What messages call an option is what can be typed."""

from __future__ import annotations

import pytest
import typer

from diffusiongemma.cli import _exit_code, build
from diffusiongemma.cli.spelling import RENAMED, command_of, spelt
from diffusiongemma.errors import InputError
from diffusiongemma.options import of_surface

PROGRAM = typer.main.get_command(build())


def leaves(command, path=()):
    commands = getattr(command, "commands", None)
    if commands is None:
        return [(path, command)]
    return [leaf for name, child in commands.items() for leaf in leaves(child, (*path, name))]


LEAVES = leaves(PROGRAM)


@pytest.mark.parametrize("path, command", LEAVES, ids=[" ".join(path) for path, _ in LEAVES])
def test_every_option_of_every_command_is_spelt_as_it_is_typed(path, command):
    assert command_of([*path, "--seed", "x"], PROGRAM) is command
    python_names = {new: old for old, new in RENAMED.items()}
    for parameter in command.params:
        told = spelt(python_names.get(parameter.name, parameter.name), command)
        if parameter.param_type_name == "option":
            assert told in parameter.opts and told.startswith("--")
        else:
            assert told == parameter.name.upper()


def test_every_option_of_decoding_is_spelt_as_its_row_says():
    for name in ("run", "chat", "infill", "edit", "eval"):
        command = command_of([name], PROGRAM)
        for option in of_surface(name):
            assert spelt(option.name, command) == option.on_command_line


def test_options_have_the_names_that_users_know():
    run, edit, infill = (command_of([name], PROGRAM) for name in ("run", "edit", "infill"))
    assert [spelt(name, run) for name in ("min_tokens", "json_schema", "choices", "banned_words", "as_json")] == [
        "--min-new-tokens", "--json-schema", "--choice", "--ban", "--json",
    ]  # fmt: skip
    assert (spelt("instruction", edit), spelt("instruction", infill)) == ("INSTRUCTION", "--instruction")
    assert spelt("logit_bias", run) == "logit_bias", "what cannot be typed keeps its name"


def test_mistakes_are_told_in_the_spelling_of_the_command(capsys, monkeypatch):
    def fails(*_, **__):
        raise InputError("give at least `min_tokens`, see `pins`", option="choices", got=["a"])

    monkeypatch.setattr("diffusiongemma.cli.run.open_model", fails)
    assert _exit_code(["run", "x"]) == 2
    told = capsys.readouterr().err
    assert told == "diffusiongemma: --choice is ['a']: give at least --min-new-tokens, see pins\n"
