"""How the distribution is sharpened as noise falls."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Temperature:
    """On a canvas `t_min + (t_max - t_min) * noise_level`, times `scale`; the plain `scale` where text is written token
    by token. With `scale` 0 the most probable token is taken. None is 1 on a canvas, and 0 token by token."""

    t_min: float = 0.4
    t_max: float = 0.8
    scale: float | None = None

    def __call__(self, noise_level: float) -> float:
        return (self.t_min + (self.t_max - self.t_min) * noise_level) * (self.scale or 1.0)

    @property
    def greedy(self) -> bool:
        """Whether a canvas takes the argmax where its sampler would draw."""
        return self.scale == 0

    @property
    def autoregressive(self) -> float:
        """Of text that is written token by token; 0 takes the most probable one."""
        return self.scale or 0.0
