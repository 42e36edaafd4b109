"""What is asked of the engine."""

from __future__ import annotations

from dataclasses import dataclass, field

from diffusiongemma.chat import Prompt
from diffusiongemma.config import GenerationConfig
from diffusiongemma.control.constraint import Constraint
from diffusiongemma.model.cache import SequenceCache


@dataclass
class Request:
    """One prompt and how to decode it.

    `cache`, if given, already holds the first `cache.length` tokens of the prompt and is extended in place.
    `constraint`, if given, is what the answer must match. `thinking` says that the prompt asks for a thought channel;
    `record` keeps every step in the result.
    """

    prompt: Prompt
    config: GenerationConfig
    cache: SequenceCache | None = None
    constraint: Constraint | None = None
    thinking: bool = False
    record: bool = False
    note: str = ""
    id: int = field(default=0)
