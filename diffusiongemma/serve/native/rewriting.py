"""What infills and edits share: options that have no meaning for a text of which parts stand, and the output."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from diffusiongemma.options import of_surface
from diffusiongemma.serve.body_types import seed_of
from diffusiongemma.serve.errors import ApiError, refusal
from diffusiongemma.serve.job import Job, Output
from diffusiongemma.serve.model_names import check_model
from diffusiongemma.serve.native.bodies import EditRequest, InfillRequest
from diffusiongemma.serve.native.diffusion_field import diffusion_options
from diffusiongemma.serve.native.summary import Spent
from diffusiongemma.serve.openai.bodies import CompletionRequest
from diffusiongemma.serve.openai.errors import error_body
from diffusiongemma.serve.service import Service
from diffusiongemma.serve.transport.sse import DONE, sse

# What shapes a whole answer, or looks into one.
_OFF = ("alternatives", "details", "think", "early_text")
_ELSEWHERE = [
    "branch",
    *(option.in_body.removeprefix("diffusion.") for option in of_surface("http") if not option.on("rewriting")),
]


def rewriting_options(body: InfillRequest | EditRequest, service: Service) -> dict[str, Any]:
    """Options of `DiffusionGemma.infill_plan` and `edit_plan`. Raises `ApiError` for what cannot be honoured."""
    check_model(body.model, service.settings)
    check_rewriting(body)
    if body.diffusion is not None and body.diffusion.frames and not body.stream:
        raise refusal("frames are events of a stream: send stream: true", "diffusion.frames")
    options: dict[str, Any] = {"seed": seed_of(body.seed)} | diffusion_options(body.diffusion, service.model)
    return options | {
        name: value for name in ("temperature", "top_p", "top_k", "min_p") if (value := getattr(body, name)) is not None
    }


def check_rewriting(body: InfillRequest | EditRequest | CompletionRequest) -> None:
    """Raises `ApiError` for options of the field `diffusion` that have no meaning here."""
    for name in dict.fromkeys([*_ELSEWHERE, *_OFF]):
        value = getattr(body.diffusion, name, None)
        if value if name in _OFF else value is not None:
            message = f"{name} does not go with infilling and editing: leave it out"
            raise refusal(message, f"diffusion.{name}", "unsupported_parameter")
    if body.diffusion is not None and body.diffusion.mode == "ar":
        raise refusal("infilling and editing work on a canvas: leave mode at diffusion", "diffusion.mode")


def plan_job(plan: Any, output: Output, body: InfillRequest | EditRequest) -> Job:
    frames = body.diffusion is not None and body.diffusion.frames
    return Job.of_plan(plan, output, bool(body.stream), frames)


class NativeOutput(Output):
    """One plain line with the whole reply, and the mark of the end."""

    def closing(self, value: Any, spent: Spent) -> Iterable[bytes]:
        yield sse(self.reply(value, spent))
        yield DONE

    def error(self, error: ApiError) -> bytes:
        return sse(error_body(error))
