"""The fields `tools`, `tool_choice` and `parallel_tool_calls`."""

from __future__ import annotations

from typing import Any

from diffusiongemma.serve.errors import refusal
from diffusiongemma.serve.openai.bodies import ChatRequest, NamedTool
from diffusiongemma.serve.tool_calls import CallMode


def call_mode(body: ChatRequest) -> CallMode:
    """Raises `ApiError` for a choice of tools that are not there."""
    several = body.parallel_tool_calls is not False
    if not body.tools:
        if body.tool_choice not in (None, "none", "auto"):
            raise refusal("tool_choice asks for a call, and there are no tools", "tool_choice")
        if body.parallel_tool_calls is not None:
            raise refusal("parallel_tool_calls goes with tools", "parallel_tool_calls")
        return CallMode()
    names = [tool.function.name for tool in body.tools]
    if len(set(names)) < len(names):
        raise refusal("two tools have the same name", "tools")
    choice = body.tool_choice
    if isinstance(choice, NamedTool) and choice.function.name not in names:
        raise refusal(f"tool_choice names {choice.function.name!r}, which is not among the tools", "tool_choice")
    forced = choice == "required" or isinstance(choice, NamedTool)
    if forced and body.response_format is not None and body.response_format.type != "text":
        raise refusal("a call is asked for, so the answer cannot be JSON too: leave one out", "response_format")
    return CallMode(choice != "none", forced, several)


def declared(body: ChatRequest) -> list[dict[str, Any]] | None:
    """The tools that the prompt tells the model of."""
    if not body.tools or body.tool_choice == "none":
        return None
    return [tool.model_dump(exclude_none=True, exclude={"function": {"strict"}}) for tool in body.tools]


def forced_schemas(body: ChatRequest) -> dict[str, dict[str, Any] | None]:
    """The tools of which one must be called, with the schemas of their arguments."""
    chosen = body.tool_choice.function.name if isinstance(body.tool_choice, NamedTool) else None
    tools = [tool.function for tool in body.tools or [] if chosen in (None, tool.function.name)]
    return {tool.name: tool.parameters for tool in tools}
