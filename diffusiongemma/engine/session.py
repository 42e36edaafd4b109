"""A conversation whose turns share one cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Unpack

from diffusiongemma.events import Event, Finished, Result
from diffusiongemma.model.cache import SequenceCache
from diffusiongemma.options import check_arguments
from diffusiongemma.signatures import Content, GenerateOptions

if TYPE_CHECKING:
    from diffusiongemma.api import DiffusionGemma


class Session:
    """Messages so far, and the keys and values of what has been encoded of them.

    A turn encodes only what the cache lacks. Where the history is written differently from how it was generated (a
    thought is dropped from it), the cache goes back to the end of the last prompt.
    """

    def __init__(self, model: DiffusionGemma, system: str | None, options: GenerateOptions):
        check_arguments(system=system)
        self.model, self.options = model, options
        self.messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
        self._cache: SequenceCache | None = None
        self._ids: list[int] = []  # what the cache holds
        self._prompt_cache: SequenceCache | None = None  # as it was when the last prompt had been encoded
        self._prompt_ids: list[int] = []

    def send(self, content: Content, **options: Unpack[GenerateOptions]) -> Result:
        """Add a user message and generate the answer."""
        return next(e.result for e in self.stream(content, **options) if isinstance(e, Finished))

    def stream(self, content: Content, **options: Unpack[GenerateOptions]) -> Iterator[Event]:
        """`send`, as events. A turn that is not finished leaves the conversation as it was."""
        merged: dict[str, Any] = {**self.options, **options}
        messages = [*self.messages, {"role": "user", "content": content}]
        shaping: dict[str, Any] = {name: merged.pop(name) for name in ("tools", "think") if name in merged}
        if merged.get("show_schema", True):
            shaping["schema"] = merged.get("json_schema")
        prompt = self.model.prompt(messages, **shaping)
        cache, self._cache = self._reusable(prompt.ids), None
        self._ids, before = [], None
        merged["think"] = shaping.get("think", False)
        for event in self.model.stream(prompt, cache=cache, **merged):
            if before is None and cache.length >= len(prompt.ids):
                before = cache.copy()
            if isinstance(event, Finished):
                self._finish(messages, prompt.ids, cache, before or cache.copy(), event.result)
            yield event

    def _reusable(self, ids: list[int]) -> SequenceCache:
        """A cache that holds as long a prefix of `ids` as is at hand; at least one token is left to encode."""
        if self._cache is not None and _begins(ids, self._ids):
            return self._cache
        if self._prompt_cache is not None and _begins(ids, self._prompt_ids):
            return self._prompt_cache.copy()
        return self.model.network.new_sequence()

    def _finish(
        self,
        messages: list[dict[str, Any]],
        ids: list[int],
        cache: SequenceCache,
        before: SequenceCache,
        result: Result,
    ) -> None:
        self.messages = [*messages, {"role": "assistant", "content": result.text, "tool_calls": _calls(result)}]
        if not result.tool_calls:
            del self.messages[-1]["tool_calls"]
        self._cache, self._ids = cache, (ids + list(result.tokens))[: cache.length]
        self._prompt_cache, self._prompt_ids = before, ids


def _begins(ids: list[int], prefix: list[int]) -> bool:
    return len(prefix) < len(ids) and ids[: len(prefix)] == prefix


def _calls(result: Result) -> list[dict[str, Any]]:
    return [
        {"id": f"call_{i}", "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for i, call in enumerate(result.tool_calls)
    ]
