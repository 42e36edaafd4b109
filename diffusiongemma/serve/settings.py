"""Settings of a server: limits, keys, what is allowed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from diffusiongemma.errors import InputError

MIB = 2**20


@dataclass(frozen=True)
class Settings:
    """Raises `InputError` for a number out of range."""

    model_name: str = "nano"
    aliases: tuple[str, ...] = ()  # further names that requests may give; "*" takes any
    adapters: dict[str, Path] = field(default_factory=dict)  # by the name that asks for them; more may be loaded
    lora_loading: bool = False  # whether requests may load adapters where there are no keys
    max_requests: int = 16  # running at a time, in one batch
    max_queue: int = 64  # waiting behind them
    max_tokens: int = 1_000_000  # prompt and answer, of all requests accepted and not finished
    memory: int | None = None  # bytes for caches; None takes half of what is free, of a GPU's four fifths
    prefix_share: float = 0.5  # of that memory, at most, for beginnings of prompts kept for later
    api_keys: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()  # public names that the server answers to without keys
    allow_urls: bool = False
    lenient: bool = False  # take fields that nobody knows, and name them in a header
    trace_dir: Path | None = None
    batch_dir: Path | None = None  # for /v1/files and /v1/batches, which are not there without it
    log_prompts: bool = False
    max_body: int = 32 * MIB
    max_images: int = 16
    max_image_bytes: int = 20 * MIB
    max_image_pixels: int = 25_000_000
    body_timeout: float = 30.0  # seconds in which a body must arrive
    grace: float = 30.0  # seconds that running requests get after a stop signal

    def __post_init__(self) -> None:
        for name, least in {"max_requests": 1, "max_tokens": 1, "max_body": 1, "max_queue": 0}.items():
            if (value := getattr(self, name)) < least:
                raise InputError(f"give at least {least}", option=name, got=value)
        if self.memory is not None and self.memory < MIB:
            raise InputError(f"{self.memory} bytes are too few: give at least 0.001 GiB", option="memory")
        if any(len(key) < 8 or not key.isascii() for key in self.api_keys):
            raise InputError("an API key is shorter than 8 characters or not ASCII: choose another", option="api_key")
