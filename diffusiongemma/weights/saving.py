"""Checkpoints, written in the Hugging Face layout: config, safetensors in one or many files, generation config."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from diffusiongemma.config import ModelConfig, read_json
from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.errors import UserError
from diffusiongemma.model.model import Model
from diffusiongemma.weights.checkpoint import INDEX, SINGLE, file_name
from diffusiongemma.weights.formats.packed_files import Layout, described, layouts_of, stored
from diffusiongemma.weights.formats.safetensors_file import write_safetensors
from diffusiongemma.weights.generation import decoding_files
from diffusiongemma.weights.opening import Checkpoint
from diffusiongemma.weights.packed import Packed
from diffusiongemma.weights.packed_modules import packed_of

SHARD_BYTES = 5 * 10**9
# Files beside the weights that belong to a model: carried over on saving.
SIDE_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "skills.json",
)


def save_model(
    model: Model,
    directory: Path,
    decoding: Decoding | None = None,
    source: Path | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a directory that `load_model` reads, and transformers if no weights are packed; nothing is left
    half-written.

    Tensors keep the dtype they were loaded from unless `dtype` says otherwise, packed weights their layout.
    Configuration, tokenizer and template come from `source`, the directory or GGUF file the model came from, where
    there is one. Raises `UserError` when the target is not writable or the disk is full.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}."))
    try:
        _write_shards(model, partial, dtype)
        packed = {file_name(name): weight for name, weight in packed_of(model).items()}
        config = config_for(model.config, source, layouts_of(packed))
        write_json(partial / "config.json", config | ({"dtype": str(dtype).removeprefix("torch.")} if dtype else {}))
        write_side_files(partial, model.config, source, decoding)
        own_rules = (partial / "decoding.json").exists()
        _replace(partial, directory)
        if not own_rules:  # those of a model that was here before would be taken for this one's
            (directory / "decoding.json").unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot write {directory}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def config_for(model: ModelConfig, source: Path | None, packed: Mapping[str, Layout]) -> dict[str, Any]:
    """The contents of `config.json`: the source's, with what is packed now."""
    raw = read_json(source / "config.json") if source is not None and source.is_dir() else model.to_hf()
    for earlier in ("quantization", "quantization_config", "packing"):
        raw.pop(earlier, None)
    return raw | ({"quantization_config": described(packed)} if packed else {})


def write_side_files(
    directory: Path, model: ModelConfig, source: Path | None = None, decoding: Decoding | None = None
) -> None:
    """Tokenizer, template and rules of decoding: the source's, and `decoding` in the place of its rules."""
    file = Checkpoint.at(source) if source is not None and source.is_file() else None
    if file is not None:
        file.tokenizer().save_pretrained(directory)
        decoding = decoding or file.decoding()
        source = None
    rules = ("generation_config.json", "decoding.json")
    own_rules = source is not None and decoding is None and (source / rules[0]).exists()
    for name in (*SIDE_FILES, *(rules if own_rules else ())):
        if source is not None and (source / name).exists():
            shutil.copy(source / name, directory)
    if not own_rules:
        for name, contents in decoding_files(decoding or Decoding(), model).items():
            write_json(directory / name, contents)


def _replace(partial: Path, directory: Path) -> None:
    """Put `partial` in the place of `directory`, whose own other files stay."""
    partial.chmod(0o755)
    if not directory.exists():
        os.rename(partial, directory)
        return
    for path in partial.iterdir():
        os.replace(path, directory / path.name)


def _write_shards(model: Model, directory: Path, dtype: torch.dtype | None) -> None:
    shards = list(_shards(model, dtype))
    if len(shards) == 1:
        write_safetensors(directory / SINGLE, shards[0])
        return
    weight_map: dict[str, str] = {}
    total = 0
    for i, shard in enumerate(shards, 1):
        name = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        write_safetensors(directory / name, shard)
        weight_map |= dict.fromkeys(shard, name)
        total += sum(t.nbytes for t in shard.values())
    write_json(directory / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _shards(model: Model, dtype: torch.dtype | None) -> Iterator[dict[str, Tensor]]:
    _ = model.vision  # part of the model, also where nobody has asked for it yet
    shard: dict[str, Tensor] = {}
    size = 0
    for own, weight in [*model.state_dict().items(), *packed_of(model).items()]:
        tensors = stored(file_name(own), _in_dtype(model, own, weight, dtype))
        nbytes = sum(tensor.nbytes for tensor in tensors.values())
        if shard and size + nbytes > SHARD_BYTES:
            yield shard
            shard, size = {}, 0
        shard |= tensors
        size += nbytes
    yield shard


def _in_dtype(model: Model, own: str, weight: Tensor | Packed, dtype: torch.dtype | None) -> Tensor | Packed:
    if isinstance(weight, Packed) or not weight.is_floating_point():
        return weight
    return weight.detach().to("cpu", dtype or model.file_dtypes.get(file_name(own), weight.dtype)).contiguous()


def write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
