"""POST /v1/systemone: typed questions about a state, answered with probabilities."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from diffusiongemma.engine.plans.decide import Decision
from diffusiongemma.serve.body_types import Reply, Seed, Text, Whole, seed_of, writable_json
from diffusiongemma.serve.errors import ApiError, FieldOf
from diffusiongemma.serve.job import Dialect, Job, Output
from diffusiongemma.serve.model_names import ANY_NAME, names_of
from diffusiongemma.serve.native.diffusion_field import fields_of
from diffusiongemma.serve.native.summary import Spent
from diffusiongemma.serve.openai.images import image_bytes
from diffusiongemma.serve.service import Service
from diffusiongemma.serve.tolerance import ANY, Asking, Tolerant, also

Content = Annotated[Any, AfterValidator(writable_json)]  # a text, or any JSON
NAMES = ("jev-latest", "jev-preview")  # that clients of the interface ask for


class SystemOneQuestion(Tolerant):
    harmless = also(alone=ANY)  # each question has a canvas of its own anyhow
    type: Text = Field(description="noul, choice or score")
    instructions: Content = Field(None, description="a text, or any JSON")
    criteria: dict[Text, Content] | list[Content] | None = Field(
        None,
        description="noul: what true and false mean; choice: the labels with what they stand for; score: the levels",
    )

    @model_validator(mode="after")
    def _of_its_type(self) -> SystemOneQuestion:
        wanted: Any = {"choice": dict, "score": list, "noul": (dict, type(None))}.get(self.type, object)
        if not isinstance(self.criteria, wanted):
            raise ValueError(f"criteria of a {self.type} are {'a list' if wanted is list else 'an object'}")
        return self


class SystemOneRequest(Asking):
    model: Text | None = None
    state: Content = Field(description="a text, or any JSON")
    questions: dict[Text, SystemOneQuestion]
    images: list[Text] | None = Field(None, description="data: URLs, shown with the state")
    steps: Whole | None = Field(None, ge=1, le=8, description="denoise steps before the probabilities are read")
    samples: Whole | None = Field(None, ge=1, le=32, description="canvases of noise whose readings are averaged")
    seed: Seed | None = Field(None, description="0 where it is absent, so that the same question is answered alike")
    think: bool = Field(False, description="whether a thought comes first")


class SystemOneAnswer(Reply):
    """`noul`, or else `choice` or `score` with probabilities and confidence."""

    type: Literal["noul", "choice", "score"]
    noul: float | None = None
    choice: str | None = None
    score: float | None = None
    legend: dict[str, Any] | None = Field(None, description="the levels of a score by their numbers")
    probabilities: dict[str, float] | None = None
    confidence: float | None = Field(None, description="1 - H(p) / ln K")
    spread: dict[str, float] | None = Field(None, description="standard deviations over several samples")


class SystemOneUsage(Reply):
    input_tokens: int
    output_tokens: int


class SystemOneReply(Reply):
    model: str
    answers: dict[str, SystemOneAnswer]
    usage: SystemOneUsage


def decision_job(body: SystemOneRequest, service: Service) -> Job:
    """Raises `ApiError` or `InputError` for what cannot be honoured."""
    settings = service.settings
    if body.model and body.model not in (*NAMES, *names_of(settings)) and ANY_NAME not in settings.aliases:
        raise ApiError(400, f"no model {body.model[:100]!r} here: ask for {settings.model_name!r} or {NAMES[0]!r}")
    questions = {name: question.model_dump() for name, question in body.questions.items()}
    if len(body.images or ()) > settings.max_images:
        raise ApiError(400, f"{len(body.images or ())} images, at most {settings.max_images} in a request")
    images = [image_bytes(url, settings) for url in body.images or ()]
    given = {"steps": body.steps, "samples": body.samples, "think": body.think}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    seed = 0 if body.seed is None else seed_of(body.seed)
    plan = service.model.decide_plan(body.state, questions, seed=seed, images=images, **options)
    return Job.of_plan(plan, DecisionOutput(service.name_of(body.model)), False, False)


def decision_fields(body: SystemOneRequest) -> FieldOf:
    return fields_of(body, {})


SYSTEMONE = Dialect(decision_job, decision_fields)


class DecisionOutput(Output):
    def __init__(self, model: str):
        self.model = model

    def reply(self, value: Decision, spent: Spent) -> SystemOneReply:
        return SystemOneReply(model=self.model, **value.as_object())

    def closing(self, value: Decision, spent: Spent) -> Any:
        raise AssertionError("nothing is streamed")

    def error(self, error: ApiError) -> bytes:
        raise AssertionError("nothing is streamed")
