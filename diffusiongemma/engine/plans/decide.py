"""Typed decisions: how probable each of a few labels is, read from a canvas that has hardly been denoised."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from diffusiongemma.chat import Prompt
from diffusiongemma.chat.messages import thought_ids
from diffusiongemma.control.compiling import compile_constraint
from diffusiongemma.control.constraint import Constraint
from diffusiongemma.control.inference.labels import Labels
from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.engine.plans.plan import Plan, PlanContext
from diffusiongemma.engine.plans.questions import Question, questions_of, state_text
from diffusiongemma.engine.request import Request
from diffusiongemma.errors import InputError
from diffusiongemma.events import Result
from diffusiongemma.option_values import LARGEST_SEED, Switch, Whole

STEPS, SAMPLES, THINK = Whole(1, 8), Whole(1, 32), Switch()
TOGETHER = 16  # requests of one turn; between turns those of others have theirs

PromptOf = Callable[[Any], Prompt]  # of what a user says: a text, or parts with images


@dataclass(frozen=True)
class Answer:
    """What was decided of one question. `probabilities` add up to 1: of a choice by label, of a score by the number of
    the level, of a noul by "true" and "false". `spread` is their standard deviation over the samples."""

    type: str
    probabilities: Mapping[str, float]
    spread: Mapping[str, float]
    legend: Mapping[str, Any] | None = None

    @property
    def value(self) -> float | str:
        """The probability of "true", the most probable label, or the mean level."""
        if self.type == "noul":
            return self.probabilities["true"]
        if self.type == "choice":
            return max(self.probabilities, key=lambda label: self.probabilities[label])
        return sum(int(level) * p for level, p in self.probabilities.items())

    @property
    def confidence(self) -> float:
        """1 − H(p) / ln K, from 0 (all alike) to 1 (certain)."""
        entropy = -sum(p * math.log(p) for p in self.probabilities.values() if p > 0)
        return min(1.0, max(0.0, 1 - entropy / math.log(len(self.probabilities))))

    def as_object(self) -> dict[str, Any]:
        """As it goes over the wire; the spread only where there were several samples."""
        told: dict[str, Any] = {"type": self.type, self.type: self.value}
        if self.type == "score":
            told["legend"] = dict(self.legend or {})
        if self.type != "noul":
            told |= {"probabilities": dict(self.probabilities), "confidence": self.confidence}
        return told | ({"spread": dict(self.spread)} if self.spread else {})


@dataclass(frozen=True)
class Decision:
    """The answers by the names of their questions. `input_tokens` counts each question's prompt once."""

    answers: Mapping[str, Answer]
    seed: int
    steps: int
    samples: int
    input_tokens: int
    output_tokens: int = 0
    results: tuple[Result, ...] = field(default=(), repr=False)

    def as_object(self) -> dict[str, Any]:
        """As it goes over the wire, without the model's name."""
        usage = {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens}
        return {"answers": {name: one.as_object() for name, one in self.answers.items()}, "usage": usage}


@dataclass(frozen=True)
class Asked:
    """A question ready to be read."""

    question: Question
    prompt: Prompt
    labels: Labels
    constraint: Constraint | None

    def answer(self, results: Sequence[Result]) -> Answer:
        """From one reading, or the mean of several."""
        read = np.exp([result.label_logprobs for result in results])  # [samples, K]
        keys, question = self.question.keys, self.question
        spread = dict(zip(keys, read.std(0).tolist(), strict=True)) if len(results) > 1 else {}
        return Answer(question.type, dict(zip(keys, read.mean(0).tolist(), strict=True)), spread, question.legend)


def decide_plan(
    context: PlanContext,
    prompt_of: PromptOf,
    state: Any,
    questions: Any,
    *,
    steps: int = 1,
    samples: int = 1,
    images: Sequence[Any] = (),
    think: bool = False,
) -> Plan[Decision]:
    """Read how probable the labels of each question are.

    Each question has a canvas of its own, of full width, behind a prompt with the state and the question. After `steps`
    denoise steps the exact distribution over its labels is read (`control.inference.labels`); where there are several,
    the canvas is held to the labels meanwhile. With `samples` that is done from so many canvases of noise, with
    the seeds from `seed` on, and averaged. With `think` each reading has a thought of its own before it, which is
    written as in any answer. Raises `InputError`.
    """
    for name, bounds, value in (("steps", STEPS, steps), ("samples", SAMPLES, samples), ("think", THINK, think)):
        if not bounds.takes(value):
            raise InputError(f"give {bounds}", option=name, got=value)
    if isinstance(images, (str, bytes)) or not isinstance(images, Sequence):
        raise InputError("give a list of images", option="images", got=images)
    text = state_text(state)
    asked = [_asked(context, prompt_of, question, text, images, int(steps)) for question in questions_of(questions)]
    return _decide(context, asked, int(steps), int(samples), thought_ids(context.tokens.tokenizer) if think else None)


def _asked(
    context: PlanContext, prompt_of: PromptOf, question: Question, state: str, images: Sequence[Any], steps: int
) -> Asked:
    vocabulary, ends, message = context.tokens.vocabulary, context.config.eos_token_ids, question.message(state)
    content = [*({"type": "image", "image": image} for image in images), {"type": "text", "text": message}]
    labels = Labels.of(question.labels, vocabulary, ends, context.canvas_length)
    held = (
        compile_constraint(choices=question.labels, vocabulary=vocabulary, end_ids=ends) if steps > 1 else None
    )  # a single step reads the canvas before anything could be held
    return Asked(question, prompt_of(content if images else message), labels, held)


def _decide(
    context: PlanContext, asked: list[Asked], steps: int, samples: int, thought: tuple[int, int] | None
) -> Plan[Decision]:
    rules = context.config.with_options(steps=steps, min_tokens=0)
    work = [(one, sample) for one in asked for sample in range(samples)]
    results: list[Result] = []
    written = 0
    for first in range(0, len(work), TOGETHER):
        turn = work[first : first + TOGETHER]
        prompts = [one.prompt for one, _ in turn]
        if thought is not None:
            free = context.config
            said = yield [_thinking(context, one.prompt, _seeded(free, i), id) for id, (one, i) in enumerate(turn)]
            thoughts = [_cut(result.tokens, thought, free.eos_token_ids) for result in said]
            prompts = [replace(prompt, ids=prompt.ids + own) for prompt, own in zip(prompts, thoughts, strict=True)]
            written += sum(map(len, thoughts))
        ready = enumerate(zip(turn, prompts, strict=True))
        results += yield [_reading(context, one, prompt, _seeded(rules, i), id) for id, ((one, i), prompt) in ready]
    answers = {one.question.name: one.answer(results[i * samples : (i + 1) * samples]) for i, one in enumerate(asked)}
    read = sum(len(one.prompt.ids) for one in asked)
    return Decision(answers, rules.seed, steps, samples, read, written, tuple(results))


def _seeded(rules: Decoding, sample: int) -> Decoding:
    return rules.with_options(seed=(rules.seed + sample) & LARGEST_SEED)


def _reading(context: PlanContext, asked: Asked, prompt: Prompt, rules: Decoding, id: int) -> Request:
    fields: dict[str, Any] = {"config": rules, "labels": asked.labels, "max_new_tokens": context.canvas_length}
    return context.request(prompt, id, asked.constraint, **fields)


# --- a thought before ------------------------------------------------------------------------------------------------


def _thinking(context: PlanContext, prompt: Prompt, rules: Decoding, id: int) -> Request:
    return context.request(prompt, id, config=rules, thinking=True, max_new_tokens=rules.max_new_tokens)


def _cut(tokens: Sequence[int], thought: tuple[int, int], ends: Sequence[int]) -> list[int]:
    """The thought that an answer begins with, closed where it was not; none where there is none."""
    opening, closing = thought
    if not tokens or tokens[0] != opening:
        return []
    own = tokens[: tokens.index(closing)] if closing in tokens else [token for token in tokens if token not in ends]
    return [*own, closing]
