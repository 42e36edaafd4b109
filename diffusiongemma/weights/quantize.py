"""`diffusiongemma quantize`: a model's weights in few bits, a layer at a time, as a directory that is loaded like any.

    packed = Scheme("mixed").packed(name, weight)    one weight
    quantize(source, target, Scheme("mixed"))        a directory or GGUF file, layer by layer, to go on with if stopped

The target is no model until `config.json` is there, which is written last; what is done of it is in `PROGRESS`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusiongemma.config import read_json
from diffusiongemma.errors import InputError, UserError
from diffusiongemma.files import write_whole
from diffusiongemma.model.model import Model
from diffusiongemma.weights.checkpoint import INDEX, VISION, check_names, file_name
from diffusiongemma.weights.formats.packed_files import layout_of, stored
from diffusiongemma.weights.formats.safetensors_file import SafetensorsFile, write_safetensors
from diffusiongemma.weights.locate import weight_bytes
from diffusiongemma.weights.opening import Checkpoint
from diffusiongemma.weights.packed import Packed
from diffusiongemma.weights.saving import config_for, write_json, write_side_files
from diffusiongemma.weights.schemes import KINDS, Scheme, role_of

PROGRESS = "quantize.progress.json"


@dataclass(frozen=True)
class Change:
    """What packing made of one tensor; sums of squares are over its weights."""

    name: str
    role: str
    kind: str
    group: int  # 0: a whole row
    before: int  # bytes
    after: int
    squares: float
    squared_error: float


def quantize(
    source: Path, target: Path, scheme: Scheme, watch: Callable[[int, int], None] = lambda done, of: None
) -> list[Change]:
    """Write `source` to the directory `target` in few bits -> what became of each tensor.

    `watch` hears of each part done, of how many. A target that a run with the same source and scheme left unfinished is
    gone on with. Raises `InputError` for one that holds something else, `CheckpointError` for the source, and
    `UserError` where the target cannot be written.
    """
    checkpoint = Checkpoint.at(source)
    names = expected_names(checkpoint)
    parts = list(_parts(names))
    try:
        progress = _Progress.of(target, {"source": _fingerprint(source), **scheme.described()}, len(parts))
        watch(len(progress.done), len(parts))
        for i, part in enumerate(parts):
            if not progress.has(i):
                progress.write(i, *_packed_part(checkpoint, part, scheme))
                watch(i + 1, len(parts))
        changes = progress.changes()
        _finish(checkpoint, target, scheme, changes, progress)
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}") from error
    return changes


def expected_names(checkpoint: Checkpoint) -> list[str]:
    """The tensors of a model, by the release's names: not the copies of some that files may hold. `CheckpointError`."""
    with torch.device("meta"):
        model = Model(checkpoint.config, lambda _: torch.nn.Module())
    expected = {file_name(name): name for name in model.state_dict()}
    sees = checkpoint.config.vision_config is not None
    vision = {name for name in checkpoint.tensors.where if sees and name.startswith(VISION)}
    check_names(checkpoint.tensors, expected, vision)
    return [*expected, *sorted(vision)]


def _parts(names: list[str]) -> Iterator[list[str]]:
    """Names a file each: every layer, then what is left."""
    layers: dict[int, list[str]] = {}
    rest: list[str] = []
    for name in names:
        match = re.match(r"model\.(?:decoder|encoder\.language_model)\.layers\.(\d+)\.", name)
        (layers.setdefault(int(match[1]), []) if match else rest).append(name)
    yield from (layers[i] for i in sorted(layers))
    yield rest


def _packed_part(checkpoint: Checkpoint, names: list[str], scheme: Scheme) -> tuple[dict[str, Tensor], list[Change]]:
    tensors: dict[str, Tensor] = {}
    changes = []
    for name in names:
        weight = checkpoint.tensors.tensor(name)
        packed = scheme.packed(name, weight)
        tensors |= stored(name, packed)
        changes.append(_change(name, weight, packed))
    return tensors, changes


def _change(name: str, weight: Tensor | Packed, packed: Tensor | Packed) -> Change:
    squares = error = 0.0
    if isinstance(packed, Packed) and packed is not weight:
        squares, error = _sums(weight, packed)
    kind, group = ("", 0) if isinstance(packed, Tensor) else layout_of(packed)
    return Change(name, role_of(name) or "rest", kind, group, weight.nbytes, packed.nbytes, squares, error)


def _sums(weight: Tensor | Packed, packed: Packed) -> tuple[float, float]:
    """(sum of squares, of squared errors), an expert at a time."""
    if len(weight.shape) > 2:
        sums = [_sums(weight[i], packed[i]) for i in range(weight.shape[0])]
        return sum(one for one, _ in sums), sum(other for _, other in sums)
    full = weight.float() if isinstance(weight, Tensor) else weight.unpack()
    return float(full.square().sum()), float((packed.unpack() - full).square().sum())


class _Progress:
    """The files of a target that are done, and what is known of them."""

    def __init__(self, target: Path, task: dict[str, Any], count: int, done: dict[str, list[dict[str, Any]]]):
        self.target, self.task, self.count, self.done = target, task, count, done

    @classmethod
    def of(cls, target: Path, task: dict[str, Any], count: int) -> _Progress:
        """That of a target, or the beginning of it. Raises `InputError` for a target that is in use otherwise."""
        path = target / PROGRESS
        if path.exists():
            raw = read_json(path)
            if raw.get("task") != task:
                raise InputError(f"{target} holds part of another model or scheme: give another directory")
            return cls(target, task, count, raw["done"])
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise InputError(f"{target} is in use: give a new directory")
        target.mkdir(parents=True, exist_ok=True)
        progress = cls(target, task, count, {})
        progress._note()
        return progress

    def file(self, part: int) -> str:
        return f"model-{part + 1:05d}-of-{self.count:05d}.safetensors"

    def has(self, part: int) -> bool:
        return str(part) in self.done and (self.target / self.file(part)).exists()

    def write(self, part: int, tensors: dict[str, Tensor], changes: list[Change]) -> None:
        write_safetensors(self.target / self.file(part), tensors)
        self.done[str(part)] = [asdict(change) for change in changes]
        self._note()

    def changes(self) -> list[Change]:
        return [Change(**change) for i in range(self.count) for change in self.done[str(i)]]

    def index(self) -> dict[str, Any]:
        weight_map: dict[str, str] = {}
        total = 0
        for i in range(self.count):
            path = self.target / self.file(i)
            weight_map |= dict.fromkeys(SafetensorsFile(path).names, path.name)
            total += path.stat().st_size
        return {"metadata": {"total_size": total}, "weight_map": weight_map}

    def _note(self) -> None:
        write_whole(self.target / PROGRESS, json.dumps({"task": self.task, "done": self.done}))


def _fingerprint(source: Path) -> dict[str, Any]:
    """What tells one source from another without reading it whole."""
    return {"path": str(source.resolve()), "bytes": weight_bytes(source)}


def _finish(checkpoint: Checkpoint, target: Path, scheme: Scheme, changes: list[Change], progress: _Progress) -> None:
    """Write what makes the files a model, `config.json` last."""
    write_side_files(target, checkpoint.config, checkpoint.path)
    write_json(target / INDEX, progress.index())
    packed = {change.name: (change.kind, change.group) for change in changes if change.kind}
    config = config_for(checkpoint.config, checkpoint.path, packed) | {"packing": _said(scheme, changes)}
    write_whole(target / "config.json", json.dumps(config, indent=2) + "\n")
    (target / PROGRESS).unlink()


def _said(scheme: Scheme, changes: list[Change]) -> dict[str, Any]:
    """The scheme, and the weights that it could not be kept to."""
    planned = KINDS[scheme.name]
    odd = {change.name: change.kind for change in changes if change.kind and change.kind != planned.get(change.role)}
    return scheme.described() | {"exceptions": odd}
