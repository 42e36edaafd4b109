"""Adapter directories: LoRA in PEFT's file format, for this package and for PEFT on transformers' model.

transformers keeps encoder and decoder as two module trees that share their weights, and PEFT puts an adapter on each
module by its path. So an adapter of a weight that both modes use is written twice, once per tree, and PEFT computes
the same logits. Only PEFT's `merge_and_unload` does not: it adds both copies to the one shared weight. Merge with
`lora.merge` instead, and save a checkpoint.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from diffusiongemma.config import read_json
from diffusiongemma.errors import CheckpointError, InputError, UserError
from diffusiongemma.model.model import Model
from diffusiongemma.weights.checkpoint import file_name
from diffusiongemma.weights.lora import (
    EXPERT_TENSORS,
    Lora,
    LoraLinear,
    Shape,
    TwoModeLayer,
    adaptable,
    adapters,
    attach,
    require_plain,
    require_whole,
)

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
TREES = {"denoise": "model.decoder", "encode": "model.encoder.language_model"}  # mode -> transformers' module tree
PREFIX = "base_model.model."  # what PEFT puts before a path
# Variants of LoRA that change the computation, and what else an adapter may carry; off unless set.
UNSUPPORTED = (
    "use_dora", "lora_bias", "use_qalora", "use_bdlora", "arrow_config", "kasa_config", "monteclora_config",
    "alora_invocation_tokens", "modules_to_save", "trainable_token_indices", "layer_replication",
)  # fmt: skip
ORDER_KEY, ORDERS = "lora_B_order", {"peft": False, "unsloth": True}  # of the columns of an expert tensor's B
# Ways to initialise that leave the base weights as they are; the others (PiSSA, OLoRA, …) change them on loading.
KEEPS_BASE = (True, False, None, "gaussian", "eva", "orthogonal")


def paths(name: str) -> list[str]:
    """Where transformers' model holds the weight that `Model` calls `name`: one place, or decoder and encoder."""
    layer = re.fullmatch(r"backbone\.layers\.(\d+)\.(?:(encode|denoise)\.)?(.+)", name)
    if layer is None:
        return [file_name(f"{name}.").removesuffix(".")]
    index, only, rest = layer.groups()
    return [f"{tree}.layers.{index}.{rest}" for mode, tree in TREES.items() if only in (None, mode)]


# --- loading --------------------------------------------------------------------------------------------------------


def load_adapter(model: Model, directory: Path, trainable: bool = False) -> list[str]:
    """Put a saved adapter on `model`, unmerged -> the names of the adapted weights.

    The model is frozen, and so is the adapter unless `trainable`. Raises `CheckpointError` naming what does not fit,
    with the model as it was, and `InputError` if the model has an adapter already.
    """
    require_plain(model)
    require_whole(model)
    _ = model.vision  # may be adapted too
    settings = Settings.read(directory)
    loras = _read(model, directory, settings)  # by path
    for name in adaptable(model):
        first, *others = (loras.get(path) for path in paths(name))
        if not all(_equal(first, other) for other in others):
            _split_layer(model, int(name.split(".")[2]))
    place = {path: name for name in adaptable(model) for path in paths(name)}
    # Two paths lead to the same name only where the layer was not split: their adapters are equal.
    by_name = {place[path]: lora for path, lora in loras.items()}
    model.requires_grad_(False)
    for name, lora in by_name.items():
        attach(model, name, lora.requires_grad_(trainable), settings.dropout)
    return list(by_name)


def _equal(one: Lora | None, other: Lora | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.scale == other.scale and torch.equal(one.A, other.A) and torch.equal(one.B, other.B)


def _split_layer(model: Model, index: int) -> None:
    layers = model.backbone.layers
    if not isinstance(layers[index], TwoModeLayer):
        layers[index] = TwoModeLayer(layers[index])


@dataclass(frozen=True)
class Settings:
    """What of PEFT's `adapter_config.json` decides the computation."""

    rank: int
    alpha: float
    ranks: dict[re.Pattern[str], int]  # of the paths that match, where they differ
    alphas: dict[re.Pattern[str], float]
    rank_stabilised: bool
    dropout: float
    experts_first: bool | None = None  # whether columns of an expert's B go (expert, rank); None where nothing says so

    @classmethod
    def read(cls, directory: Path) -> Settings:
        """Raises `CheckpointError` for an absent or broken file and for other kinds of adapter."""
        path = directory / CONFIG
        if not path.exists():
            raise CheckpointError(f"{path} is missing: give a directory that PEFT or this package saved an adapter in")
        raw = read_json(path)
        if raw.get("peft_type") != "LORA":
            raise CheckpointError(f"{path}: a {raw.get('peft_type')} adapter cannot be loaded, only LORA")
        unsupported = [name for name in UNSUPPORTED if raw.get(name)]
        unsupported += ["bias"] if raw.get("bias", "none") != "none" else []
        unsupported += ["init_lora_weights"] if raw.get("init_lora_weights") not in KEEPS_BASE else []
        if unsupported:
            option = unsupported[0]
            raise CheckpointError(f"{path}: {option} is {json.dumps(raw[option])}, only plain LoRA can be loaded")
        try:
            return cls(
                int(raw.get("r", 8)),
                float(raw.get("lora_alpha", 8)),
                {_ending(end): int(rank) for end, rank in (raw.get("rank_pattern") or {}).items()},
                {_ending(end): float(alpha) for end, alpha in (raw.get("alpha_pattern") or {}).items()},
                bool(raw.get("use_rslora")),
                float(raw.get("lora_dropout") or 0.0),
                _experts_first(raw),
            )
        except (TypeError, ValueError, AttributeError, re.error) as error:
            raise CheckpointError(
                f"{path}: r, lora_alpha or their patterns are not as PEFT has them: {error}"
            ) from error

    def of(self, path: str) -> tuple[int, float]:
        """(rank, alpha) of one path, with alpha such that alpha / rank is the scale."""
        rank, alpha = _first_match(self.ranks, path, self.rank), _first_match(self.alphas, path, self.alpha)
        return rank, alpha * rank**0.5 if self.rank_stabilised else alpha


def _experts_first(raw: dict[str, Any]) -> bool | None:
    """PEFT orders the columns of an expert tensor's B as (rank, expert); Unsloth trains them as (expert, rank), and
    saves them under the same names and shapes."""
    if (said := raw.get(ORDER_KEY)) in ORDERS:
        return ORDERS[said]
    mapping = raw.get("auto_mapping")
    marked = isinstance(mapping, dict) and mapping.get("unsloth_fixed")
    if marked or str(raw.get("base_model_name_or_path") or "").lower().startswith("unsloth/"):
        return True
    targets = raw.get("target_parameters")
    ours = isinstance(targets, list) and all(str(target).startswith(tuple(TREES.values())) for target in targets)
    return False if ours or raw.get("peft_version") else None


def _ending(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(.*\.)?({pattern})$")


def _first_match(patterns: dict[re.Pattern[str], Any], path: str, default: Any) -> Any:
    return next((value for pattern, value in patterns.items() if pattern.match(path)), default)


def _read(model: Model, directory: Path, settings: Settings) -> dict[str, Lora]:
    """The adapters in the weights file by their path in transformers' model, checked against `model`."""
    shapes = {path: shape for name, shape in adaptable(model).items() for path in paths(name)}
    loras = {}
    for module, matrices in _matrices(directory / WEIGHTS).items():
        if matrices.keys() != {"A", "B"}:
            raise CheckpointError(f"{directory / WEIGHTS}: {module} has only one of lora_A and lora_B")
        A, B = (matrices[side].float() for side in "AB")
        path = _adapted_path(module, A, B, shapes, directory / WEIGHTS)
        rank, alpha = settings.of(path)
        expected = shapes[path][0] * rank
        if not A.shape[0] == B.shape[1] == expected:
            raise CheckpointError(
                f"{directory / WEIGHTS}: {module} has rank dimensions {A.shape[0]} and {B.shape[1]}, "
                f"{CONFIG} asks for {expected}: they come from different adapters"
            )
        loras[path] = Lora(A, _in_order(B, rank, shapes[path][0], settings, directory), rank, alpha)
    return loras


def _in_order(B: Tensor, rank: int, experts: int, settings: Settings, directory: Path) -> Tensor:
    """B [out, rank * experts] with its columns in PEFT's order. Raises `CheckpointError` where it may be another."""
    if min(rank, experts) == 1 or settings.experts_first is False:
        return B
    if settings.experts_first is None:
        raise CheckpointError(
            f"{directory / CONFIG}: PEFT and Unsloth order the columns of an expert's lora_B in two ways, and nothing "
            f'says who trained this adapter: add "{ORDER_KEY}": "peft" or "unsloth" to the file'
        )
    return B.view(-1, experts, rank).transpose(1, 2).reshape(B.shape)


def _matrices(file: Path) -> dict[str, dict[str, Tensor]]:
    """{module: {"A": tensor, "B": tensor}} of a weights file."""
    if not file.exists():
        raise CheckpointError(f"{file} is missing: save the adapter with safe_serialization=True and copy it there")
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is not a readable safetensors file: {error}") from error
    modules: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = re.fullmatch(rf"(?:{re.escape(PREFIX)})?(.+)\.lora_(A|B)\.weight", key)
        if match is None or tensor.ndim != 2:
            raise CheckpointError(f"{file}: tensor {key} is not a LoRA matrix of a linear layer or of experts")
        modules.setdefault(match[1], {})[match[2]] = tensor
    if not modules:
        raise CheckpointError(f"{file} holds no adapter")
    return modules


def _adapted_path(module: str, A: Tensor, B: Tensor, shapes: dict[str, Shape], file: Path) -> str:
    """The path of the weight that A [.., in] and B [out, ..] of a module change, one of the keys of `shapes`."""
    # PEFT wraps the experts once per tensor and tells the wraps apart by their depth; the widths tell as much.
    holder = module.replace(".base_layer", "")
    candidates = [path for path in (holder, *(f"{holder}.{tensor}" for tensor in EXPERT_TENSORS)) if path in shapes]
    if not candidates:
        raise CheckpointError(f"{file}: this model has no {module} to adapt: the adapter is of another architecture")
    for path in candidates:
        if shapes[path][1:] == (B.shape[0], A.shape[1]):
            return path
    _, out_width, in_width = shapes[candidates[0]]
    raise CheckpointError(
        f"{file}: {module} is for {A.shape[1]} -> {B.shape[0]} features, this model has {in_width} -> {out_width}: "
        "the adapter is of another base model"
    )


# --- saving ---------------------------------------------------------------------------------------------------------


def save_adapter(
    model: Model, directory: Path, base_model_name: str, weights: Mapping[str, Tensor] | None = None
) -> None:
    """Write the model's adapters; each file is replaced whole or not at all.

    `weights` may hold other values of the model's parameters, by name, such as their running average.
    Raises `InputError` if the model has no adapter, `UserError` if the directory is not writable.
    """
    loras = adapters(model)
    if not loras:
        raise InputError("the model has no adapter to save: call add_lora or load_adapter first")
    by_path = {path: lora for name, lora in loras.items() for path in paths(name)}
    names = {parameter: name for name, parameter in model.named_parameters()}
    tensors = {}
    for path, lora in by_path.items():
        for side, parameter in (("A", lora.A), ("B", lora.B)):
            value = (weights or {}).get(names[parameter], parameter)
            # A copy each, as safetensors does not store one tensor under two names.
            tensors[f"{PREFIX}{_module(path, by_path)}.lora_{side}.weight"] = value.detach().cpu().clone()
    dropout = max((module.dropout.p for module in model.modules() if isinstance(module, LoraLinear)), default=0.0)
    config = json.dumps(_peft_config(by_path, dropout, base_model_name), indent=2) + "\n"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=directory, prefix=".") as partial:
            save_file(tensors, Path(partial, WEIGHTS), metadata={"format": "pt"})
            Path(partial, CONFIG).write_text(config, encoding="utf-8")
            for file in (WEIGHTS, CONFIG):
                os.replace(Path(partial, file), directory / file)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot write {directory}: {error}") from error


def _of_experts(path: str) -> bool:
    return path.endswith(tuple(f".experts.{tensor}" for tensor in EXPERT_TENSORS))


def _module(path: str, by_path: Mapping[str, Lora]) -> str:
    """What PEFT calls the module that changes the weight at `path`."""
    if not _of_experts(path):
        return path
    holder, _, tensor = path.rpartition(".")
    # PEFT wraps the experts once per tensor in the order of their definition; the last wrap is the outermost.
    inner = tensor == "gate_up_proj" and f"{holder}.down_proj" in by_path
    return f"{holder}.base_layer" if inner else holder


def _peft_config(by_path: Mapping[str, Lora], dropout: float, base_model_name: str) -> dict[str, Any]:
    strengths = Counter((lora.rank, lora.alpha) for lora in by_path.values())
    (rank, alpha), _ = strengths.most_common(1)[0]
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base_model_name,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "lora_dropout": dropout,
        "bias": "none",
        "rank_pattern": {re.escape(path): lora.rank for path, lora in by_path.items() if lora.rank != rank},
        "alpha_pattern": {re.escape(path): lora.alpha for path, lora in by_path.items() if lora.alpha != alpha},
        "target_modules": sorted(path for path in by_path if not _of_experts(path)),
        "target_parameters": sorted(filter(_of_experts, by_path)) or None,
    }
