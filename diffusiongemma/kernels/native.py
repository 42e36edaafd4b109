"""The library for this processor that `kernels.build` makes of `csrc`, and how it reads logits.

A row's result depends on that row alone, bit for bit, whatever the number of rows and threads, and the sets of
instructions agree to the last bit (`csrc/multiply.h`).
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
from ctypes import c_float, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from diffusiongemma.kernels.build import INSTRUCTION_SETS, library

VERSION = 2
VARIABLE = "DIFFUSIONGEMMA_KERNELS"  # one of INSTRUCTION_SETS, or "none"
NEEDS = {"avx512": {"avx512f", "avx512bw", "avx512vl", "avx512_vnni"}, "avx2": {"avx2", "fma", "f16c"}, "plain": set()}


class Weight(ctypes.Structure):
    """`Weight` of csrc/packed.h."""

    _fields_ = [
        *((name, c_int32) for name in ("kind", "scale_type", "offset_type", "zero")),
        *((name, c_int64) for name in ("out", "width", "group")),
        ("factor", c_float),
        *((name, c_void_p) for name in ("codes", "scales", "offsets")),
    ]


@cache
def kernels() -> tuple[ctypes.CDLL | None, str]:
    """(the library for this processor, the name of its instructions), or (None, why there is none)."""
    wanted = os.environ.get(VARIABLE)
    if wanted == "none":
        return None, f"{VARIABLE} says so"
    if wanted and wanted not in INSTRUCTION_SETS:
        return None, f"{VARIABLE} is {wanted!r}: give {', '.join(INSTRUCTION_SETS)} or none"
    reasons = []
    for name in [wanted] if wanted else INSTRUCTION_SETS:
        # One that the processor has not would end the process.
        found = _load(name) if NEEDS[name] <= _processor() else "not on this processor"
        if isinstance(found, ctypes.CDLL):
            return found, name
        reasons.append(f"{name}: {found}")
    return None, "; ".join(reasons)


class _Reading(ctypes.Structure):
    """`Reading` of csrc/readout.h."""

    _fields_ = [
        *((name, c_int64) for name in ("argmax", "drawn")),
        *((name, c_float) for name in ("entropy", "logprob", "drawn_logprob")),
    ]


def read_in_place(
    logits: Tensor, temperature: Tensor, uniforms: Tensor, greedy: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Soft-capped float32 logits [n, V], contiguous, become probabilities under temperature [n] -> [n] each: argmax,
    the token drawn at uniforms (the argmax where `greedy`), entropy, log-probability of the argmax, of the drawn one.
    """
    readings = (_Reading * len(logits))()
    inputs = (temperature.float().contiguous(), uniforms.float().contiguous(), greedy.to(torch.uint8).contiguous())
    rows, tokens = map(c_int64, logits.shape)
    loaded_library().packed_read(address(logits), rows, tokens, *map(address, inputs), readings)
    whole = torch.tensor([(r.argmax, r.drawn) for r in readings], dtype=torch.long)
    real = torch.tensor([(r.entropy, r.logprob, r.drawn_logprob) for r in readings])
    return (*whole.unbind(-1), *real.unbind(-1))  # type: ignore[return-value]


def loaded_library() -> ctypes.CDLL:
    library, reason = kernels()
    assert library is not None, reason
    return library


def address(tensor: Tensor) -> c_void_p:
    return c_void_p(tensor.data_ptr())


# Loading.


def _processor() -> set[str]:
    """What the processor says it can do; nothing where it cannot be asked."""
    try:
        flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return set()
    return set(flags[1].split()) if flags and platform.machine().lower() in ("x86_64", "amd64") else set()


def _load(name: str) -> ctypes.CDLL | str:
    """The library, once it has multiplied rightly; else what is wrong with it."""
    path = library(name)
    if not path.exists():
        return "not built (python -m diffusiongemma.kernels.build)"
    try:
        _share_threads()
        found = ctypes.CDLL(str(path))
        if found.packed_version() != VERSION or found.packed_weight_size() != ctypes.sizeof(Weight):
            return "of another version: build it again"
    except OSError as error:
        return str(error)
    return found if _multiplies(found) else "it multiplies wrongly on this processor"


def _share_threads() -> None:
    """Let the library find OpenMP in torch's own copy: a second pool of threads would take the first one's cores."""
    try:
        loaded = re.findall(r"\S*/lib[gi]?omp[^/\s]*", Path("/proc/self/maps").read_text())
    except OSError:
        return
    of_torch = [path for path in loaded if "/torch/" in path]
    ctypes.CDLL([*of_torch, *loaded, "libgomp.so.1"][0], mode=ctypes.RTLD_GLOBAL)


def _multiplies(found: ctypes.CDLL) -> bool:
    """Products of whole numbers, which no rounding touches, in 4 and 8 bits: -7 to 7 times codes of -127 to 127."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-7, 8, (20, 96), generator=generator)
    x = torch.randint(-127, 128, (9, 96), generator=generator).float()
    x[:, ::32] = 127  # so that a group's scale is one
    codes = (weight + 8).to(torch.uint8)
    halves, bytes_, scales = codes[:, ::2] | codes[:, 1::2] << 4, weight.to(torch.int8), torch.ones(20, 3)
    for kind, zero, stored in ((0, 8, halves), (2, 0, bytes_)):
        described = Weight(kind, 0, 0, zero, 20, 96, 32, 1.0, stored.data_ptr(), scales.data_ptr(), None)
        out = torch.empty(9, 20)
        found.packed_product(ctypes.byref(described), address(x), c_int64(9), address(out), c_int64(20))
        if not torch.equal(out, x @ weight.T.float()):
            return False
    return True
