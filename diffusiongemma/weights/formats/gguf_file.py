"""What a GGUF file says of itself, from its head alone: keys with their values, and where each tensor lies.

The `gguf` package reads the same, one array a string: 47 seconds for a vocabulary of 262,144 tokens and 514,906 merges,
against one here. What its types mean is asked of it.
"""

from __future__ import annotations

import mmap
import struct
import warnings
from dataclasses import dataclass
from functools import lru_cache, partial
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusiongemma.errors import CheckpointError

MAGIC, VERSIONS = b"GGUF", (2, 3)
STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
MOST_DIMENSIONS = 4


@lru_cache
def _is_weight(kind: Any) -> bool:
    import numpy as np
    from gguf import GGML_QUANT_SIZES, dequantize

    try:
        dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except NotImplementedError:
        return False
    return True


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies: `raw` is uint8 [..., bytes of a row], a view of the file; `shape` counts weights."""

    name: str
    kind: str  # GGUF's name of the type, such as "Q4_K"
    shape: tuple[int, ...]
    raw: Tensor


class GGUFFile:
    """One file, memory-mapped. Raises `CheckpointError` for one that is no GGUF, or cut off."""

    def __init__(self, path: Path):
        self.path = path
        try:
            with path.open("rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} is not a whole GGUF file: {error}") from error
        self._at = 0
        try:
            self.fields, infos = self._head()
        except (struct.error, IndexError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{path} is not a whole GGUF file: its head ends at byte {self._at:,}") from error
        self.head_bytes = self._at
        align = int(self.fields.get("general.alignment", 32))
        start = -(-self._at // align) * align
        self.tensors = {info[0]: self._stored(*info, start) for info in infos}

    def _head(self) -> tuple[dict[str, Any], list[tuple[str, tuple[int, ...], int, int]]]:
        magic, version = self._bytes[:4], self._take("4xI")
        if magic != MAGIC:
            raise CheckpointError(f"{self.path} is not a GGUF file: it begins with {magic!r}")
        if version not in VERSIONS:
            raise CheckpointError(f"{self.path} is GGUF of version {version}, expected 3: convert it again")
        tensors, keys = self._take("Q"), self._take("Q")
        fields = {self._text(): self._value(self._take("I")) for _ in range(keys)}
        return fields, [self._info() for _ in range(tensors)]

    def _take(self, kind: str) -> Any:
        value = struct.unpack_from("<" + kind, self._bytes, self._at)[0]
        self._at += struct.calcsize("<" + kind)
        return value

    def _text(self) -> str:
        return self._span().decode("utf-8")

    def _span(self) -> bytes:
        size = self._take("Q")
        end = self._at + size
        if end > len(self._bytes):
            raise IndexError
        found, self._at = self._bytes[self._at : end], end
        return found

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._text()
        if kind == ARRAY:
            return self._array(self._take("I"), self._take("Q"))
        if kind not in SCALARS:
            raise CheckpointError(f"{self.path}: a key of unknown type {kind} at byte {self._at:,}")
        return self._take(SCALARS[kind])

    def _array(self, kind: int, count: int) -> list[Any]:
        if kind not in SCALARS:
            read = partial(self._value, kind)
            return [read() for _ in range(count)]
        form = f"<{count}{SCALARS[kind]}"
        values = struct.unpack_from(form, self._bytes, self._at)
        self._at += struct.calcsize(form)
        return list(values)

    def _info(self) -> tuple[str, tuple[int, ...], int, int]:
        """(name, shape as torch has it, number of the type, offset) of a tensor."""
        name, count = self._text(), self._take("I")
        if count > MOST_DIMENSIONS:
            raise CheckpointError(f"{self.path}: tensor {name} has {count} dimensions, GGUF has at most 4")
        shape = tuple(self._take("Q") for _ in range(count))
        return name, shape[::-1], self._take("I"), self._take("Q")

    def _stored(self, name: str, shape: tuple[int, ...], number: int, offset: int, start: int) -> StoredTensor:
        kind, block, width = self._type(name, number)
        if not shape or shape[-1] % block:
            raise CheckpointError(f"{self.path}: tensor {name} {list(shape)} does not divide into blocks of {kind}")
        row = shape[-1] // block * width
        size, first = prod(shape[:-1]) * row, start + offset
        if first + size > len(self._bytes):
            whole = f"{first + size:,} bytes, the file has {len(self._bytes):,}"
            raise CheckpointError(f"{self.path} is cut off: tensor {name} ({kind}) ends after {whole}: fetch it again")
        return StoredTensor(name, kind, shape, self._view(first, size).view(*shape[:-1], row))

    def _type(self, name: str, number: int) -> tuple[str, int, int]:
        """(name, weights in a block, bytes of a block) of a type that can be read."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        try:
            kind = GGMLQuantizationType(number)
        except ValueError:
            message = f"tensor {name} is of type {number}, which the gguf package does not know: update it"
            raise CheckpointError(f"{self.path}: {message}") from None
        if not _is_weight(kind):
            raise CheckpointError(f"{self.path}: tensor {name} is {kind.name}, which the gguf package cannot unpack")
        return kind.name, *GGML_QUANT_SIZES[kind]

    def _view(self, first: int, size: int) -> Tensor:
        """The bytes of the file themselves. They cannot be written to, which torch has no word for and warns of."""
        if size == 0:
            return torch.empty(0, dtype=torch.uint8)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given buffer is not writable")
            return torch.frombuffer(self._bytes, dtype=torch.uint8, offset=first, count=size)
