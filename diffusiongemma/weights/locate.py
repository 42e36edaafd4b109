"""Finding a model: the embedded ones by name, directories, hub ids; and where and how to hold it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from diffusiongemma.config import read_json
from diffusiongemma.errors import CheckpointError, InputError, ModelNotFound

ASSETS = Path(__file__).parents[1] / "assets"
SMALL_BYTES = 2 * 10**9  # below this a model is converted to float32 on a CPU


def embedded() -> list[str]:
    """Names of the models the package carries."""
    return sorted(path.parent.name for path in ASSETS.glob("*/config.json"))


def locate(source: str | Path) -> Path:
    """The directory of a checkpoint. Raises `ModelNotFound` with what to try instead."""
    path = Path(source).expanduser()
    if str(source) in embedded():
        return ASSETS / str(source)
    if str(source) and os.path.isdir(path):  # unlike Path.is_dir, no error for a name that is too long
        return path
    if os.path.isfile(path):
        raise ModelNotFound(f"{source} is a file: give the directory that holds config.json and the safetensors files")
    parts = str(source).split("/")
    if len(parts) != 2 or not all(parts) or parts[0] in (".", "..", "~"):
        names = ", ".join([*embedded(), "a directory", "or a hub id like owner/name"])
        raise ModelNotFound(f"no model {str(source)!r}: give {names}")
    return _download(str(source))


def locate_adapted(source: str | Path, adapter: str | Path | None = None) -> tuple[Path, Path | None]:
    """(directory of the checkpoint, directory of its adapter or None).

    A `source` that is itself an adapter stands for the base model it names, with it. Raises `ModelNotFound`,
    `CheckpointError` for an adapter that names no base, `InputError` for an adapter of an adapter.
    """
    directory = locate(source)
    if (directory / "config.json").exists() or not (directory / "adapter_config.json").exists():
        return directory, None if adapter is None else locate(adapter)
    if adapter is not None:
        raise InputError(f"{source} is an adapter itself: give its base model with adapter={adapter}")
    base = read_json(directory / "adapter_config.json").get("base_model_name_or_path")
    if not base:
        raise CheckpointError(f"{directory} does not name its base model: load that model with adapter={directory}")
    try:
        return locate(base), directory
    except ModelNotFound as error:
        raise ModelNotFound(f"{directory} is an adapter, its base model is not there: {error}") from None


def _download(repo: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model"]
    try:
        return Path(snapshot_download(repo, allow_patterns=patterns))
    except HFValidationError:
        raise ModelNotFound(f"{repo!r} is not a valid hub id: it reads owner/name") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelNotFound(
            f"cannot download {repo} ({reason}): check the name and the network, or give a local directory"
        ) from None


def load_tokenizer(directory: Path) -> Any:
    """The checkpoint's tokenizer, or None where it has no tokenizer files."""
    if not any((directory / name).exists() for name in ("tokenizer.json", "tokenizer.model")):
        return None
    try:
        return _tokenizer_class(directory).from_pretrained(directory, local_files_only=True)
    except Exception as error:  # whatever a broken file makes the tokenizer library raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{directory}: the tokenizer files cannot be read: {reason}") from error


def _tokenizer_class(directory: Path) -> Any:
    """The plain class where the files ask for no other: `AutoTokenizer` imports a second's worth of models first."""
    path = directory / "tokenizer_config.json"
    named = read_json(path).get("tokenizer_class") if path.exists() else None
    if named == "TokenizersBackend":
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast
    from transformers import AutoTokenizer

    return AutoTokenizer


def choose_device(device: str | torch.device) -> torch.device:
    """The device of that name, "auto" a GPU if there is one. Raises `InputError` for one this machine has not."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"no device {str(device)!r} here: give auto, cpu, cuda, cuda:1 or mps") from error
    return chosen


def choose_dtype(dtype: str | torch.dtype, directory: Path, device: torch.device) -> torch.dtype | None:
    """None keeps the file's. Small models compute in float32 on a CPU, where bfloat16 gains nothing at their size."""
    if dtype == "auto":
        size = sum(path.stat().st_size for path in directory.glob("*.safetensors"))
        return torch.float32 if device.type == "cpu" and size < SMALL_BYTES else None
    chosen = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(chosen, torch.dtype) or not chosen.is_floating_point:
        raise InputError(f"no dtype {dtype!r} for weights: give auto, float32, bfloat16 or float16")
    return chosen
