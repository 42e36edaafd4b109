from __future__ import annotations

import pytest

import diffusiongemma as dg
from diffusiongemma.tasks import TASKS
from diffusiongemma.weights.skills import SMALL_TALK, WORDS, abilities


def test_what_a_model_can_do_is_told_in_two_sentences():
    assert abilities("solver", 2_100_000, ["sudoku"]) == (
        "solver has 2.1 million parameters and was taught to solve sudokus. "
        "Whatever else you ask, it makes something up."
    )
    told = abilities("small", 26_000_000_000, ["repair", "poems", SMALL_TALK, "sudoku"])
    assert told.startswith(
        "small has 26 billion parameters and was taught to solve sudokus, mend and change short texts, "
        "talk a little about itself and poems. "
    )
    assert told.endswith("it says that it does not know, or makes something up.")
    assert abilities("any", 10, []) == ""


def test_the_embedded_model_says_what_it_can_do():
    model = dg.load("nano")
    assert model.about.startswith("nano has ") and "solve sudokus" in model.about
    assert set(model.skills) <= set(WORDS)


@pytest.mark.parametrize("task", sorted(set(TASKS) - {"words"}))
def test_tasks_have_words_of_their_own(task: str):
    assert task in WORDS


def test_packed_weights_count_as_parameters():
    assert dg.load("nano", device="cpu", quantize="int8").parameters == dg.load("nano", device="cpu").parameters > 0
