"""OpenAI's counts of tokens."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from diffusiongemma.events import Result
from diffusiongemma.serve.body_types import Reply


class PromptDetails(Reply):
    cached_tokens: int = Field(description="reused from earlier prompts")


class Usage(Reply):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


def usage(prompts: Sequence[Result], written: int) -> Usage:
    """`prompts`: one result of each prompt; choices that share one count it once."""
    prompt = sum(result.prompt_tokens for result in prompts)
    details = PromptDetails(cached_tokens=sum(result.cached_tokens for result in prompts))
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=written,
        total_tokens=prompt + written,
        prompt_tokens_details=details,
    )


def usage_of_plan(results: Sequence[Result], written: int) -> Usage:
    """The longest prompt stands for the text that was read: a plan reads it once and again."""
    longest = max(results, key=lambda result: result.prompt_tokens, default=None)
    return usage([longest] if longest else [], written)
