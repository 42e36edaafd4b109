"""Models on Hugging Face's hub: what a repository holds is looked at before its gigabytes are fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusiongemma.config import ModelConfig, read_json
from diffusiongemma.errors import CheckpointError, ModelNotFound
from diffusiongemma.weights.choosing import Choice, choose_files, chosen_in
from diffusiongemma.weights.formats.gguf_names import ARCHITECTURE
from diffusiongemma.weights.formats.quantised import is_quantised


def download(repo: str, variant: str | None = None) -> Path:
    """The directory, or the GGUF file, of a hub id; from the cache where the hub cannot be asked.

    Raises `ModelNotFound` for what is not there, `CheckpointError` for a model that is not read here, before its
    weights are fetched.
    """
    from huggingface_hub.errors import HFValidationError

    try:
        info, reason = _look(repo)
        if info is None:
            return _cached(repo, variant, reason)
        choice = choose_files(repo, [file.rfilename for file in info.siblings], variant)
        _check(repo, info, choice)
        folder = _fetch(repo, choice.patterns)
    except HFValidationError:
        raise ModelNotFound(f"{repo!r} is not a valid hub id: it reads owner/name") from None
    return folder / choice.gguf if choice.gguf else folder


def sizes(repo: str) -> dict[str, int]:
    """Bytes of each file of a repository. Raises `ModelNotFound` where the hub cannot be asked."""
    info, reason = _look(repo)
    if info is None:
        raise _unreachable(repo, reason)
    return {file.rfilename: file.size or 0 for file in info.siblings}


def peek(repo: str, name: str) -> Path:
    """One small file of a repository."""
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(repo, name))


def _look(repo: str) -> tuple[Any, str]:
    """(what the hub says of a repository, "") or (None, why it says nothing)."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    try:
        return HfApi().model_info(repo, files_metadata=True), ""
    except HFValidationError:
        raise
    except Exception as error:  # of the hub, or of whichever HTTP client it brings along
        return None, _first_line(error)


def _check(repo: str, info: Any, choice: Choice) -> None:
    """Raises `CheckpointError` for what could not be read once it was here."""
    if choice.gguf:
        architecture = (getattr(info, "gguf", None) or {}).get("architecture", ARCHITECTURE)
        if architecture != ARCHITECTURE:
            message = f"holds a model of architecture {architecture!r}, expected {ARCHITECTURE!r}"
            raise CheckpointError(f"{repo} {message}")
    elif any(file.rfilename == "config.json" for file in info.siblings):
        raw = read_json(peek(repo, "config.json"))
        try:
            ModelConfig.from_hf(raw)
            is_quantised(raw)
        except CheckpointError as error:
            raise CheckpointError(f"{repo}: {error}") from error


def _fetch(repo: str, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, allow_patterns=list(patterns)))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise _unreachable(repo, _first_line(error)) from None


def _cached(repo: str, variant: str | None, reason: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repo, local_files_only=True))
    except (LocalEntryNotFoundError, OSError):
        raise _unreachable(repo, reason) from None
    return chosen_in(folder, repo, variant)


def _unreachable(repo: str, reason: str) -> ModelNotFound:
    message = "check the name and the network, or give a local directory"
    return ModelNotFound(f"cannot download {repo} ({reason}): {message}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
