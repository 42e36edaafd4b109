"""POST /v1/completions with a suffix: the text that goes between, as a job."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from diffusiongemma.engine.plans.infill import InfillResult
from diffusiongemma.engine.plans.plan import Plan
from diffusiongemma.serve.errors import FieldOf, blaming, refusal
from diffusiongemma.serve.invalid import parsed
from diffusiongemma.serve.job import Dialect, Job
from diffusiongemma.serve.native.diffusion_field import fields_of
from diffusiongemma.serve.native.rewriting import check_rewriting
from diffusiongemma.serve.native.summary import Spent
from diffusiongemma.serve.openai.bodies import CompletionRequest, FimRequest
from diffusiongemma.serve.openai.fim import gap_of
from diffusiongemma.serve.openai.options import check_common, decoding, max_tokens_of, prompts_of, stops_of
from diffusiongemma.serve.openai.output import CompletionOutput, OpenAIOutput, last_text, text_chunk
from diffusiongemma.serve.openai.replies import (
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatDelta,
    ChatMessage,
    ChatReply,
    CompletionChunk,
    CompletionReply,
    TextChoice,
    TextChunkChoice,
)
from diffusiongemma.serve.openai.usage import usage_of_plan
from diffusiongemma.serve.service import Service
from diffusiongemma.serve.transport.sse import DONE, sse
from diffusiongemma.text.stop_strings import StopFinder

Stops = tuple[str, ...]


def suffix_job(body: CompletionRequest, service: Service) -> Job:
    """A completion that ends where `suffix` begins. `max_tokens` is the most that may stand between."""
    plan, stops = suffix_plan(body, service)
    usage = body.stream_options is not None and body.stream_options.include_usage
    output = SuffixOutput(service.name_of(body.model), stops, usage)
    with blaming("suffix"):
        return Job.of_plan(plan, output, bool(body.stream), body.diffusion is not None and body.diffusion.frames)


def suffix_plan(body: CompletionRequest, service: Service, **chosen: Any) -> tuple[Plan[InfillResult], Stops]:
    """The plan, and the texts before which the fill ends; `chosen` options go before the body's.

    Raises `ApiError` or `InputError` for what cannot be honoured.
    """
    check_common(body, service.settings)
    check_rewriting(body)
    prompt = _prompt(body)
    model, most = service.model, max_tokens_of(body)
    options = {k: v for k, v in decoding(body, model).items() if k != "max_new_tokens"} | chosen
    room = max(1, model.config.canvas_length - 2)
    length: Any = "auto" if most is None else (1, min(most, room))
    with blaming("suffix"):
        return model.infill_plan([prompt, body.suffix or ""], length=length, **options), stops_of(body)


def suffix_fields(body: CompletionRequest) -> FieldOf:
    return fields_of(body, {"max_new_tokens": "max_tokens", "length": "max_tokens", "text": "suffix"})


SUFFIX = Dialect(suffix_job, suffix_fields)


def with_gap(body: CompletionRequest) -> CompletionRequest:
    """A body whose prompt has the markers of some model's format, as one with a suffix."""
    gap = gap_of(body.prompt) if isinstance(body.prompt, str) and body.suffix is None else None
    return body if gap is None else body.model_copy(update={"prompt": gap.prefix, "suffix": gap.suffix})


def fim_job(body: FimRequest, service: Service) -> Job:
    """Mistral's endpoint: its reply has the shape of a chat's."""
    fields = body.model_dump(exclude_unset=True, exclude={"min_tokens"}) | {"suffix": body.suffix or ""}
    plan, stops = suffix_plan(parsed(CompletionRequest, fields), service)
    usage = body.stream_options is not None and body.stream_options.include_usage
    with blaming("suffix"):
        return Job.of_plan(plan, FimOutput(service.name_of(body.model), stops, usage), bool(body.stream), False)


def fim_fields(body: FimRequest) -> FieldOf:
    return fields_of(body, {"max_new_tokens": "max_tokens", "length": "max_tokens", "text": "suffix"})


FIM = Dialect(fim_job, fim_fields)


def _prompt(body: CompletionRequest) -> str:
    for name in ("n", "best_of"):
        if getattr(body, name) not in (None, 1):
            raise refusal(f"{name} is 1 with a suffix", name)
    if body.echo:
        raise refusal("echo does not go with a suffix: leave it out", "echo")
    nothing = {"frequency_penalty": 0, "presence_penalty": 0, "repetition_penalty": 1, "repeat_penalty": 1}
    for name, value in nothing.items():
        if getattr(body, name) not in (None, value):
            raise refusal(f"{name} does not go with a suffix: leave it out", name)
    for name in ("logprobs", "logit_bias"):
        if getattr(body, name) is not None:
            raise refusal(f"{name} does not go with a suffix: leave it out", name)
    (prompt,) = prompts_of(body) if isinstance(body.prompt, str) and body.prompt else [body.prompt]
    if not isinstance(prompt, str):
        raise refusal("with a suffix the prompt is one text", "prompt")
    return prompt


class SuffixOutput(OpenAIOutput):
    """The fill as a plain completion."""

    prefix = CompletionOutput.prefix

    def __init__(self, model_name: str, stops: tuple[str, ...], usage: bool):
        super().__init__(model_name)
        self.stops, self.with_usage = stops, usage

    def reply(self, value: InfillResult, spent: Spent) -> CompletionReply:
        choice = TextChoice(
            index=0,
            text=self._text(value),
            logprobs=None,
            finish_reason="stop",
            diffusion=spent.summary(value.seed, value.steps, sum(value.lengths)),
        )
        usage = usage_of_plan(spent.results, sum(value.lengths))
        return CompletionReply(**self.envelope, object="text_completion", choices=[choice], usage=usage)

    def closing(self, value: InfillResult, spent: Spent) -> Iterable[bytes]:
        written = sum(value.lengths)
        text = TextChunkChoice(index=0, text=self._text(value), logprobs=None, finish_reason=None)
        yield sse(text_chunk(self.envelope, text))
        yield sse(text_chunk(self.envelope, last_text(0, "stop", spent.summary(value.seed, value.steps, written))))
        if self.with_usage:
            usage = usage_of_plan(spent.results, written)
            yield sse(CompletionChunk(**self.envelope, object="text_completion", choices=[], usage=usage))
        yield DONE

    def _text(self, value: InfillResult) -> str:
        return fill_of(value, self.stops)


class FimOutput(SuffixOutput):
    """The fill as the content of a chat's message."""

    prefix = "fim"

    def reply(self, value: InfillResult, spent: Spent) -> ChatReply:  # type: ignore[override]
        told = spent.summary(value.seed, value.steps, sum(value.lengths))
        message = ChatMessage(role="assistant", content=self._text(value), refusal=None)
        choice = ChatChoice(index=0, message=message, logprobs=None, finish_reason="stop", diffusion=told)
        usage = usage_of_plan(spent.results, sum(value.lengths))
        return ChatReply(**self.envelope, object="chat.completion", choices=[choice], usage=usage)

    def closing(self, value: InfillResult, spent: Spent) -> Iterable[bytes]:
        told = spent.summary(value.seed, value.steps, sum(value.lengths))
        delta = ChatDelta(role="assistant", content=self._text(value))
        choice = ChatChunkChoice(index=0, delta=delta, logprobs=None, finish_reason="stop", diffusion=told)
        usage = usage_of_plan(spent.results, sum(value.lengths))
        yield sse(ChatChunk(**self.envelope, object="chat.completion.chunk", choices=[choice], usage=usage))
        yield DONE


def fill_of(value: InfillResult, stops: tuple[str, ...]) -> str:
    """The fill up to the first of the stop texts."""
    finder = StopFinder(stops)
    return finder.push(value.fills[0]) + finder.flush()
