"""POST /v1/infill and /v1/edits, and completions with a suffix: bodies to plans, outcomes to answers."""

from __future__ import annotations

from typing import Any

from diffusiongemma.api import DiffusionGemma
from diffusiongemma.engine.plans.edit import EditResult
from diffusiongemma.engine.plans.infill import InfillResult
from diffusiongemma.serve.body_types import seed_of
from diffusiongemma.serve.errors import blaming, refusal
from diffusiongemma.serve.model_names import check_model
from diffusiongemma.serve.native.bodies import EditRequest, InfillRequest
from diffusiongemma.serve.native.diffusion_field import DiffusionOptions, diffusion_options
from diffusiongemma.serve.native.plans import PlanJob, Spent
from diffusiongemma.serve.openai.bodies import CompletionRequest
from diffusiongemma.serve.openai.options import check_common, decoding, max_tokens_of, prompts_of, stops_of
from diffusiongemma.serve.openai.styles import Style
from diffusiongemma.serve.settings import Settings
from diffusiongemma.serve.stop_strings import StopFinder
from diffusiongemma.text.holes import split_at

# What shapes a whole answer, or looks into one, has no meaning for a text of which parts stand.
_ELSEWHERE = (
    "pins",
    "regex",
    "choices",
    "template",
    "banned_words",
    "required_words",
    "min_tokens",
    "branch",
    "verify",
)
_OFF = ("alternatives", "details", "think", "early_text")


def infill_job(body: InfillRequest, model: DiffusionGemma, settings: Settings) -> PlanJob:
    """Raises `ApiError` for what cannot be honoured."""
    options = _options(body, model, settings)
    texts = _texts(body)
    length: Any = tuple(body.length) if isinstance(body.length, list) else body.length or "auto"
    if body.length == 0:
        raise refusal("length is 0: give at least 1 token", "length")
    with blaming("length"):
        plan = model.infill_plan(texts, instruction=body.instruction, length=length, **options)
    return PlanJob(plan, _infill_told, stream=bool(body.stream), frames=_frames(body))


def _texts(body: InfillRequest) -> list[str]:
    if (body.text is None) == (body.prefix is None and body.suffix is None):
        raise refusal("give either text with holes, or prefix and suffix", "text")
    if body.text is None:
        return [body.prefix or "", body.suffix or ""]
    with blaming("text"):
        return split_at(body.text, body.hole)


def _infill_told(outcome: InfillResult, spent: Spent) -> dict[str, Any]:
    written = sum(outcome.lengths)
    return {
        "object": "infill",
        "text": outcome.text,
        "fills": list(outcome.fills),
        "lengths": list(outcome.lengths),
        "usage": spent.usage(written),
        "diffusion": spent.summary(outcome.seed, outcome.steps, written),
    }


def edit_job(body: EditRequest, model: DiffusionGemma, settings: Settings) -> PlanJob:
    """Raises `ApiError` for what cannot be honoured."""
    options: dict[str, Any] = _options(body, model, settings)
    if body.strength is not None:
        options["strength"] = body.strength
    spans = None if body.spans is None else [(start, stop) for start, stop in body.spans]
    with blaming("spans" if spans else "input"):
        plan = model.edit_plan(body.input, body.instruction, spans=spans, **options)
    return PlanJob(plan, _edit_told, stream=bool(body.stream), frames=_frames(body))


def _edit_told(outcome: EditResult, spent: Spent) -> dict[str, Any]:
    written = sum(len(result.tokens) for result in outcome.results)
    return {
        "object": "edit",
        "text": outcome.text,
        "diff": [list(change) for change in outcome.diff],
        "changed_outside": outcome.changed_outside,
        "usage": spent.usage(written),
        "diffusion": spent.summary(outcome.seed, outcome.steps, written),
    }


def suffix_job(body: CompletionRequest, model: DiffusionGemma, settings: Settings) -> PlanJob:
    """A completion that ends where `suffix` begins. `max_tokens` is the most that may stand between."""
    check_common(body, settings)
    _refuse_elsewhere(body.diffusion)
    for name in ("n", "best_of"):
        if getattr(body, name) not in (None, 1):
            raise refusal(f"{name} is 1 with a suffix", name)
    for name in ("logprobs", "logit_bias"):
        if getattr(body, name) is not None:
            raise refusal(f"{name} does not go with a suffix: leave it out", name)
    (prompt,) = prompts_of(body) if isinstance(body.prompt, str) and body.prompt else [body.prompt]
    if not isinstance(prompt, str):
        raise refusal("with a suffix the prompt is one text", "prompt")
    options = {k: v for k, v in decoding(body, model).items() if k != "max_new_tokens"}
    most, room = max_tokens_of(body), max(1, model.config.canvas_length - 2)
    with blaming("suffix"):
        length: Any = "auto" if most is None else (1, min(most, room))
        plan = model.infill_plan([prompt, body.suffix or ""], length=length, **options)
    answer = _SuffixAnswer(Style(settings.model_name), stops_of(body), _usage_asked(body))
    return PlanJob(plan, answer.whole, answer.chunks, bool(body.stream), _frames(body))


class _SuffixAnswer:
    """The fill as a plain completion."""

    def __init__(self, style: Style, stops: tuple[str, ...], usage: bool):
        self.style, self.stops, self.usage = style, stops, usage

    def whole(self, outcome: InfillResult, spent: Spent) -> dict[str, Any]:
        reply = self.style.envelope(self.style.kind, [self._choice(outcome, spent)])
        return reply | {"usage": spent.usage(sum(outcome.lengths))}

    def chunks(self, outcome: InfillResult, spent: Spent) -> list[dict[str, Any]]:
        choice = self._choice(outcome, spent)
        parts = [choice | {"finish_reason": None}, choice | {"text": ""}]
        del parts[0]["diffusion"]
        chunks = [self.style.envelope(self.style.chunk_kind, [part]) for part in parts]
        return chunks + ([self.style.usage_chunk(spent.usage(sum(outcome.lengths)))] if self.usage else [])

    def _choice(self, outcome: InfillResult, spent: Spent) -> dict[str, Any]:
        finder = StopFinder(self.stops)
        text = finder.push(outcome.fills[0]) + finder.flush()
        summary = spent.summary(outcome.seed, outcome.steps, sum(outcome.lengths))
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": "stop", "diffusion": summary}


def _usage_asked(body: CompletionRequest) -> bool:
    return body.stream_options is not None and body.stream_options.include_usage


def _options(body: InfillRequest | EditRequest, model: DiffusionGemma, settings: Settings) -> dict[str, Any]:
    check_model(body.model, settings)
    _refuse_elsewhere(body.diffusion)
    if body.diffusion is not None and body.diffusion.frames and not body.stream:
        raise refusal("frames are events of a stream: send stream: true", "diffusion.frames")
    options: dict[str, Any] = {"seed": seed_of(body.seed)} | diffusion_options(body.diffusion, model)
    return options if body.temperature is None else options | {"temperature": body.temperature}


def _refuse_elsewhere(diffusion: DiffusionOptions | None) -> None:
    for name in _ELSEWHERE + _OFF:
        value = getattr(diffusion, name, None)
        if value if name in _OFF else value is not None:
            message = f"{name} does not go with infilling and editing: leave it out"
            raise refusal(message, f"diffusion.{name}", "unsupported_parameter")
    if diffusion is not None and diffusion.mode == "ar":
        raise refusal("infilling and editing work on a canvas: leave mode at diffusion", "diffusion.mode")


def _frames(body: Any) -> bool:
    return body.diffusion is not None and body.diffusion.frames
