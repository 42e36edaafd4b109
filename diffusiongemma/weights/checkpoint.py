"""Checkpoints, read: the Hugging Face layout, with safetensors in one or many files, and GGUF files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from diffusiongemma.config import ModelConfig, read_json
from diffusiongemma.errors import CheckpointError
from diffusiongemma.kernels.native import kernels
from diffusiongemma.model.model import Model
from diffusiongemma.weights.formats.quantised import QuantisedShards, is_quantised
from diffusiongemma.weights.formats.repacking import repacked
from diffusiongemma.weights.formats.safetensors_file import SafetensorsFile
from diffusiongemma.weights.packed import Blocks, Packed
from diffusiongemma.weights.packed_modules import can_be_packed, on_device, put

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"

MODELOPT = "hf_quant_config.json"  # where older files of ModelOpt's say what others say in config.json
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

    def stored(self) -> dict[str, int]:
        """Bytes of all that its files hold, by the names there."""
        ...


class Shards:
    """Memory-mapped tensors of a checkpoint directory, by name."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.files: dict[Path, SafetensorsFile] = {}
        self.where: dict[str, Path] = {}
        for path in self._paths():
            self.files[path] = SafetensorsFile(path)
            self.where |= dict.fromkeys(self.files[path].names, path)

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
        return self.files[self.where[name]].shape(name)

    def tensor(self, name: str) -> Tensor:
        return self.files[self.where[name]].tensor(name)

    def stored(self) -> dict[str, int]:
        return {name: self.files[path].nbytes(name) for name, path in self.where.items()}


Where = Callable[[str], torch.device]  # of each weight of a `Model`, by its name there
Pack = Callable[[str, "Tensor | Packed"], "Tensor | Packed"]  # (name in the release, weight) -> weight, packed or not


def as_it_lies(name: str, weight: Tensor | Packed) -> Tensor | Packed:
    return weight


def load_weights(
    model: Model, shards: Tensors, dtype: torch.dtype | None, where: Where, pack: Pack = as_it_lies
) -> None:
    """Fill the text stack of `model`, built on the meta device.

    With `dtype` None tensors stay as they are in the file, on the CPU as views of the memory-mapped file. `pack` may
    put each in few bits first.
    Raises `CheckpointError` naming the tensor and the file where one is missing, surplus or of another shape.
    """
    expected = {file_name(name): name for name in model.state_dict()}
    sees = model.config.vision_config is not None
    check_names(shards, expected, {name for name in shards.where if sees and name.startswith(VISION)})
    model.file_dtypes |= _fill(model, expected, shards, dtype, where, pack)


def load_vision(shards: Tensors, dtype: torch.dtype | None, device: torch.device, model: Model) -> nn.Module:
    """The vision tower of the checkpoint that `model` is from. Raises `CheckpointError` as `load_weights` does."""
    from diffusiongemma.model.vision import Vision

    with torch.device("meta"):
        vision = Vision(model.config)
    expected = {file_name(f"vision.{name}"): name for name in vision.state_dict()}
    check_names(shards, expected, {name for name in shards.where if not name.startswith(VISION)})
    model.file_dtypes |= _fill(vision, expected, shards, dtype, lambda _: device, as_it_lies)
    _materialise_buffers(vision, device)
    return vision.eval()


def _fill(
    model: nn.Module,
    expected: dict[str, str],
    shards: Tensors,
    dtype: torch.dtype | None,
    where: Where,
    pack: Pack,
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
        tensor = pack(name, tensor)
        if isinstance(tensor, Packed):
            if can_be_packed(model, own):
                packed[own] = on_device(_held(tensor, own, model, where(own)), where(own))
                continue
            tensor = tensor.unpack()
        dtypes[name] = tensor.dtype
        tensor = tensor.to(where(own), dtype if tensor.is_floating_point() else None)
        setattr(module, leaf, nn.Parameter(tensor, requires_grad=False) if isinstance(old, nn.Parameter) else tensor)
    if isinstance(model, Model):
        put(model, packed)
    return dtypes


def _held(weight: Packed, name: str, model: nn.Module, device: torch.device) -> Packed:
    """As it lies in the file, or in a layout that is faster, which the model remembers."""
    held = weight if device.type == "cpu" and kernels()[0] is not None else repacked(weight)
    if held is not weight and isinstance(weight, Blocks) and isinstance(model, Model):
        model.repacked[name] = weight.kind
    return held


def check_names(shards: Tensors, expected: dict[str, str], others: set[str]) -> None:
    """Raises `CheckpointError` unless the file has what is expected, and beside it `others` alone."""
    for name in expected:
        if name not in shards.where:
            raise CheckpointError(f"{shards.directory}: tensor {name} is missing from its files")
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
    if path.is_file():
        from diffusiongemma.weights.formats.gguf import GGUF, config_of

        file = GGUF(path)
        return config_of(file), file
    raw = read_json(path / "config.json")
    if is_quantised(raw) or (path / MODELOPT).exists():
        return ModelConfig.from_hf(raw), QuantisedShards(Shards(path), raw)
    return ModelConfig.from_hf(raw), Shards(path)


def load_model(path: Path, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> Model:
    """The model in a checkpoint directory or GGUF file, ready for inference."""
    return built(*open_checkpoint(path), dtype, lambda _: torch.device(device))


def built(
    config: ModelConfig,
    shards: Tensors,
    dtype: torch.dtype | None,
    where: Where,
    pack: Pack = as_it_lies,
) -> Model:
    """The model of an open checkpoint, ready for inference; `pack` may put each weight in few bits."""
    with torch.device("meta"):
        model = Model(config, partial(load_vision, shards, dtype, where("vision")))
    load_weights(model, shards, dtype, where, pack)
    return model.eval()


def _materialise_buffers(vision: nn.Module, device: torch.device) -> None:
    for module in vision.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:
                module.register_buffer(name, torch.empty_like(buffer, device=device), persistent=False)
    vision.restore_buffers()  # type: ignore[operator]
