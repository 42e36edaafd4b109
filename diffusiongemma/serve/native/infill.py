"""POST /v1/infill: a body as a job."""

from __future__ import annotations

from typing import Any

from diffusiongemma.engine.plans.infill import InfillResult
from diffusiongemma.serve.errors import FieldOf, blaming, refusal
from diffusiongemma.serve.job import Dialect, Job
from diffusiongemma.serve.native.bodies import InfillRequest
from diffusiongemma.serve.native.diffusion_field import fields_of
from diffusiongemma.serve.native.replies import InfillReply
from diffusiongemma.serve.native.rewriting import NativeOutput, plan_job, rewriting_options
from diffusiongemma.serve.native.summary import Spent
from diffusiongemma.serve.openai.usage import usage_of_plan
from diffusiongemma.serve.service import Service
from diffusiongemma.text.holes import split_at


def infill_job(body: InfillRequest, service: Service) -> Job:
    """Raises `ApiError` or `InputError` for what cannot be honoured."""
    options = rewriting_options(body, service)
    texts = _texts(body)
    length: Any = tuple(body.length) if isinstance(body.length, list) else body.length or "auto"
    if body.length == 0:
        raise refusal("length is 0: give at least 1 token", "length")
    with blaming("length"):
        plan = service.model.infill_plan(texts, instruction=body.instruction, length=length, **options)
        return plan_job(plan, InfillOutput(), body)


def infill_fields(body: InfillRequest) -> FieldOf:
    return fields_of(body, {"texts": "text", "prompt": "text"})


INFILL = Dialect(infill_job, infill_fields)


def _texts(body: InfillRequest) -> list[str]:
    if (body.text is None) == (body.prefix is None and body.suffix is None):
        raise refusal("give either text with holes, or prefix and suffix", "text")
    if body.text is None:
        return [body.prefix or "", body.suffix or ""]
    with blaming("text"):
        return split_at(body.text, body.hole)


class InfillOutput(NativeOutput):
    def reply(self, value: InfillResult, spent: Spent) -> InfillReply:
        written = sum(value.lengths)
        return InfillReply(
            object="infill",
            text=value.text,
            fills=list(value.fills),
            lengths=list(value.lengths),
            usage=usage_of_plan(spent.results, written),
            diffusion=spent.summary(value.seed, value.steps, written),
        )
