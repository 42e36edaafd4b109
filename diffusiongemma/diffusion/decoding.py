"""How a request is decoded: one frozen value, whose parts are values too.

Users write flat options (`temperature=0.5`, `entropy_bound=0.2`). `options.OPTIONS` says what each takes, and in which
part of a `Decoding` it has its place.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from diffusiongemma.diffusion.adjust import Cut, Penalties
from diffusiongemma.diffusion.samplers import SAMPLERS, EntropyBound, Sampler
from diffusiongemma.diffusion.stop import StableAndConfident, StopRule
from diffusiongemma.diffusion.temperature import Temperature
from diffusiongemma.options import OF_DECODING, VERIFY, by_name, check, refuse_unknown


@dataclass(frozen=True)
class Early:
    """Early text: leading positions whose most probable token has not changed for `steps` steps, and whose entropy is
    below `entropy` nats, are pinned, and their text goes out at once. That makes the answer another one than without,
    as those tokens cannot change any more. An end token among them ends the canvas."""

    steps: int = 2
    entropy: float = 0.05


@dataclass(frozen=True)
class Reading:
    """What is read of each position. With `top_p` below 1 its distribution is cut down to its nucleus, the fewest
    tokens that hold that share of its probability, before anything else is made of it. `top_logprobs` is how many of
    the most probable tokens the result tells of each token of the answer. `cut` leaves tokens out before the
    temperature, and `penalties` make those less likely that have been written."""

    top_p: float = 1.0
    top_logprobs: int = 0
    top_k: int = 0
    min_p: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0

    @property
    def cut(self) -> Cut:
        return Cut(self.top_k, self.min_p)

    @property
    def penalties(self) -> Penalties:
        return Penalties(self.frequency_penalty, self.presence_penalty, self.repetition_penalty)


@dataclass(frozen=True)
class Decoding:
    """How one request is decoded; the defaults are the released generation config's.

    An answer takes at least `min_tokens` and at most `max_new_tokens` tokens, the end token not counted in the former.

    With `patience` above 0 a canvas ends, though it is not sure of itself, when its most probable tokens have not
    changed for that many steps. `verify` says which canvases the encoder checks: with "unconverged" those that ended
    so, or because their steps ran out, if the encoder is surer; with "surprising" those of which a token is less
    probable than the encoder's own uncertainty there explains; with "always" every one. Tokens stand as far as the
    encoder would have written them too, and from there on the encoder writes the rest of the canvas token by token, as
    in autoregressive mode. So "always" gives the text of that mode, in fewer passes where the canvas is mostly right.

    Raises `InputError` for a value out of range.
    """

    max_new_tokens: int = 256
    min_tokens: int = 0
    steps: int = 48
    sampler: Sampler = field(default_factory=EntropyBound)
    temperature: Temperature = field(default_factory=Temperature)
    stop: StopRule = field(default_factory=StableAndConfident)
    reading: Reading = field(default_factory=Reading)
    early: Early | None = None
    patience: int = 0
    verify: str = VERIFY[0]
    mode: str = "diffusion"
    seed: int = 0
    eos_token_ids: tuple[int, ...] = (1, 106, 50)

    def __post_init__(self) -> None:
        check({name: value for name, value in self.options().items() if value is not None})
        if isinstance(self.sampler, str):
            object.__setattr__(self, "sampler", SAMPLERS[self.sampler.replace("_", "-")]())
        if self.early is not None and not self.early.steps:
            object.__setattr__(self, "early", None)
        object.__setattr__(self, "eos_token_ids", tuple(self.eos_token_ids))
        for name in _WHOLE:  # numpy's whole numbers are not Python's everywhere
            object.__setattr__(self, name, int(getattr(self, name)))

    @classmethod
    def of(cls, **options: Any) -> Decoding:
        """From flat options; the others are as released. Raises `InputError`."""
        return cls().with_options(**options)

    def with_options(self, **options: Any) -> Decoding:
        """A copy with flat `options` changed; a sampler may be given by its name. None is the default of `temperature`,
        and leaves a rule as it is. Raises `InputError` for an unknown option or a value out of range."""
        options = by_name(options)
        refuse_unknown(options, OF_DECODING)
        check({name: value for name, value in options.items() if value is not None or name not in _MAY_BE_NONE})
        fields: dict[str, Any] = {}
        numbers: dict[str, dict[str, Any]] = {}
        for name, value in options.items():
            whole, part = OF_DECODING[name].place
            if part:
                numbers.setdefault(whole, {})[part] = value
            elif value is not None:
                fields[whole] = value
        made = {whole: replace(self._plain(whole), **values) for whole, values in numbers.items()}
        return replace(self, **(made | fields))  # a rule that is given wins over its numbers

    def options(self) -> dict[str, Any]:
        """The flat options that say the same; a rule that its numbers say is None."""
        return {name: self._option(*option.place) for name, option in OF_DECODING.items()}

    def entry(self, strength: float) -> int:
        """The steps to skip so that a canvas begins at noise level `strength`; at least one is left."""
        return min(self.steps - 1, round((1 - strength) * self.steps))

    def _option(self, whole: str, part: str) -> Any:
        if part:
            return getattr(self._plain(whole), part)
        value = getattr(self, whole)
        return None if whole in _PLAIN and value is self._plain(whole) else value

    def _plain(self, whole: str) -> Any:
        """A part as flat options say it; the usual one in place of a rule that they cannot say."""
        value = getattr(self, whole)
        return value if isinstance(value, type(_PLAIN[whole])) else _PLAIN[whole]


_PLAIN: dict[str, Any] = {
    "sampler": EntropyBound(),
    "temperature": Temperature(),
    "stop": StableAndConfident(),
    "reading": Reading(),
    "early": Early(steps=0),
}
_WHOLE = ("max_new_tokens", "min_tokens", "steps", "patience", "seed")
_MAY_BE_NONE = ("temperature", "sampler", "stop_rule")
