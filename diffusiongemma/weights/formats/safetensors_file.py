"""One safetensors file: read as views of one mapping, and written in an order of ours.

The library gives each tensor a storage of its own. Here all of a file share one, so that tensors that lie side by side
can be taken as one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from diffusiongemma.errors import CheckpointError
from diffusiongemma.files import written_whole

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "F8_E8M0": torch.float8_e8m0fnu,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class SafetensorsFile:
    """A memory-mapped file. Raises `CheckpointError` for one that is broken or cut off."""

    def __init__(self, path: Path):
        self.path = path
        try:
            with safe_open(path, framework="pt"), path.open("rb") as file:  # which checks it
                size = int.from_bytes(file.read(8), "little")
                head = json.loads(file.read(size))
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error
        head.pop("__metadata__", None)
        self._head: dict[str, Any] = head
        self._start = 8 + size
        self._storage: Any = torch.UntypedStorage.from_file(str(path), shared=False, nbytes=path.stat().st_size)

    @property
    def names(self) -> list[str]:
        return list(self._head)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._head[name]["shape"])

    def nbytes(self, name: str) -> int:
        first, last = self._head[name]["data_offsets"]
        return int(last - first)

    def tensor(self, name: str) -> Tensor:
        dtype = DTYPES.get(self._head[name]["dtype"])
        if dtype is None:
            raise CheckpointError(f"{self.path}: tensor {name} is of type {self._head[name]['dtype']}, not read here")
        first = self._start + self._head[name]["data_offsets"][0]
        shape = self.shape(name)
        if first % dtype.itemsize:  # rarely: a head of odd length
            with safe_open(self.path, framework="pt") as file:
                copy: Tensor = file.get_tensor(name)
            return copy
        strides = torch.empty(shape, device="meta").stride()
        return torch.empty(0, dtype=dtype).set_(self._storage, first // dtype.itemsize, shape, strides)


def write_safetensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A file, whole or not at all, with tensors in the order given, those of wide types first so that all are aligned.

    (The library's own writer sorts by name, which puts expert 10 between 1 and 2.) Raises `OSError`.
    """
    ordered = sorted(tensors.items(), key=lambda item: -item[1].element_size())
    head: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in ordered:
        start, end = end, end + tensor.nbytes
        head[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with written_whole(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in ordered:
            file.write(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
