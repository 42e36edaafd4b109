"""What is asked of the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from diffusiongemma.chat import Prompt
from diffusiongemma.control.constraint import ConstraintState
from diffusiongemma.control.inference.holding import Region, Start
from diffusiongemma.control.inference.labels import Labels
from diffusiongemma.control.tokens.bias import LogitBias
from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.engine.branch import Branch
from diffusiongemma.model.cache import SequenceCache


@dataclass(frozen=True)
class Request:
    """One prompt and how to decode it. The engine trusts that it has been checked (`checks.checked`), once.

    `cache`, if given, already holds the first `cache.length` tokens of the prompt and is extended in place.
    `constraint`, if given, is what the answer must match, before its first token; `has_form` says that a match is a
    whole answer, which with words alone it is not. `thinking` says that the prompt asks for a thought channel;
    `record` keeps every step in the result; `frames` says that every step is shown to somebody, so that under a
    constraint each is to show a text that matches. `bias` is added to the logits. `chunks` says how what is not cached
    of the prompt is cut for encoding; None cuts it evenly. `branch` leaves the seed's path at a step. `adapter` names
    the one of `Engine.adapted` that it runs on; "" is the model itself. The text ends before the first
    of `stops`. Of `labels` the probabilities are read from the last step of each canvas. `compiled_in` is how many
    seconds of a processor its constraint took to compile, for which others go first a while (`turns`).

    Positions of the answer, from 0 across canvases: `pins` (position -> token id) are held to their token, `regions`
    are written under a constraint of their own; `start` is the text to begin with in place of noise.
    """

    prompt: Prompt
    config: Decoding
    cache: SequenceCache | None = None
    constraint: ConstraintState | None = None
    has_form: bool = False
    thinking: bool = False
    record: bool = False
    note: str = ""
    chunks: list[tuple[int, int]] | None = None
    branch: Branch | None = None
    pins: Mapping[int, int] = field(default_factory=dict)
    regions: tuple[Region, ...] = ()
    start: Start | None = None
    bias: LogitBias | None = None
    frames: bool = False
    stops: tuple[str, ...] = ()
    labels: Labels | None = None
    adapter: str = ""
    compiled_in: float = 0.0
    id: int = 0

    @property
    def plain(self) -> bool:
        """Whether the prompt's tokens and the config alone decide the answer."""
        held = self.constraint or self.branch or self.pins or self.regions or self.start or self.bias or self.stops
        return not held and not self.prompt.images and not self.thinking and self.labels is None

    def with_seed(self, seed: int) -> Request:
        """The same with other random numbers: what has been checked stands."""
        return replace(self, config=replace(self.config, seed=seed))
