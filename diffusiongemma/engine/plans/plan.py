"""What a plan is, and what every plan needs of the model."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from diffusiongemma.chat import Prompt, encode_prompt
from diffusiongemma.config import ModelConfig
from diffusiongemma.control.constraint import Constraint
from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.engine.checks import checked
from diffusiongemma.engine.request import Request
from diffusiongemma.errors import InputError
from diffusiongemma.events import Result
from diffusiongemma.options import VERIFY, check
from diffusiongemma.text.seams import TextTokens

T = TypeVar("T")

# Yields requests that can run together, with ids 0, 1, …; is sent their results in the same order; returns its value.
# Any engine can drive it: `plan.send(results)` until `StopIteration`, whose `value` is what came out.
Plan = Generator[list[Request], list[Result], T]


def drive(plan: Plan[T], results_of: Any) -> T:
    """Run a plan to its end; `results_of` takes a list of requests and gives their results."""
    try:
        requests = next(plan)
        while True:
            requests = plan.send(results_of(requests))
    except StopIteration as stop:
        value: T = stop.value
        return value


@dataclass(frozen=True)
class PlanContext:
    """A model's tokens, shape and decoding rules: all that a plan knows of it."""

    tokens: TextTokens
    model: ModelConfig
    config: Decoding

    @property
    def canvas_length(self) -> int:
        return self.model.canvas_length

    def raw_prompt(self, text_ids: Iterable[int]) -> Prompt:
        """A text to go on with, without chat markup."""
        return Prompt([self.model.bos_token_id, *text_ids], [], [])

    def chat_prompt(self, message: str, written: Iterable[int]) -> Prompt:
        """A user's message, and what has been written of the answer."""
        ids = encode_prompt(message, self.tokens.tokenizer).ids
        return Prompt([*ids, *written], [], [])

    def tail(self, count: int, chat: bool) -> list[int]:
        """`count` end tokens as models are trained to fill a canvas: the end of the turn first, in a chat."""
        ends = self.config.eos_token_ids
        fill = self.model.eos_token_id if isinstance(self.model.eos_token_id, int) else self.model.eos_token_id[0]
        turn = self.tokens.tokenizer.convert_tokens_to_ids("<turn|>")
        first = turn if chat and turn in ends else fill
        return [first, *[fill] * (count - 1)] if count else []

    def request(
        self, prompt: Prompt, id: int, constraint: Constraint | None = None, *, checks: bool = False, **fields: Any
    ) -> Request:
        """With `checks` the encoder checks its canvases as the rules say; what stands between other text it cannot."""
        config: Decoding = fields.pop("config", self.config)
        verify = config.verify if checks else VERIFY[0]
        config = config.with_options(max_new_tokens=fields.pop("max_new_tokens"), verify=verify)
        return checked(Request(prompt, config, id=id, **fields), self.model, lambda: constraint)


def plan_config(config: Decoding, options: dict[str, Any], checks: bool = False) -> Decoding:
    """The decoding rules of a plan; with `checks` it has canvases that the encoder can check.

    Raises `InputError` for options that contradict what a plan does.
    """
    if given := {"max_new_tokens", "min_tokens"} & set(options):
        raise InputError("the text and its holes set the length: leave it out", option=min(given))
    if options.get("mode", "diffusion") not in ("diffusion", "auto"):
        raise InputError("infilling and editing work on a canvas: leave it at diffusion", option="mode")
    if options.get("early_steps"):
        raise InputError("early text does not go with infilling and editing: leave it at 0", option="early_steps")
    verify = options.get("verify", config.verify if checks else VERIFY[0])
    check({"verify": verify})
    if verify != VERIFY[0] and not checks:
        raise InputError("the encoder cannot check what stands between other text: leave it at never", option="verify")
    return config.with_options(**{**options, "mode": "diffusion", "early_steps": 0, "verify": verify})
