"""Every switch for thinking that clients know means the same: `diffusion.think`."""

from __future__ import annotations

from diffusiongemma.serve.errors import refusal
from diffusiongemma.serve.openai.bodies import ChatRequest, Reasoning, TemplateOptions


def thinks(body: ChatRequest) -> bool:
    """Raises `ApiError` where two switches disagree."""
    switches = switches_of(body)
    if len(set(switches.values())) > 1:
        on, off = (next(name for name, value in switches.items() if value is wanted) for wanted in (True, False))
        raise refusal(f"{on} asks for a thought and {off} for none: send one", off)
    return any(switches.values())


def switch_of(body: ChatRequest) -> str:
    """The field that asks for a thought."""
    return next((name for name, value in switches_of(body).items() if value), "diffusion.think")


def switches_of(body: ChatRequest) -> dict[str, bool]:
    """What each switch that was sent says, by its field."""
    reasoning = body.reasoning or Reasoning()
    template = body.chat_template_kwargs or TemplateOptions()
    given: dict[str, bool | str | None] = {
        "enable_thinking": body.enable_thinking,
        "think": body.think,
        "thinking": None if body.thinking is None else body.thinking.type != "disabled",
        "reasoning_effort": body.reasoning_effort,
        "reasoning.effort": reasoning.effort,
        "reasoning.enabled": reasoning.enabled,
        "chat_template_kwargs.enable_thinking": template.enable_thinking,
        "chat_template_kwargs.thinking": template.thinking,
        "chat_template_kwargs.reasoning_effort": template.reasoning_effort,
    }
    if body.diffusion is not None and "think" in body.diffusion.model_fields_set:
        given["diffusion.think"] = body.diffusion.think
    return {
        name: value not in ("none", "minimal") if isinstance(value, str) else value
        for name, value in given.items()
        if value is not None
    }
