"""How the distribution is sharpened as noise falls."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LinearTemperature:
    """Temperature `t_min + (t_max - t_min) * noise_level`, times `scale`."""

    t_min: float = 0.4
    t_max: float = 0.8
    scale: float = 1.0

    def __call__(self, noise_level: float) -> float:
        return (self.t_min + (self.t_max - self.t_min) * noise_level) * self.scale
