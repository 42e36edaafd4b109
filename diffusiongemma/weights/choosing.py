"""Which of a directory's or a repository's files are the model, by their names alone."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from diffusiongemma.errors import ModelNotFound

BESIDE = ("*.json", "*.jinja", "tokenizer.model")  # what belongs to safetensors, small files all
WEIGHTS = ".safetensors"
PREFERRED = "Q4_K_M"  # of several GGUF files, as llama.cpp's own -hf takes
NOT_READ = {
    ".bin": "PyTorch's pickled files",
    ".pt": "PyTorch's pickled files",
    ".pth": "PyTorch's pickled files",
    ".ckpt": "PyTorch's pickled files",
    ".onnx": "ONNX",
    ".msgpack": "Flax",
    ".h5": "Keras",
    ".npz": "NumPy archives",
    ".task": "MediaPipe",
    ".litertlm": "LiteRT",
    ".tflite": "TensorFlow Lite",
    ".mlmodel": "Core ML",
    ".engine": "TensorRT",
}
_SPLIT = re.compile(r"(.*)-(\d{5})-of-(\d{5})")


@dataclass(frozen=True)
class Choice:
    """Files to have: all names that match `patterns`, of which `gguf` is the one to open, if any."""

    patterns: tuple[str, ...]
    gguf: str | None = None


def choose_files(where: str, names: Collection[str], variant: str | None = None) -> Choice:
    """The model among the files of `where`: safetensors, or GGUF where there is none or a `variant` is asked for.

    Raises `ModelNotFound`, naming what else is there.
    """
    if variant is None and any(name.endswith(WEIGHTS) for name in names):
        return Choice((*BESIDE, "*" + WEIGHTS))
    models = gguf_models(names)
    if models:
        chosen = _choose(where, models, variant)
        return Choice(models[chosen], models[chosen][0])
    if variant is not None:
        raise ModelNotFound(f"{where} holds no GGUF file, so no {variant!r}: leave :{variant} out")
    others = sorted({kind for name in names for end, kind in NOT_READ.items() if name.endswith(end)})
    if others:
        raise ModelNotFound(f"{where} holds {others[0]}, not read here: use safetensors or a GGUF file")
    return Choice((*BESIDE, "*" + WEIGHTS))


def chosen_in(folder: Path, where: str, variant: str | None = None) -> Path:
    """What of a directory is the model: itself, or a GGUF file in it or one level below. Raises `ModelNotFound`."""
    found = [*folder.glob("*"), *folder.glob("*/*.gguf")]
    choice = choose_files(where, [path.relative_to(folder).as_posix() for path in found if path.is_file()], variant)
    return folder / choice.gguf if choice.gguf else folder


def gguf_models(names: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Each model's files, in order, by the name of the whole without its ending. Not towers for images."""
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        stem, dot, end = name.rpartition(".")
        if end != "gguf" or not dot or "mmproj" in stem.rpartition("/")[2].lower():
            continue
        split = _SPLIT.fullmatch(stem)
        found.setdefault(split[1] if split else stem, []).append(name)
    return {name: tuple(files) for name, files in found.items()}


def _choose(where: str, models: Collection[str], variant: str | None) -> str:
    if variant is None and len(models) == 1:
        return next(iter(models))
    wanted = variant or PREFERRED
    exact = [name for name in models if wanted in (name, name + ".gguf")]
    ending = re.compile(rf"(.*[-._/])?{re.escape(wanted)}", re.IGNORECASE)
    matching = exact or [name for name in models if ending.fullmatch(name)]
    # …-UD-Q4_K_M and …-Q4_K_M both end so: the one with less before it is what was meant.
    matching = [name for name in matching if name.replace("UD-", "") == name] or matching
    if len(matching) == 1:
        return matching[0]
    kinds = ", ".join(f":{_label(name)}" for name in sorted(models))
    problem = f"holds {len(matching) or 'no'} {wanted!r}" if variant else f"holds {len(models)} GGUF models"
    raise ModelNotFound(f"{where} {problem}: choose by {kinds}")


def _label(name: str) -> str:
    """The end of a name that says how it is quantised: Q4_K_M of diffusiongemma-26B-Q4_K_M."""
    return re.split(r"[-./]", name)[-1]
