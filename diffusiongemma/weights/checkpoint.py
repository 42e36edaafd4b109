"""Checkpoints in the Hugging Face layout: config, safetensors in one or many files, generation config."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from diffusiongemma.config import ModelConfig, read_json
from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.errors import CheckpointError, UserError
from diffusiongemma.model.model import Model
from diffusiongemma.weights.formats.quantised import QuantisedShards, is_quantised
from diffusiongemma.weights.generation import decoding_files
from diffusiongemma.weights.packed import Packed
from diffusiongemma.weights.packed_modules import can_be_packed, packed_of, put

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
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
)


VISION = ("model.encoder.vision_tower.", "model.encoder.embed_vision.")  # what the names of its tensors begin with


def file_name(name: str) -> str:
    """A `Model` tensor's name in the file. Encoder and decoder share all but the vision tower and one scalar."""
    prefixes = {
        "backbone.": "model.decoder.",
        "vision.tower.": "model.encoder.vision_tower.",
        "vision.projection.": "model.encoder.embed_vision.embedding_projection.",
    }
    if name.endswith(".encoder_layer_scalar"):
        layer = name.split(".")[2]
        return f"model.encoder.language_model.layers.{layer}.layer_scalar"
    prefix = next(p for p in prefixes if name.startswith(p))
    return prefixes[prefix] + name.removeprefix(prefix)


def _tied_to(name: str) -> str | None:
    """The tensor that `name`, an encoder or head copy some writers keep, must equal."""
    if name == "lm_head.weight":
        return "model.decoder.embed_tokens.weight"
    encoder = "model.encoder.language_model."
    return "model.decoder." + name.removeprefix(encoder) if name.startswith(encoder) else None


def _full(shards: Tensors, name: str) -> Tensor:
    tensor = shards.tensor(name)
    return tensor.unpack() if isinstance(tensor, Packed) else tensor


class Tensors(Protocol):
    """What a reader gives: tensors of one model, by the release's names."""

    directory: Path
    where: dict[str, Path]  # the file of each

    def tensor(self, name: str) -> Tensor | Packed: ...


class Shards:
    """Memory-mapped tensors of a checkpoint directory, by name."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.files: dict[Path, Any] = {}
        self.where: dict[str, Path] = {}
        for path in self._paths():
            try:
                self.files[path] = safe_open(path, framework="pt", device="cpu")
            except (SafetensorError, OSError) as error:
                raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error
            self.where |= dict.fromkeys(self.files[path].keys(), path)

    def _paths(self) -> list[Path]:
        single, index = self.directory / SINGLE, self.directory / INDEX
        if index.exists():
            weight_map = read_json(index).get("weight_map")
            if not isinstance(weight_map, dict) or not weight_map:
                raise CheckpointError(f"{index} has no weight_map")
            paths = [self.directory / name for name in sorted(set(weight_map.values()))]
        else:
            paths = [single]
        for path in paths:
            if not path.exists():
                raise CheckpointError(f"{path} is missing: download or copy it into the checkpoint directory")
        return paths

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.files[self.where[name]].get_slice(name).get_shape())

    def tensor(self, name: str) -> Tensor:
        return self.files[self.where[name]].get_tensor(name)


def load_weights(model: Model, shards: Tensors, dtype: torch.dtype | None, device: torch.device) -> None:
    """Fill the text stack of `model`, built on the meta device.

    With `dtype` None tensors stay as they are in the file, on the CPU as views of the memory-mapped file.
    Raises `CheckpointError` naming the tensor and the file where one is missing, surplus or of another shape.
    """
    expected = {file_name(name): name for name in model.state_dict()}
    sees = model.config.vision_config is not None
    _check_names(shards, expected, {name for name in shards.where if sees and name.startswith(VISION)})
    model.file_dtypes |= _fill(model, expected, shards, dtype, device)


def load_vision(shards: Tensors, dtype: torch.dtype | None, device: torch.device, model: Model) -> nn.Module:
    """The vision tower of the checkpoint that `model` is from. Raises `CheckpointError` as `load_weights` does."""
    from diffusiongemma.model.vision import Vision

    with torch.device("meta"):
        vision = Vision(model.config)
    expected = {file_name(f"vision.{name}"): name for name in vision.state_dict()}
    _check_names(shards, expected, {name for name in shards.where if not name.startswith(VISION)})
    model.file_dtypes |= _fill(vision, expected, shards, dtype, device)
    _materialise_buffers(vision, device)
    return vision.eval()


def _fill(
    model: nn.Module, expected: dict[str, str], shards: Tensors, dtype: torch.dtype | None, device: torch.device
) -> dict[str, torch.dtype]:
    """Put tensors of the file, by their names there, in their places -> their dtypes in the file."""
    dtypes, packed = {}, {}
    for name, own in expected.items():
        parent, _, leaf = own.rpartition(".")
        module = model.get_submodule(parent)
        old, tensor = getattr(module, leaf), shards.tensor(name)
        if tuple(tensor.shape) != tuple(old.shape):
            raise CheckpointError(
                f"{shards.where[name]}: {name} has shape {tuple(tensor.shape)}, "
                f"the configuration asks for {tuple(old.shape)}"
            )
        if isinstance(tensor, Packed):
            if can_be_packed(model, own):
                packed[own] = tensor
                continue
            tensor = tensor.unpack()
        dtypes[name] = tensor.dtype
        tensor = tensor.to(device, dtype if tensor.is_floating_point() else None)
        setattr(module, leaf, nn.Parameter(tensor, requires_grad=False) if isinstance(old, nn.Parameter) else tensor)
    if isinstance(model, Model):
        put(model, packed)
    return dtypes


def _check_names(shards: Tensors, expected: dict[str, str], others: set[str]) -> None:
    """Raises `CheckpointError` unless the file has what is expected, and beside it `others` alone."""
    for name in expected:
        if name not in shards.where:
            raise CheckpointError(f"{shards.directory}: tensor {name} is missing from its safetensors files")
    for name in shards.where:
        if name in expected or name in others:
            continue
        original = _tied_to(name)
        if original not in expected or original is None:
            raise CheckpointError(f"{shards.where[name]}: tensor {name} is not part of this architecture")
        if not torch.equal(_full(shards, name), _full(shards, original)):
            raise CheckpointError(f"{shards.where[name]}: tensor {name} differs from {original}, which it must equal")


def open_checkpoint(path: Path) -> tuple[ModelConfig, Tensors]:
    """A checkpoint directory or a GGUF file: its model's shape, and its tensors by the release's names.

    Raises `CheckpointError` for a format that is not read here.
    """
    if path.suffix == ".gguf":
        from diffusiongemma.weights.formats.gguf import GGUF, config_of

        file = GGUF(path)
        return config_of(file), file
    raw = read_json(path / "config.json")
    if is_quantised(raw):
        return ModelConfig.from_hf(raw), QuantisedShards(Shards(path), raw)
    return ModelConfig.from_hf(raw), Shards(path)


def load_model(directory: Path, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> Model:
    """The model in a checkpoint directory, ready for inference."""
    config, shards = open_checkpoint(directory)
    place = torch.device(device)
    with torch.device("meta"):
        model = Model(config, partial(load_vision, shards, dtype, place))
    load_weights(model, shards, dtype, place)
    return model.eval()


def _materialise_buffers(vision: nn.Module, device: torch.device) -> None:
    for module in vision.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:
                module.register_buffer(name, torch.empty_like(buffer, device=device), persistent=False)
    vision.restore_buffers()  # type: ignore[operator]


def save_model(
    model: Model,
    directory: Path,
    decoding: Decoding | None = None,
    source: Path | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a directory that transformers and `load_model` read; nothing is left half-written.

    Tensors keep the dtype they were loaded from unless `dtype` says otherwise. Configuration, tokenizer and
    template files are copied from `source`, the directory the model came from, where there is one.
    Raises `UserError` when the target is not writable or the disk is full, and for a model with packed weights.
    """
    if packed_of(model):
        raise UserError(f"cannot write {directory}: the model has packed weights, copy the directory it came from")
    directory.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}."))
    try:
        _write_shards(model, partial, dtype)
        _write_json(partial / "config.json", _config(model, source, dtype))
        if source is not None and (source / "generation_config.json").exists() and decoding is None:
            shutil.copy(source / "generation_config.json", partial)
            if (source / "decoding.json").exists():
                shutil.copy(source / "decoding.json", partial)
        else:
            for name, contents in decoding_files(decoding or Decoding(), model.config).items():
                _write_json(partial / name, contents)
        for name in SIDE_FILES:
            if source is not None and (source / name).exists():
                shutil.copy(source / name, partial)
        own_rules = (partial / "decoding.json").exists()
        _replace(partial, directory)
        if not own_rules:  # those of a model that was here before would be taken for this one's
            (directory / "decoding.json").unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot write {directory}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _config(model: Model, source: Path | None, dtype: torch.dtype | None) -> dict[str, Any]:
    raw = read_json(source / "config.json") if source is not None else model.config.to_hf()
    return raw | {"dtype": str(dtype).removeprefix("torch.")} if dtype is not None else raw


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
        save_file(shards[0], directory / SINGLE, metadata={"format": "pt"})
        return
    weight_map: dict[str, str] = {}
    total = 0
    for i, shard in enumerate(shards, 1):
        name = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, directory / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, name)
        total += sum(t.nbytes for t in shard.values())
    _write_json(directory / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _shards(model: Model, dtype: torch.dtype | None) -> Iterator[dict[str, Tensor]]:
    _ = model.vision  # part of the model, also where nobody has asked for it yet
    shard: dict[str, Tensor] = {}
    size = 0
    for own, tensor in model.state_dict().items():
        name = file_name(own)
        target = dtype or model.file_dtypes.get(name, tensor.dtype)
        tensor = tensor.detach().to("cpu", target if tensor.is_floating_point() else None).contiguous()
        if shard and size + tensor.nbytes > SHARD_BYTES:
            yield shard
            shard, size = {}, 0
        shard[name] = tensor
        size += tensor.nbytes
    yield shard


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
