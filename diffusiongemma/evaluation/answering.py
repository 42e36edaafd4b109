"""Putting questions to a model, in one or several ways of decoding."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.errors import InputError
from diffusiongemma.evaluation.questions import Question, Suite
from diffusiongemma.events import CanvasCommitted, Finished, Result
from diffusiongemma.options import VERIFY

if TYPE_CHECKING:
    from diffusiongemma.api import DiffusionGemma
    from diffusiongemma.engine.request import Request

MODES = ("diffusion", "ar", "both")


@dataclass(frozen=True)
class Setting:
    """One way to decode: the mode, for diffusion the most steps that a canvas may take and which canvases the encoder
    checks, and whether answers are held to the structure of their question."""

    mode: str
    steps: int | None = None
    constrained: bool = False
    verify: str = VERIFY[0]

    @property
    def more(self) -> dict[str, Any]:
        """What a report says beside mode and steps."""
        checked = {"verify": self.verify} if self.verify != VERIFY[0] else {}
        return checked | ({"constrained": True} if self.constrained else {})

    def __str__(self) -> str:
        how = "autoregressive" if self.mode == "ar" else f"diffusion, ≤ {self.steps} steps"
        which = {"unconverged": "unsure ones ", "surprising": "surprising ones ", "always": ""}
        checked = f", {which[self.verify]}checked" if self.verify in which else ""
        return how + checked + (", constrained" if self.constrained else "")


@dataclass(frozen=True)
class Canvas:
    """A finished canvas: denoise steps taken, tokens committed, and whether it stopped of itself."""

    steps: int
    tokens: int
    converged: bool


@dataclass(frozen=True)
class Answer:
    """What a model answered and what it took. `canvases` is empty in autoregressive mode."""

    text: str
    tokens: int
    forward_passes: int
    canvases: tuple[Canvas, ...] = ()
    finish_reason: str = "stop"
    seed: int = 0


def settings(
    mode: str, steps: Sequence[int], default: Decoding, constrained: bool = False, verify: Sequence[str] = ()
) -> list[Setting]:
    """The ways to decode that `mode`, the `steps` and kinds of `verify` asked for name, or else the `default`; with
    `constrained` each without and with it.

    Raises `InputError` for a bad combination.
    """
    if mode not in MODES:
        raise InputError(f"choose {', '.join(MODES)}", option="mode", got=mode)
    if mode == "ar" and (steps or verify):
        raise InputError("autoregressive decoding has no canvas: leave `steps` out, `verify` too, or use `mode` both")
    wrong = next((count for count in steps if count < 1), None)
    if wrong is not None:
        raise InputError("give a whole number of at least 1", option="steps", got=wrong)
    kinds = [default.with_options(verify=kind).verify for kind in dict.fromkeys(verify or (default.verify,))]
    counts = dict.fromkeys(steps or (default.steps,))
    by_diffusion = [Setting("diffusion", count, verify=kind) for count in counts for kind in kinds]
    ways = {"diffusion": by_diffusion, "ar": [Setting("ar")], "both": [*by_diffusion, Setting("ar")]}[mode]
    return [replace(way, constrained=held) for way in ways for held in ((False, True) if constrained else (False,))]


def ask(
    model: DiffusionGemma,
    suite: Suite,
    setting: Setting,
    *,
    seed: int = 0,
    batch: int = 16,
    numbers: Sequence[int] | None = None,
    **options: Any,
) -> Iterator[tuple[int, Answer]]:
    """The number of each question and its answer, as they are finished; question i is generated with seed `seed` + i.

    With `numbers` only those questions are asked. `options` are further options of decoding. Answers may be as long as
    the suite's `room`, rounded up to whole canvases. Raises `InputError`.
    """
    from diffusiongemma.engine.engine import Engine

    width = model.config.canvas_length
    decoding: dict[str, Any] = {"mode": setting.mode, "max_new_tokens": -(-suite.room // width) * width, **options}
    if setting.mode != "ar":
        decoding["verify"] = setting.verify
    if setting.steps is not None:
        decoding["steps"] = setting.steps
    requests = [
        model.request(question.prompt, id=i, seed=(seed + i) % 2**64, **decoding, **_held(question, setting))
        for i, question in enumerate(suite.questions)
        if numbers is None or i in numbers
    ]
    yield from _answers(Engine(model.network, model.tokenizer, batch), requests, suite.questions, model.tokenizer)


def _held(question: Question, setting: Setting) -> dict[str, Any]:
    return question.structure if setting.constrained else {}


def _answers(
    engine: Any, requests: list[Request], questions: list[Question], tokenizer: Any
) -> Iterator[tuple[int, Answer]]:
    canvases: dict[int, list[Canvas]] = defaultdict(list)
    for event in engine.run(requests):
        if isinstance(event, CanvasCommitted):
            canvases[event.request].append(Canvas(event.steps, len(event.tokens), event.converged))
        elif isinstance(event, Finished):
            taken = tuple(canvases.pop(event.request, ())) if event.result.mode == "diffusion" else ()
            yield event.request, _answer(event.result, taken, questions[event.request], tokenizer)


def _answer(result: Result, canvases: tuple[Canvas, ...], question: Question, tokenizer: Any) -> Answer:
    from diffusiongemma.chat import decode

    # A continuation is no reply in a chat: nothing in it is markup.
    text = result.text if isinstance(question.prompt, str) else decode(result.tokens, tokenizer)
    return Answer(text, len(result.tokens), result.forward_passes, canvases, result.finish_reason, result.seed)
