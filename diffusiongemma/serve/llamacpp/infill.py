"""POST /infill of llama.cpp's server, which llama.vim and llama.vscode speak: a gap to fill, within a time."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import ConfigDict, Field

from diffusiongemma.engine.plans.infill import MOST_CANDIDATES, InfillResult
from diffusiongemma.serve.body_types import JsonObject, Reply, Seed, Text, TopK, Whole
from diffusiongemma.serve.errors import ApiError, FieldOf
from diffusiongemma.serve.invalid import parsed
from diffusiongemma.serve.job import Dialect, Job, Output
from diffusiongemma.serve.llamacpp.errors import llamacpp_error
from diffusiongemma.serve.native.diffusion_field import DiffusionOptions, fields_of
from diffusiongemma.serve.native.summary import DiffusionSummary, Spent
from diffusiongemma.serve.openai.bodies import CompletionRequest
from diffusiongemma.serve.openai.suffix import suffix_plan
from diffusiongemma.serve.service import Service
from diffusiongemma.serve.tolerance import ANY, OF_REQUESTS, Asking, Tolerant, also
from diffusiongemma.serve.transport.sse import sse
from diffusiongemma.text.stop_strings import StopFinder

USUAL = 24  # tokens, where nothing is asked for


class Extra(Tolerant):
    """Text of another file."""

    harmless = also(time=ANY)  # when the editor took it
    filename: Text | None = None
    text: Text


class LlamaInfill(Asking):
    harmless = {**OF_REQUESTS, "lora": ([],)}
    model: Text | None = None
    input_prefix: Text = ""
    input_suffix: Text = ""
    input_extra: list[Extra] = Field([], max_length=256)
    prompt: Text = Field("", description="what stands before the cursor in its line")
    n_predict: Whole = Field(USUAL, ge=-2, le=2**31, description="0 only prepares")
    n_indent: Whole = Field(0, ge=0, le=2**31, description="the fill ends before a line that is indented less")
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
    response_fields: list[Text] | None = Field(None, description="names, or paths such as timings/predicted_ms")
    diffusion: DiffusionOptions | None = None


class LlamaInfillReply(Reply):
    """Values that were asked for by a path have the path as their name."""

    model_config = ConfigDict(extra="allow")
    content: str | None = None
    stop: bool | None = None
    stop_type: Literal["eos", "limit", "word", "none"] | None = None
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
        told, wanted = self._told(value, spent), self.body.response_fields
        return LlamaInfillReply(**(_at_paths(told, wanted) if wanted else told))

    def _told(self, value: InfillResult | None, spent: Spent) -> dict[str, Any]:
        told: dict[str, Any] = {"content": "", "stop": True, "stop_type": "none", "model": self.model, "index": 0}
        told |= {"stopping_word": "", "truncated": False, "tokens_predicted": 0, "tokens_evaluated": 0}
        if value is None:
            return told | {"tokens_cached": 0, "timings": _timings(0, 0, 0.0)}
        written, read = sum(value.lengths), value.result.prompt_tokens
        return told | {
            **self._ended(value.fills[0]),
            "tokens_predicted": written,
            "tokens_evaluated": read,
            "tokens_cached": value.result.cached_tokens,
            "timings": _timings(read, written, sum(result.seconds for result in spent.results)),
            "diffusion": spent.summary(value.seed, value.steps, written),
        }

    def _ended(self, fill: str) -> dict[str, Any]:
        """The fill up to where it has to end, and what ended it."""
        finder = StopFinder(self.stops)
        text = finder.push(fill) + finder.flush()
        kept = indented(text, self.body.n_indent)
        ended = "limit" if kept != text else "word" if finder.found else "eos"
        return {"content": kept, "stop_type": ended, "stopping_word": finder.match if ended == "word" else ""}

    def closing(self, value: InfillResult | None, spent: Spent) -> Iterable[bytes]:
        yield sse(self.reply(value, spent))

    def error(self, error: ApiError) -> bytes:
        return sse(llamacpp_error(error))


def indented(fill: str, least: int) -> str:
    """The fill without its first line that is indented by fewer characters, and what follows: there the block ends.

    Its first line goes on with one that has begun, and an empty one is no line of another block.
    """
    found = re.search(rf"\n(?![ \t]{{{least}}})[ \t]*[^ \t\r\n]", fill)
    return fill if found is None else fill[: found.start()]


def _timings(read: int, written: int, seconds: float) -> dict[str, float]:
    """All of the time stands under `predicted`: a canvas is not read and written in turn."""
    predicted = {
        "predicted_n": written,
        "predicted_ms": seconds * 1e3,
        "predicted_per_token_ms": seconds * 1e3 / written if written else 0.0,
        "predicted_per_second": written / seconds if seconds else 0.0,
    }
    return {"prompt_n": read, "prompt_ms": 0.0, "prompt_per_token_ms": 0.0, "prompt_per_second": 0.0, **predicted}


def _at_paths(told: dict[str, Any], paths: list[str]) -> dict[str, Any]:
    """What stands at each path that is there, under the path."""
    found: dict[str, Any] = {}
    for path in paths:
        *outer, name = path.split("/")
        at: Any = told
        for part in outer:
            at = at.get(part) if isinstance(at, dict) else None
        if isinstance(at, dict) and name in at:
            found[path] = at[name]
    return found
