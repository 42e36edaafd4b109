"""`diffusiongemma decide`: typed questions about a text, answered with probabilities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffusiongemma.cli import options as given
from diffusiongemma.errors import InputError

if TYPE_CHECKING:
    from diffusiongemma.engine.plans.decide import Answer

Ask = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="One question: yes or no, or with --choice or --level one of these."),
]
Choice = Annotated[list[str] | None, typer.Option(metavar="LABEL", help="A label to choose from; may be repeated.")]
Level = Annotated[
    list[str] | None, typer.Option(metavar="TEXT", help="A level of a score, the lowest first; may be repeated.")
]
Questions = Annotated[
    str | None, typer.Option(metavar="FILE|JSON", help="Questions by name, as /v1/systemone takes them.")
]
Steps = Annotated[int, typer.Option(metavar="N", help="Denoise steps before the probabilities are read, 1 to 8.")]
Samples = Annotated[int, typer.Option(metavar="N", help="Canvases of noise whose readings are averaged, 1 to 32.")]
Seed = Annotated[str, typer.Option(metavar="N|random", help="The same seed gives the same numbers.")]
Images = Annotated[
    list[Path] | None, typer.Option(metavar="FILE", help="An image shown with the text; may be repeated.")
]
Think = Annotated[bool, typer.Option("--think", help="Let the model think first.")]


@given.takes(None)
def decide(
    file: given.File,
    ask: Ask = None,
    choice: Choice = None,
    level: Level = None,
    questions: Questions = None,
    steps: Steps = 1,
    samples: Samples = 1,
    seed: Seed = "0",
    image: Images = None,
    think: Think = False,
    model: given.Model = "nano",
    *,
    loading: given.Loading,
    as_json: given.Json = False,
    quiet: given.Quiet = False,
) -> None:
    """Answer typed questions about a text with probabilities.

    Reads a file, or stdin for -. The probabilities are exact for the canvas that was read, and not calibrated.
    """
    from diffusiongemma.cli.rewriting import watched
    from diffusiongemma.cli.running import open_model
    from diffusiongemma.cli.texts import read_text

    asked = _questions(ask, choice or [], level or [], questions)
    number, text = given.seed_of(seed), read_text(file, in_place=False)
    loaded = open_model(model, loading, quiet)
    options: dict[str, Any] = dict(steps=steps, samples=samples, seed=number, images=image or [], think=think)
    decision, took = watched(loaded, loaded.decide_plan(text, asked, **options), "deciding", quiet=quiet)
    if as_json:
        print(json.dumps(decision.as_object() | {"seed": decision.seed} | took.as_object(), ensure_ascii=False))
        return
    for name, answer in decision.answers.items():
        print(_line(name, answer))


def _questions(ask: str | None, choices: list[str], levels: list[str], questions: str | None) -> Any:
    """Those of a file, or the one that the options make. Raises `InputError`."""
    if (ask is None) == (questions is None):
        raise InputError("give `ask` with one question, or `questions` with several")
    if questions is not None:
        if choices or levels:
            raise InputError("the questions have their labels: leave `choice` and `level` out", option="questions")
        return _read(questions)
    if choices and levels:
        raise InputError("labels and levels are two types of question: leave one out", option="level")
    criteria: Any = levels or dict.fromkeys(choices, "") or None
    kind = "score" if levels else "choice" if choices else "noul"
    return {"answer": _checked({"type": kind, "instructions": ask, "criteria": criteria})}


def _checked(question: dict[str, Any]) -> dict[str, Any]:
    """What is wrong with a question is said of the option that was typed. Raises `InputError`."""
    from diffusiongemma.engine.plans.questions import Question

    try:
        Question.of("", question)
    except InputError as error:
        option = {"score": "level", "choice": "choice", "noul": "ask"}[question["type"]]
        raise InputError(error.message, option=option) from None
    return question


def _read(questions: str) -> Any:
    from diffusiongemma.cli.running import read_prompt

    text = questions if questions.lstrip().startswith("{") else read_prompt(Path(questions))
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"it is not JSON: {error}", option="questions") from None


def _line(name: str, answer: Answer) -> str:
    """`team: billing 0.98 (outage 0.02) confidence 0.91`"""
    ordered = sorted(answer.probabilities.items(), key=lambda pair: -pair[1])
    shown = [f"{label} {p:.3f}{_spread(answer, label)}" for label, p in ordered]
    if answer.type == "noul":
        return f"{name}: {answer.value:.3f}{_spread(answer, 'true')}"
    if answer.type == "score":
        legend = answer.legend or {}
        shown = [
            f"{level} ({legend[level]}) {p:.3f}{_spread(answer, level)}" for level, p in answer.probabilities.items()
        ]
        return f"{name}: {answer.value:.2f}, of {', '.join(shown)}; confidence {answer.confidence:.2f}"
    return f"{name}: {', '.join(shown)}; confidence {answer.confidence:.2f}"


def _spread(answer: Answer, label: str) -> str:
    return f" ± {answer.spread[label]:.3f}" if answer.spread else ""
