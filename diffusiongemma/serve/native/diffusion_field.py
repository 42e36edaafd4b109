"""The request field `diffusion`, which every dialect of ours has: its body, and the options it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, create_model

from diffusiongemma.api import DiffusionGemma
from diffusiongemma.diffusion.decoding import Early
from diffusiongemma.diffusion.samplers import SAMPLERS, Sampler
from diffusiongemma.engine.branch import Branch
from diffusiongemma.option_values import SOME_TEXTS, TEXT, TEXTS, Number, Other, Switch, Values, Whole, Word
from diffusiongemma.options import OPTIONS, of_surface
from diffusiongemma.serve.body_types import Seed, Strict, Text, by_number
from diffusiongemma.serve.errors import FieldOf, blaming, refusal
from diffusiongemma.serve.tolerance import Tolerant

SamplerName = Literal["entropy_bound", "confidence", "fixed_k", "ancestral"]
SAMPLER_NAMES = {kind: name.replace("-", "_") for name, kind in SAMPLERS.items()}
assert set(SAMPLER_NAMES.values()) == set(SamplerName.__args__)  # type: ignore[attr-defined]


class SamplerSpec(Strict):
    """A sampler with its numbers; those that are not its own are refused."""

    name: SamplerName
    bound: float | None = Field(None, gt=0, description="of entropy_bound, nats")
    threshold: float | None = Field(None, gt=0, le=1, description="of confidence, a probability")
    k: int | None = Field(None, ge=1, description="of fixed_k, positions a step")


class EarlyText(Strict):
    steps: int = Field(Early.steps, ge=1, le=10_000, description="steps for which the argmax must not have changed")
    entropy: float | None = Field(None, gt=0, description="nats; absent takes the default")


class BranchSpec(Strict):
    """Follow the request's seed through `step` steps of canvas `canvas`, then another seed or sampler."""

    canvas: int = Field(0, ge=0, le=2**31)
    step: int = Field(ge=0, le=2**31)
    seed: Seed | None = None
    sampler: SamplerName | SamplerSpec | None = None


def _body_type(values: Values) -> Any:
    """What pydantic reads for it; None where a field of its own is written out below."""
    if isinstance(values, Whole):
        most = values.served if values.most is None else values.most
        return Annotated[int, Field(ge=values.least, le=most)]
    if isinstance(values, Number):
        return Annotated[float, Field(ge=values.least, le=values.most, gt=values.above)]
    if isinstance(values, Switch):
        return bool
    if isinstance(values, Word):
        return Literal[values.choices]
    texts = {TEXT: Text, TEXTS: list[Text], SOME_TEXTS: Annotated[list[Text], Field(min_length=1)]}
    return texts.get(values) if isinstance(values, Other) else None


# The options of the table that are a field of `diffusion`, by that field.
_PLAIN = {
    field: option
    for option in of_surface("http")
    if (field := option.in_body.removeprefix("diffusion.")) != option.in_body
    and field.isidentifier()
    and _body_type(option.values) is not None
}
_FIELDS: dict[str, Any] = {
    field: (_body_type(option.values) | None, Field(None, description=option.help)) for field, option in _PLAIN.items()
}
_Plain: Any = create_model("_Plain", __base__=Tolerant, **_FIELDS)


class DiffusionOptions(_Plain):
    """What a request may ask for beyond OpenAI's fields; see docs/options.md and docs/protocol.md."""

    sampler: SamplerName | SamplerSpec | None = None
    pins: dict[str, Text | int] | None = None
    early_text: bool | EarlyText | None = None
    frames: bool | Literal["noise"] = False
    details: bool = False
    think: bool = False
    show_schema: bool = Field(True, description="whether the model is shown the schema that its answer must match")
    branch: BranchSpec | None = None


# Options of Python, and the fields that stand for them.
FIELDS = {name: f"diffusion.{name}" for name in DiffusionOptions.model_fields}
FIELDS |= {option.name: option.in_body for option in OPTIONS.values() if option.on("http")}


def fields_of(body: BaseModel, own: Mapping[str, str]) -> FieldOf:
    """The fields of `body`: `own` are those that are its own names of options, and go before all others."""
    there = type(body).model_fields
    fields = FIELDS | {name: name for name in there} | dict(own)
    return {option: field for option, field in fields.items() if field.partition(".")[0] in there}.get


_STRUCTURE = ("regex", "choices", "template", "required_words", "banned_words")


def diffusion_options(diffusion: DiffusionOptions | None, model: DiffusionGemma) -> dict[str, Any]:
    if diffusion is None:
        return {}
    given = {option.name: getattr(diffusion, field) for field, option in _PLAIN.items()}
    options = {name: value for name, value in given.items() if value is not None}
    if diffusion.sampler is not None:
        options["sampler"] = sampler_of(diffusion.sampler, "diffusion.sampler")
    if diffusion.pins:
        options["pins"] = by_number(diffusion.pins, "diffusion.pins", 2**31)
    return options | _early(diffusion.early_text)


def structure_of(options: dict[str, Any]) -> str | None:
    """The option that says what form the answer has."""
    return next((name for name in _STRUCTURE if name in options), None)


def sampler_of(spec: str | SamplerSpec, param: str) -> Sampler:
    if isinstance(spec, str):
        spec = SamplerSpec.model_validate({"name": spec})
    kind: Any = SAMPLERS[spec.name.replace("_", "-")]
    given = spec.model_dump(exclude={"name"}, exclude_none=True)
    foreign = set(given) - {field.name for field in fields(kind)}
    if foreign:
        raise refusal(f"the sampler {spec.name} has no {foreign.pop()}: leave it out", param)
    sampler: Sampler = kind(**given)
    return sampler


def branch_of(spec: BranchSpec, mode: str) -> Branch:
    if mode == "ar":
        raise refusal("a branch leaves a canvas at a step, and mode ar has no canvas", "diffusion.branch")
    sampler = None if spec.sampler is None else sampler_of(spec.sampler, "diffusion.branch.sampler")
    with blaming("branch"):
        return Branch(spec.canvas, spec.step, None if spec.seed is None else spec.seed % 2**64, sampler)


def _early(early: bool | EarlyText | None) -> dict[str, Any]:
    if not early:
        return {}
    if early is True:
        return {"early_steps": Early.steps}
    assert isinstance(early, EarlyText)
    chosen: dict[str, Any] = {"early_steps": early.steps}
    return chosen if early.entropy is None else chosen | {"early_entropy": early.entropy}
