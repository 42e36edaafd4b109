"""POST /v1/edits: a body as a job."""

from __future__ import annotations

from typing import Any

from diffusiongemma.engine.plans.edit import EditResult
from diffusiongemma.serve.errors import FieldOf, blaming
from diffusiongemma.serve.job import Dialect, Job
from diffusiongemma.serve.native.bodies import EditRequest
from diffusiongemma.serve.native.diffusion_field import fields_of
from diffusiongemma.serve.native.replies import EditReply
from diffusiongemma.serve.native.rewriting import NativeOutput, plan_job, rewriting_options
from diffusiongemma.serve.native.summary import Spent
from diffusiongemma.serve.openai.usage import usage_of_plan
from diffusiongemma.serve.service import Service


def edit_job(body: EditRequest, service: Service) -> Job:
    """Raises `ApiError` or `InputError` for what cannot be honoured."""
    options: dict[str, Any] = rewriting_options(body, service)
    if body.strength is not None:
        options["strength"] = body.strength
    spans = None if body.spans is None else [(start, stop) for start, stop in body.spans]
    with blaming("spans" if spans else "text"):
        plan = service.model.edit_plan(body.input, body.instruction, spans=spans, **options)
        return plan_job(plan, EditOutput(), body)


def edit_fields(body: EditRequest) -> FieldOf:
    return fields_of(body, {"text": "input", "prompt": "input"})


EDIT = Dialect(edit_job, edit_fields)


class EditOutput(NativeOutput):
    def reply(self, value: EditResult, spent: Spent) -> EditReply:
        written = sum(len(result.tokens) for result in value.results)
        return EditReply(
            object="edit",
            text=value.text,
            diff=list(value.diff),  # type: ignore[arg-type]
            changed_outside=value.changed_outside,
            usage=usage_of_plan(spent.results, written),
            diffusion=spent.summary(value.seed, value.steps, written),
        )
