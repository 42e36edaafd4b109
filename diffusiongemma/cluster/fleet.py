"""What a fleet of replicas is: the model, how it is served, how many replicas, and what each of them gets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from diffusiongemma.errors import InputError
from diffusiongemma.serve.settings import Settings

LOADING = ("device", "devices", "dtype", "activations", "kv")


@dataclass(frozen=True)
class Fleet:
    """Raises `InputError` for numbers out of range."""

    model: str = "nano"
    loading: Mapping[str, Any] = field(default_factory=dict)  # `load`'s keywords
    settings: Settings = field(default_factory=Settings)  # of each replica; limits are per replica
    least: int = 1  # replicas
    most: int = 1
    cpus: float = 1.0  # of each replica
    gpus: float = 0.0
    upscale_delay: float = 10.0  # seconds of too long queues until there is one more
    downscale_delay: float = 300.0  # seconds of idleness until there is one less

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise InputError("give N, or LEAST-MOST, from 1", option="replicas", got=f"{self.least}-{self.most}")
        if self.cpus < 0 or self.gpus < 0 or not self.cpus + self.gpus:
            raise InputError("give a replica some of a processor or GPU", option="replica_cpus", got=self.cpus)

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Fleet:
        """From the flat arguments of a manifest, under the names that the command line has for them, with
        underscores; `settings` as `Settings` names them. Raises `InputError`."""
        given = dict(arguments)
        least, most = replicas_of(str(given.pop("replicas", "1")))
        own = {"cpus": given.pop("replica_cpus", 1.0), "gpus": given.pop("replica_gpus", 0.0)}
        own |= {name: given.pop(name) for name in ("model", "upscale_delay", "downscale_delay") if name in given}
        loading = {name: given.pop(name) for name in LOADING if name in given}
        known = {one.name: one for one in fields(Settings)}
        if unknown := next((name for name in given if name not in known), None):
            raise InputError(f"unknown argument {unknown!r}: there are {', '.join([*own, 'replicas', *known])}")
        given = {"model_name": own.get("model", "nano")} | {name: _typed(name, value) for name, value in given.items()}
        return cls(loading=loading, settings=Settings(**given), least=least, most=most, **own)


def _typed(name: str, value: Any) -> Any:
    if name == "adapters":
        return {adapter: Path(folder) for adapter, folder in value.items()}
    if name.endswith("_dir") and value is not None:
        return Path(value)
    return tuple(value) if isinstance(value, list) else value


def replicas_of(text: str) -> tuple[int, int]:
    """(least, most) of "3" or "1-4". Raises `InputError`."""
    if (match := re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", text.strip())) is None:
        raise InputError("give N, or LEAST-MOST", option="replicas", got=text)
    return int(match[1]), int(match[2] or match[1])
