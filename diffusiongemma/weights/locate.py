"""Finding a model: the embedded ones by name, directories, hub ids; and where and how to hold it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from diffusiongemma.config import read_json
from diffusiongemma.errors import CheckpointError, InputError, ModelNotFound
from diffusiongemma.host import multiplies_bfloat16

ASSETS = Path(__file__).parents[1] / "assets"
SMALL_BYTES = 2 * 10**9  # below this a model is converted to float32 on a CPU, ...
SMALL_PACKED_BYTES = SMALL_BYTES // 4  # ... and below this one in few bits


def embedded() -> list[str]:
    """Names of the models the package carries."""
    return sorted(path.parent.name for path in ASSETS.glob("*/config.json"))


def locate(source: str | Path) -> Path:
    """The directory of a checkpoint, or its GGUF file, the first where it is split.

    `source` is an embedded model's name, a path, or a hub id; `:Q4_K_M` behind a directory or hub id chooses among GGUF
    files. Raises `ModelNotFound` with what to try instead.
    """
    if str(source) in embedded():
        return ASSETS / str(source)
    name, variant = _without_variant(str(source))
    path = Path(name).expanduser()
    if name and os.path.isdir(path):  # unlike Path.is_dir, no error for a name that is too long
        return _in_directory(path, name, variant)
    if os.path.isfile(path):
        return _file(path)
    parts = name.split("/")
    if len(parts) != 2 or not all(parts) or parts[0] in (".", "..", "~"):
        names = ", ".join([*embedded(), "a directory", "a GGUF file", "or a hub id like owner/name"])
        raise ModelNotFound(f"no model {str(source)!r}: give {names}")
    from diffusiongemma.weights.hub import download

    return download(name, variant)


def _without_variant(source: str) -> tuple[str, str | None]:
    """("owner/name", "Q4_K_M") of "owner/name:Q4_K_M"; a path that is there is taken whole."""
    name, colon, variant = source.rpartition(":")
    if not colon or not variant or "/" in variant or "\\" in variant or os.path.lexists(Path(source).expanduser()):
        return source, None
    return name, variant


def _in_directory(path: Path, name: str, variant: str | None) -> Path:
    from diffusiongemma.weights.choosing import chosen_in

    whole = any(path.glob("*.safetensors")) or (path / "adapter_config.json").exists()
    return path if variant is None and whole else chosen_in(path, name, variant)


def _file(path: Path) -> Path:
    with path.open("rb") as file:
        begins = file.read(4)
    if path.suffix == ".gguf" or begins == b"GGUF":
        return path
    raise ModelNotFound(
        f"{path} is a file: give a GGUF file, or the directory that holds config.json and the safetensors files"
    )


def locate_adapted(source: str | Path, adapter: str | Path | None = None) -> tuple[Path, Path | None]:
    """(directory or GGUF file of the checkpoint, directory of its adapter or None).

    A `source` that is itself an adapter stands for the base model it names, with it. Raises `ModelNotFound`,
    `CheckpointError` for an adapter that names no base, `InputError` for an adapter of an adapter.
    """
    directory = locate(source)
    if directory.is_file() or (directory / "config.json").exists() or not (directory / "adapter_config.json").exists():
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
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        raise InputError(f"no device {str(device)!r} here: give auto, cpu, cuda, cuda:1 or mps") from error
    return chosen


def choose_devices(device: str | torch.device, devices: Sequence[str | torch.device] | None) -> list[torch.device]:
    """Those over which a model is laid by layers, or the one. Raises `InputError`, also where they are of two kinds."""
    if devices is None or (isinstance(devices, (str, list, tuple)) and not devices):
        return [choose_device(device)]
    if device != "auto":
        raise InputError("give `device` or `devices`, not both", option="devices")
    if isinstance(devices, str):
        devices = devices.split(",")
    if not isinstance(devices, Sequence) or isinstance(devices, bytes):
        raise InputError("give a list of devices, or auto", option="devices", got=devices)
    found = [torch.empty(1, device=choose_device(one)).device for one in devices]  # of cuda, cuda:0
    if len({one.type for one in found}) > 1:
        named = ",".join(map(str, devices))
        raise InputError("give devices of one kind, as cuda:0,cuda:1", option="devices", got=named)
    return found


def choose_dtype(
    dtype: str | torch.dtype, path: Path, device: torch.device, packed: bool = False
) -> torch.dtype | None:
    """None keeps the file's. Small models compute in float32 on a CPU, where bfloat16 gains nothing at their size, and
    `packed` ones on one that has no products of bfloat16.

    GGUF files hold vectors in float32, whatever they are meant to be computed in: large models compute in bfloat16.
    """
    if dtype == "auto":
        small = SMALL_PACKED_BYTES if packed else SMALL_BYTES
        if device.type == "cpu" and (weight_bytes(path) < small or (packed and not multiplies_bfloat16())):
            return torch.float32
        return torch.bfloat16 if path.is_file() else None
    chosen = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(chosen, torch.dtype) or not chosen.is_floating_point:
        raise InputError(f"no dtype {dtype!r} for weights: give auto, float32, bfloat16 or float16")
    return chosen


def weight_bytes(path: Path) -> int:
    """What the files of a checkpoint's weights take."""
    if path.is_file():
        from diffusiongemma.weights.formats.gguf import parts_of

        return sum(part.stat().st_size for part in parts_of(path))
    return sum(part.stat().st_size for part in path.glob("*.safetensors"))
