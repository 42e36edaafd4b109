"""GET /v1/info: what the server says of itself."""

from __future__ import annotations

import diffusiongemma
from diffusiongemma.api import DiffusionGemma
from diffusiongemma.options import MODES
from diffusiongemma.serve.native.diffusion_field import SAMPLER_NAMES
from diffusiongemma.serve.native.replies import Defaults, InfoReply, Limits, Machine
from diffusiongemma.serve.settings import Settings
from diffusiongemma.weights.skills import sees

LINKS = {
    "About the model": "https://huggingface.co/docs/transformers/model_doc/diffusion_gemma",
    "The large weights": "https://huggingface.co/google/diffusiongemma-26B-A4B-it",
}


def info_reply(model: DiffusionGemma, settings: Settings) -> InfoReply:
    config = model.config
    return InfoReply(
        v=1,
        version=diffusiongemma.__version__,
        model=settings.model_name,
        canvas_length=config.canvas_length,
        vocab_size=config.vocab_size,
        context=config.max_position_embeddings,
        images=config.vision_config is not None and sees(model.skills),
        parameters=model.parameters,
        skills=list(model.skills),
        about=model.about,
        links=LINKS,
        modes=list(MODES),
        samplers=list(SAMPLER_NAMES.values()),
        defaults=_defaults(model),
        limits=Limits(
            max_requests=settings.max_requests,
            max_queue=settings.max_queue,
            max_tokens=settings.max_tokens,
            max_body_bytes=settings.max_body,
        ),
        machine=_machine(model),
    )


def _defaults(model: DiffusionGemma) -> Defaults:
    options, sampler = model.generation.options(), SAMPLER_NAMES.get(type(model.generation.sampler))
    shown = {name: options[name] for name in Defaults.model_fields if name in options}
    return Defaults(**(shown | {"max_tokens": options["max_new_tokens"], "sampler": sampler}))


def _machine(model: DiffusionGemma) -> Machine:
    auto = model.auto
    measured = auto.step_seconds and auto.token_seconds
    return Machine(
        step_ms=_milliseconds(auto.step_seconds),
        token_ms=_milliseconds(auto.token_seconds),
        steps=round(auto.steps, 2),
        note=auto.choose(model.generation)[1] if measured else "not measured yet",
    )


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 3)
