"""Errors: the option at fault is a fact of the error, and each surface spells it in its own way."""

from __future__ import annotations

from diffusiongemma.errors import CheckpointError, InputError


def test_an_option_is_spelt_as_the_surface_spells_it() -> None:
    error = InputError("give a whole number from 0 to `max_new_tokens`", option="min_tokens", got=-1)
    assert str(error) == "min_tokens is -1: give a whole number from 0 to max_new_tokens"
    assert error.worded(lambda name: "--" + name.replace("_", "-")) == (
        "--min-tokens is -1: give a whole number from 0 to --max-new-tokens"
    )
    assert (error.option, error.got) == ("min_tokens", -1)


def test_an_error_without_an_option_is_its_message() -> None:
    error = InputError("the text `A B` is empty")
    assert str(error) == "the text `A B` is empty"
    assert error.option is None
    assert CheckpointError("config.json is missing").worded(str.upper) == "config.json is missing"


def test_none_is_a_value() -> None:
    assert str(InputError("give a number", option="seed", got=None)) == "seed is None: give a number"
