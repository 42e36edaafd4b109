"""Two models on the same questions with the same seeds: what only one of them solves, and in how many steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from diffusiongemma.evaluation.answering import Setting, ask
from diffusiongemma.evaluation.report import Run, tally
from diffusiongemma.evaluation.skills import skill_suite
from diffusiongemma.evaluation.sudoku import sudoku_suite

if TYPE_CHECKING:
    from diffusiongemma.api import DiffusionGemma
    from diffusiongemma.evaluation.questions import Suite

COMPARED = ("sudoku", "extraction", "repair")


@dataclass(frozen=True)
class Comparison:
    """Shares of `n` questions solved, and steps to a finished canvas; `gained` and `lost` count questions."""

    task: str
    n: int
    before: float
    after: float
    gained: int
    lost: int
    steps_before: float
    steps_after: float

    @property
    def can_something(self) -> bool:
        return bool(self.before or self.after)

    def as_object(self) -> dict[str, Any]:
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}


def compared(
    before: DiffusionGemma,
    after: DiffusionGemma,
    n: int,
    *,
    tasks: Sequence[str] = COMPARED,
    seed: int = 0,
    batch: int = 16,
    watch: Callable[[str, int], None] = lambda task, answered: None,
) -> list[Comparison]:
    """`n` questions of each task to both models. `watch` hears of each answer, and how many there are to the task."""
    found = []
    for task in tasks:
        suite = sudoku_suite(n, seed, None) if task == "sudoku" else skill_suite(task, n, seed)
        runs = [answered(model, suite, seed=seed, batch=batch, watch=watch) for model in (before, after)]
        found.append(comparison(suite, *runs))
    return found


def answered(
    model: DiffusionGemma,
    suite: Suite,
    *,
    seed: int = 0,
    batch: int = 16,
    watch: Callable[[str, int], None] = lambda task, answered: None,
) -> Run:
    """A suite answered as the model's checkpoint says it is to be decoded."""
    setting = Setting("diffusion", model.generation.steps, verify=model.generation.verify)

    def heard() -> Any:
        for count, answer in enumerate(ask(model, suite, setting, seed=seed, batch=batch), 1):
            watch(suite.name, count)
            yield answer

    return tally(suite, setting, heard())


def comparison(suite: Suite, before: Run, after: Run) -> Comparison:
    """Two runs of one suite, by the first of its figures."""
    figure = suite.figures[0]
    solved = [
        (bool(one.score[figure]), bool(two.score[figure])) for one, two in zip(before.scored, after.scored, strict=True)
    ]
    return Comparison(
        suite.name,
        len(solved),
        sum(one for one, _ in solved) / len(solved),
        sum(two for _, two in solved) / len(solved),
        sum(two and not one for one, two in solved),
        sum(one and not two for one, two in solved),
        before.cost.steps_per_canvas or 0.0,
        after.cost.steps_per_canvas or 0.0,
    )
