"""The fields `tools`, `tool_choice` and `parallel_tool_calls`."""

from __future__ import annotations

from typing import Any

from diffusiongemma.serve.errors import refusal
from diffusiongemma.serve.openai.bodies import AllowedChoice, ChatRequest, NamedTool, Tool
from diffusiongemma.serve.tool_calls import CallMode


def call_mode(body: ChatRequest) -> CallMode:
    """Raises `ApiError` for a choice of tools that are not there."""
    several = body.parallel_tool_calls is not False
    if not body.tools:
        if body.tool_choice not in (None, "none", "auto"):
            raise refusal("tool_choice asks for a call, and there are no tools", "tool_choice")
        return CallMode()
    names = [tool.function.name for tool in body.tools]
    if len(set(names)) < len(names):
        raise refusal("two tools have the same name", "tools")
    choice = body.tool_choice
    missing = [name for name in _named(choice) if name not in names]
    if missing:
        raise refusal(f"tool_choice names {missing[0]!r}, which is not among the tools", "tool_choice")
    must = isinstance(choice, AllowedChoice) and choice.allowed_tools.mode == "required"
    forced = must or choice == "required" or isinstance(choice, NamedTool)
    return CallMode(choice != "none", forced, several)


def declared(body: ChatRequest) -> list[dict[str, Any]] | None:
    """The tools that the prompt tells the model of."""
    if not body.tools or body.tool_choice == "none":
        return None
    tools = _allowed(body) if isinstance(body.tool_choice, AllowedChoice) else body.tools
    return [tool.model_dump(exclude_none=True, exclude={"function": {"strict"}}) for tool in tools]


def forced_schemas(body: ChatRequest) -> dict[str, dict[str, Any] | None]:
    """The tools of which one must be called, with the schemas of their arguments."""
    return {tool.function.name: tool.function.parameters for tool in _allowed(body)}


def _named(choice: Any) -> list[str]:
    """The tools that a choice names."""
    if isinstance(choice, AllowedChoice):
        return [tool.function.name for tool in choice.allowed_tools.tools]
    return [choice.function.name] if isinstance(choice, NamedTool) else []


def _allowed(body: ChatRequest) -> list[Tool]:
    """The tools that may be called."""
    named = _named(body.tool_choice)
    return [tool for tool in body.tools or [] if not named or tool.function.name in named]
