"""A checkpoint that has been opened: all that its directory, or its one GGUF file, says of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from diffusiongemma.config import ModelConfig, read_json
from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.model.model import Model
from diffusiongemma.weights.checkpoint import Tensors, open_checkpoint
from diffusiongemma.weights.fitting import placement_of
from diffusiongemma.weights.formats.gguf import GGUF, decoding_of
from diffusiongemma.weights.formats.gguf_tokenizer import tokenizer_of
from diffusiongemma.weights.formats.quantised import is_quantised
from diffusiongemma.weights.generation import load_decoding
from diffusiongemma.weights.locate import load_tokenizer, weight_bytes
from diffusiongemma.weights.placing import Placement
from diffusiongemma.weights.schemes import Scheme
from diffusiongemma.weights.sizes import weight_sizes


@dataclass(frozen=True)
class Checkpoint:
    path: Path  # of the directory or file
    config: ModelConfig
    tensors: Tensors

    @classmethod
    def at(cls, path: Path) -> Checkpoint:
        """Reads what is said of the weights, not the weights. Raises `CheckpointError`."""
        return cls(path, *open_checkpoint(path))

    @property
    def packed(self) -> bool:
        """Whether its weights are in few bits: as its configuration says, or, of one file, as its size tells."""
        if not isinstance(self.tensors, GGUF):
            return is_quantised(read_json(self.path / "config.json"))
        with torch.device("meta"):
            parameters = sum(p.numel() for p in Model(self.config, lambda _: torch.nn.Module()).parameters())
        return weight_bytes(self.path) < 1.5 * parameters  # bfloat16 takes twice as many

    def placement(self, devices: Sequence[torch.device], dtype: torch.dtype | None, scheme: Scheme | None) -> Placement:
        """Its layers over several devices, as it will be held there. Raises `InputError`."""
        converted = None if dtype is None or self.packed else dtype.itemsize
        weights = weight_sizes(self.config, self.tensors, scheme, converted)
        return placement_of(self.config, weights, devices, 2 if dtype is None else dtype.itemsize)

    def tokenizer(self) -> Any:
        """None where there are no tokenizer files. Raises `CheckpointError` for broken ones."""
        return tokenizer_of(self.tensors) if isinstance(self.tensors, GGUF) else load_tokenizer(self.path)

    def decoding(self) -> Decoding:
        """The rules it is decoded by. Raises `CheckpointError`."""
        if isinstance(self.tensors, GGUF):
            return decoding_of(self.tensors)
        return load_decoding(self.path, self.config)
