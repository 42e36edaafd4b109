"""POST /infill of llama.cpp's server, which llama.vim and llama.vscode speak: a gap to fill, within a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field

from diffusiongemma.engine.plans.infill import MOST_CANDIDATES, InfillResult
from diffusiongemma.serve.body_types import JsonObject, Reply, Seed, Text, TopK, Whole
from diffusiongemma.serve.errors import ApiError, FieldOf
from diffusiongemma.serve.invalid import parsed
from diffusiongemma.serve.job import Dialect, Job, Output
from diffusiongemma.serve.llamacpp.errors import llamacpp_error
from diffusiongemma.serve.native.diffusion_field import DiffusionOptions, fields_of
from diffusiongemma.serve.native.summary import DiffusionSummary, Spent
from diffusiongemma.serve.openai.bodies import CompletionRequest
from diffusiongemma.serve.openai.suffix import fill_of, suffix_plan
from diffusiongemma.serve.service import Service
from diffusiongemma.serve.tolerance import ANY, OF_REQUESTS, Asking, Tolerant
from diffusiongemma.serve.transport.sse import sse

USUAL = 24  # tokens, where nothing is asked for


class Extra(Tolerant):
    """Text of another file."""

    filename: Text | None = None
    text: Text


class LlamaInfill(Asking):
    harmless = {**OF_REQUESTS, "t_max_prompt_ms": ANY, "lora": ([],), "n_indent": ANY}
    model: Text | None = None
    input_prefix: Text = ""
    input_suffix: Text = ""
    input_extra: list[Extra] = Field([], max_length=256)
    prompt: Text = Field("", description="what stands before the cursor in its line")
    n_predict: Whole = Field(USUAL, ge=-2, le=2**31, description="0 only prepares")
    t_max_predict_ms: Whole | None = Field(
        None, ge=0, le=2**31, description="fewer steps, so that the answer comes in time"
    )
    seed: Seed | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: TopK = None
    min_p: float | None = Field(None, ge=0, le=1)
    stop: Text | list[Text] | None = None
    stream: bool | None = None
    response_fields: list[Text] | None = None
    diffusion: DiffusionOptions | None = None


class LlamaInfillReply(Reply):
    content: str | None = None
    stop: bool | None = None
    stop_type: Literal["eos", "limit", "none"] | None = None
    stopping_word: str | None = None
    truncated: bool | None = None
    model: str | None = None
    index: int | None = None
    tokens_predicted: int | None = None
    tokens_evaluated: int | None = None
    tokens_cached: int | None = None
    timings: dict[str, float] | None = None
    diffusion: DiffusionSummary | None = None


class LlamaProps(Reply):
    default_generation_settings: JsonObject
    total_slots: int
    model_path: str
    chat_template: str
    modalities: dict[str, bool]
    build_info: str


def infill_job(body: LlamaInfill, service: Service) -> Job:
    """Raises `ApiError` or `InputError` for what cannot be honoured."""
    if body.n_predict == 0:
        return Job([], LlamaOutput(body, (), service), bool(body.stream))
    same = ("model", "temperature", "top_p", "top_k", "min_p", "stop", "stream", "diffusion")
    fields: dict[str, Any] = {name: getattr(body, name) for name in same}
    fields |= {"prompt": _before(body), "suffix": body.input_suffix, "seed": None if body.seed == -1 else body.seed}
    fields["max_tokens"] = body.n_predict if body.n_predict > 0 else None
    plan, stops = suffix_plan(parsed(CompletionRequest, fields), service, **_in_time(body, service))
    return Job.of_plan(plan, LlamaOutput(body, stops, service), bool(body.stream), False)


def infill_fields(body: LlamaInfill) -> FieldOf:
    own = {"prompt": "input_prefix", "max_new_tokens": "n_predict", "length": "n_predict", "text": "input_suffix"}
    return fields_of(body, own)


LLAMA_INFILL = Dialect(infill_job, infill_fields)


def _before(body: LlamaInfill) -> str:
    """All text before the cursor, that of other files first."""
    others = "".join(f"{extra.filename or ''}\n{extra.text}\n" for extra in body.input_extra)
    return others + body.input_prefix + body.prompt or "\n"


def _in_time(body: LlamaInfill, service: Service) -> dict[str, Any]:
    """The most steps that fit into the time, by what a step of this machine was measured to take."""
    chosen = body.diffusion is not None and body.diffusion.steps is not None
    seconds = service.model.auto.step_seconds
    if chosen or not body.t_max_predict_ms or not seconds:
        return {}
    # The lengths that are tried take a step together, which costs what so many steps do.
    most = int(body.t_max_predict_ms / 1000 / seconds) - MOST_CANDIDATES
    return {"steps": max(1, min(service.model.generation.steps, most))}


class LlamaOutput(Output):
    def __init__(self, body: LlamaInfill, stops: tuple[str, ...], service: Service):
        self.body, self.stops, self.model = body, stops, service.settings.model_name

    def reply(self, value: InfillResult | None, spent: Spent) -> LlamaInfillReply:
        told = self._told(value, spent)
        wanted = self.body.response_fields
        return LlamaInfillReply(**{name: told[name] for name in told if not wanted or name in wanted})

    def _told(self, value: InfillResult | None, spent: Spent) -> dict[str, Any]:
        told: dict[str, Any] = {"content": "", "stop": True, "stop_type": "none", "model": self.model, "index": 0}
        told |= {"stopping_word": "", "truncated": False, "tokens_predicted": 0, "tokens_evaluated": 0}
        if value is None:
            return told | {"tokens_cached": 0, "timings": {}}
        written, seconds = sum(value.lengths), sum(result.seconds for result in spent.results)
        return told | {
            "content": fill_of(value, self.stops),
            "stop_type": "eos",
            "tokens_predicted": written,
            "tokens_evaluated": value.result.prompt_tokens,
            "tokens_cached": value.result.cached_tokens,
            "timings": {"predicted_n": written, "predicted_ms": seconds * 1e3, "prompt_n": value.result.prompt_tokens},
            "diffusion": spent.summary(value.seed, value.steps, written),
        }

    def closing(self, value: InfillResult | None, spent: Spent) -> Iterable[bytes]:
        yield sse(self.reply(value, spent))

    def error(self, error: ApiError) -> bytes:
        return sse(llamacpp_error(error))
