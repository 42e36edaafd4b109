"""Measuring a model on held-out work: checkable skills, and how well it writes and predicts English.

A `Suite` is a list of questions with their scores, a `Setting` one way to decode; `ask` puts the questions to a model
and `tally` turns the answers into a `Run` of figures. `text` measures what has no right answer.
"""

from __future__ import annotations

from diffusiongemma.evaluation.answering import Answer, Setting, ask, settings
from diffusiongemma.evaluation.held_out import held_out
from diffusiongemma.evaluation.questions import Question, Suite
from diffusiongemma.evaluation.report import Run, report, tally, wilson
from diffusiongemma.evaluation.skills import SKILLS, skill_suite
from diffusiongemma.evaluation.sudoku import file_suite, sudoku_suite

__all__ = [
    "SKILLS", "Answer", "Question", "Run", "Setting", "Suite", "ask", "file_suite", "held_out", "report", "settings",
    "skill_suite", "sudoku_suite", "tally", "wilson",
]  # fmt: skip
