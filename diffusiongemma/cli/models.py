"""`list`, `pull`, `show` and `rm`: the models at hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from diffusiongemma.cli import options as given
from diffusiongemma.errors import InputError, ModelNotFound

Name = Annotated[str, typer.Argument(metavar="HUB_ID", help="Of the Hugging Face hub: owner/name.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def list_models(as_json: given.Json = False) -> None:
    """List the models on this machine: those of the package and those fetched from the hub."""
    found = [*_embedded(), *_fetched()]
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    width = max(len(model["name"]) for model in found)
    for model in found:
        print(f"{model['name']:{width}}  {size(model['bytes']):>8}  {model['path']}")


def pull(name: Name) -> None:
    """Fetch a model from the Hugging Face hub, to be used without the network."""
    from diffusiongemma.weights.locate import locate

    if "/" not in name or Path(name).exists():
        raise InputError(f"{name!r} is not a hub id like owner/name: there is nothing to fetch")
    print(locate(name))


def show(
    model: Annotated[str, typer.Argument(metavar="nano|PATH|HUB_ID", help="A model that is here.")] = "nano",
    as_json: given.Json = False,
) -> None:
    """Say what a model is, without loading it. One of the hub must have been fetched."""
    told = about(_directory(model))
    if as_json:
        print(json.dumps(told, ensure_ascii=False))
        return
    for name, value in told.items():
        print(f"{name.replace('_', ' '):12}  {value if not isinstance(value, list) else ', '.join(value) or '–'}")


def rm(name: Name, yes: Yes = False) -> None:
    """Delete a model that was fetched from the hub."""
    repo = next((repo for repo in _hub() if repo.repo_id == name), None)
    if repo is None:
        raise ModelNotFound(f"no fetched model {name!r}: `diffusiongemma list` shows which there are")
    if not yes and not typer.confirm(f"Delete {name}, {size(repo.size_on_disk)}?"):
        raise typer.Exit(1)
    from huggingface_hub import scan_cache_dir

    revisions = [revision.commit_hash for revision in repo.revisions]
    scan_cache_dir().delete_revisions(*revisions).execute()
    print(f"deleted {name}: {size(repo.size_on_disk)} freed")


def about(directory: Path) -> dict[str, Any]:
    """What the files of a checkpoint say. Raises `CheckpointError` where they cannot be read."""
    from diffusiongemma.config import ModelConfig
    from diffusiongemma.weights.generation import load_decoding
    from diffusiongemma.weights.skills import load_skills, sees

    config = ModelConfig.from_file(directory / "config.json")
    decoding = load_decoding(directory, config)
    files, skills = sorted(directory.glob("*.safetensors")), load_skills(directory)
    return {
        "path": str(directory),
        "bytes": sum(file.stat().st_size for file in files),
        "parameters": sum(map(_parameters, files)),
        "canvas": config.canvas_length,
        "context": config.max_position_embeddings,
        "vocabulary": config.vocab_size,
        "vision": config.vision_config is not None and sees(skills),  # a tower alone sees nothing
        "taught": list(skills),
        "steps": decoding.steps,
        "sampler": type(decoding.sampler).__name__,
        "verify": decoding.verify,
    }


def _parameters(file: Path) -> int:
    """From the header alone, packed weights by their stored numbers."""
    from math import prod

    from safetensors import safe_open

    with safe_open(file, "pt") as tensors:
        return sum(prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118


def _directory(model: str) -> Path:
    from diffusiongemma.weights.locate import embedded, locate

    if model in embedded() or Path(model).expanduser().is_dir():
        return locate(model)
    fetched = next((found["path"] for found in _fetched() if found["name"] == model), None)
    if fetched is None:
        raise ModelNotFound(f"no model {model!r} here: `diffusiongemma list` shows which there are, pull fetches one")
    return Path(fetched)


def _embedded() -> Iterator[dict[str, Any]]:
    from diffusiongemma.weights.locate import ASSETS, embedded

    for name in embedded():
        directory = ASSETS / name
        yield {"name": name, "bytes": (directory / "model.safetensors").stat().st_size, "path": str(directory)}


def _fetched() -> Iterator[dict[str, Any]]:
    for repo in _hub():
        newest = max(repo.revisions, key=lambda revision: revision.last_modified)
        yield {"name": repo.repo_id, "bytes": repo.size_on_disk, "path": str(newest.snapshot_path)}


def _hub() -> list[Any]:
    """The repositories in the hub's cache that this package can load."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir().repos
    except CacheNotFound:
        return []
    return sorted((repo for repo in repos if repo.repo_type == "model" and _is_ours(repo)), key=lambda r: r.repo_id)


def _is_ours(repo: Any) -> bool:
    for revision in repo.revisions:
        for name in ("config.json", "adapter_config.json"):
            path = Path(revision.snapshot_path) / name
            if path.exists() and ("diffusion_gemma" in (text := path.read_text("utf-8")) or "DiffusionGemma" in text):
                return True
    return False


def size(count: int) -> str:
    """Bytes for people: 4.5 MB, 52.0 GB."""
    for unit, bytes_of in (("GB", 1e9), ("MB", 1e6)):
        if count >= bytes_of:
            return f"{count / bytes_of:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"
