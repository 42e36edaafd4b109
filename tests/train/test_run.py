"""A run's settings by name: types from the dataclasses, presets changed, and the table in the docs."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from diffusiongemma.errors import InputError
from diffusiongemma.train.finetune import CHATS_LARGE, CHATS_SMALL, SUDOKU_LARGE, SUDOKU_SMALL
from diffusiongemma.train.run import PARTS, Run, field_types, parse_changes
from diffusiongemma.weights.lora import LoraConfig

DOCS = Path(__file__).parents[2] / "docs" / "training.md"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("train.steps=500", 500),
        ("train.steps=none", None),
        ("train.learning_rate=1e-3", 1e-3),
        ("train.betas=0.9, 0.95", (0.9, 0.95)),
        ("train.shard=false", False),
        ("train.optimiser=muon", "muon"),
        ("lora.targets=attention,mlp", ("attention", "mlp")),
        ("data.max_length=300", 300),
        ("rollouts=none", None),
    ],
)
def test_values_are_of_the_fields_type(text, value):
    (found,) = parse_changes([text]).values()
    assert found == value and type(found) is type(value)


def test_the_last_value_of_a_name_counts():
    assert parse_changes(["objective.draws=2", "objective.draws = 3"]) == {"objective.draws": 3}


@pytest.mark.parametrize("text", ["train.steps", "train.stepps=3", "steps=3", "rollouts.decoding=x", "train=none"])
def test_an_unknown_name_is_told_with_all_there_are(text):
    with pytest.raises(InputError) as caught:
        parse_changes([text])
    assert all(name in str(caught.value) for name in field_types()) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["train.steps=1.5", "train.steps=many", "train.shard=no", "train.betas=1", "train.ema="]
)
def test_a_value_of_another_type_is_refused(text):
    with pytest.raises(InputError, match=re.escape(f"--set {text}: give ")):
        parse_changes([text])


def test_changes_turn_parts_on_and_off_and_leave_the_rest():
    run = SUDOKU_SMALL.changed({"rollouts": None, "lora.rank": 4, "train.seed": 3})
    assert run.rollouts is None and run.lora == LoraConfig(rank=4) and run.objective == SUDOKU_SMALL.objective
    assert run.train.seed == 3 and run.train.learning_rate == SUDOKU_SMALL.train.learning_rate
    assert SUDOKU_LARGE.changed({"lora": None}).lora is None and SUDOKU_SMALL.changed({}) == SUDOKU_SMALL
    assert SUDOKU_SMALL.changed({"rollouts": None, "rollouts.pool": 2}).rollouts.after == 0.0
    with pytest.raises(InputError, match=r"rollouts\.pool is 0: give at least 1"):
        SUDOKU_SMALL.changed({"rollouts.pool": 0})


def test_every_field_but_the_decoding_has_a_name():
    every = {f"{part}.{f.name}" for part, kind in PARTS.items() for f in fields(kind)}
    assert every - set(field_types()) == {"rollouts.decoding"}


def shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def test_the_table_in_the_docs_is_that_of_the_dataclasses():
    """Every name once, in order, with the values of the defaults and of the four presets."""
    rows = re.findall(r"^\| `(\w+\.\w+)` \|.*\|([^|]*)\|([^|]*)\|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    lines = [(name, default.strip(), presets.strip()) for name, default, presets in rows]
    assert [name for name, _, _ in lines] == list(field_types())
    for name, default, presets in lines:
        part, field = name.split(".")
        assert default == shown(getattr(getattr(Run(), part) or PARTS[part](), field)), name
        runs = {"large": CHATS_LARGE, "small": CHATS_SMALL, "sudoku large": SUDOKU_LARGE, "sudoku small": SUDOKU_SMALL}
        told = dict(item.rsplit(" ", 1) for item in presets.split("; ") if item)
        for preset, run in runs.items():
            value = getattr(getattr(run, part) or PARTS[part](), field)
            size = preset.split()[-1]
            assert told.get(preset, told.get(size, default)) == shown(value), (name, preset)
