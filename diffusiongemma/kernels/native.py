"""The library for this processor that `kernels.build` makes of `csrc`; how it reads logits; and what takes
torch many passes.

A row's result depends on that row alone, bit for bit, whatever the number of rows and threads, and the sets of
instructions agree to the last bit (`csrc/multiply.h`) but for AMX's, which rounds activations and decoded weights to
bfloat16 (`csrc/tiles.h`). As it is slow at a row alone, such rows are left to AVX-512 (`rows_alone`).
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import c_float, c_int, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from diffusiongemma.kernels.build import INSTRUCTION_SETS, OF_MACHINES, library

VERSION = 12
VARIABLE = "DIFFUSIONGEMMA_KERNELS"  # one of INSTRUCTION_SETS, or "none"
AVX512 = {"avx512f", "avx512bw", "avx512vl", "avx512_vnni"}
NEEDS: dict[str, set[str]] = {
    "amx": {*AVX512, "avx512_bf16", "avx512vbmi", "amx_tile", "amx_bf16"},
    "avx512": AVX512,
    "avx2": {"avx2", "fma", "f16c"},
    "dotprod": {"asimd", "asimddp"},
    "neon": {"asimd"},
    "plain": set(),
}


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


_here = threading.local()  # `alone`: whether this thread multiplies rows that come one by one


def kernels_for_rows_alone() -> ctypes.CDLL | None:
    """The library that multiplies rows that come one by one, if that is another one than `kernels`'."""
    return _avx512() if kernels()[1] == "amx" else None


@cache
def _avx512() -> ctypes.CDLL | None:
    found = _load("avx512")
    return found if isinstance(found, ctypes.CDLL) else None


@contextmanager
def rows_alone(alone: bool = True) -> Iterator[None]:
    """Meanwhile each row that this thread multiplies is all that is read of its sequence: a token, not a canvas or a
    prompt. Which it is must not depend on other sequences, as two libraries may round a row differently."""
    before = getattr(_here, "alone", False)
    _here.alone = alone
    try:
        yield
    finally:
        _here.alone = before


T = TypeVar("T")


def parted(alone: Sequence[bool], compute: Callable[[list[int]], Sequence[T]]) -> list[T]:
    """What `compute` makes of each sequence, by their numbers: of those with one row together, and of the others."""
    made: dict[int, T] = {}
    for kind in (True, False):
        if own := [i for i, one in enumerate(alone) if one == kind]:
            with rows_alone(kind):
                made |= zip(own, compute(own), strict=True)
    return [made[i] for i in range(len(alone))]


class _Reading(ctypes.Structure):
    """`Reading` of csrc/readout.h."""

    _fields_ = [
        *((name, c_int64) for name in ("argmax", "drawn")),
        *((name, c_float) for name in ("entropy", "logprob", "drawn_logprob")),
    ]


class _Router(ctypes.Structure):
    """`Router` of csrc/layer.h."""

    _fields_ = [
        *((name, c_void_p) for name in ("weight", "scale", "expert_scale")),
        ("width", c_int64),
        *((name, c_int32) for name in ("experts", "chosen", "wide")),
        ("eps", c_float),
    ]


def cap_in_place(logits: Tensor, cap: float) -> Tensor:
    """Contiguous float32 logits become cap * tanh(logits / cap)."""
    loaded_library().packed_cap(address(logits), c_int64(logits.numel()), c_float(cap))
    return logits


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


def takes(dtype: torch.dtype, *tensors: Tensor) -> bool:
    """Whether `rms_norm` and `rotated` take these as they are: of this type, on a CPU, whole, outside training."""
    if torch.compiler.is_compiling() or any(t.dtype != dtype or t.device.type != "cpu" for t in tensors):
        return False
    trained = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    whole = all(t.is_contiguous() and t.shape[-1] % 16 == 0 for t in tensors)
    return whole and not trained and kernels()[0] is not None


def rms_norm(x: Tensor, weight: Tensor | None, eps: float, behind: Tensor | None = None) -> Tensor:
    """x [..., D] over the root mean square of each row, computed in float32, times weight [D], added to `behind`
    [..., D] if it is given -> [..., D]."""
    out = torch.empty_like(x)
    rows, width = c_int64(x.numel() // x.shape[-1]), c_int64(x.shape[-1])
    scale, added = (None if given is None else address(given) for given in (weight, behind))
    wide = c_int(x.dtype == torch.float32)
    loaded_library().packed_norm(address(x), rows, width, scale, c_float(eps), added, address(out), wide)
    return out


def routed(x: Tensor, weight: Tensor, scale: Tensor, expert_scale: Tensor, k: int, eps: float) -> tuple[Tensor, Tensor]:
    """Router of x [N, D] by weight [E, D], scale [D] and expert_scale [E] -> float32 weights and expert ids, [N, k]."""
    rows, wide = x.float(), weight.dtype == torch.float32
    shares, chosen = torch.empty(len(x), k), torch.empty(len(x), k, dtype=torch.long)
    tensors = map(address, (weight, scale, expert_scale))
    router = _Router(*tensors, x.shape[1], len(weight), k, wide, eps)
    inputs = (ctypes.byref(router), address(rows), c_int64(len(x)))
    loaded_library().packed_route(*inputs, address(shares), address(chosen))
    return shares, chosen


def attend_one(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """q [H, 1, d] over keys and values [KV heads, S, d] of a cache, or int8 [KV heads, S, d + 4] -> [1, H, d]."""
    query = q[:, 0].float().contiguous()
    out = torch.empty_like(query)
    heads, tokens, _ = keys.shape
    kind = (torch.float32, torch.bfloat16, torch.int8).index(keys.dtype)
    sizes = map(c_int64, (heads, keys.stride(0), tokens, len(query) // heads, query.shape[1]))
    loaded_library().packed_attend(c_int(kind), *map(address, (query, keys, values)), *sizes, address(out))
    return out.to(q.dtype)[None]


def softmax_in_place(scores: Tensor) -> Tensor:
    """Contiguous bfloat16 scores [..., S] -> their softmax, computed in float32."""
    rows, width = c_int64(scores.numel() // scores.shape[-1]), c_int64(scores.shape[-1])
    loaded_library().packed_softmax(address(scores), rows, width)
    return scores


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [N, H, D] * cos [N, D] + (-second, first half of x) * sin [N, D] -> [N, H, D], rounded as torch does it."""
    out = torch.empty_like(x)
    sizes, wide = map(c_int64, x.shape), c_int(x.dtype == torch.float32)
    loaded_library().packed_rotate(address(x), *sizes, address(cos), address(sin), address(out), wide)
    return out


def loaded_library() -> ctypes.CDLL:
    """The library for what this thread is at (`rows_alone`)."""
    library, reason = kernels()
    assert library is not None, reason
    return (getattr(_here, "alone", False) and kernels_for_rows_alone()) or library


def address(tensor: Tensor) -> c_void_p:
    return c_void_p(tensor.data_ptr())


# Loading.


def _processor() -> set[str]:
    """What the processor says it can do; nothing where it cannot be asked."""
    machine = platform.machine().lower()
    if machine not in OF_MACHINES:
        return set()
    if (platform.system(), machine) == ("Darwin", "arm64"):
        return NEEDS["dotprod"]  # every processor that Apple has built into a Mac
    try:
        said = re.search(r"^(?:flags|Features)\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return set()
    return set(said[1].split()) if said else set()


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
        found.packed_paths.restype = c_int64
        if not found.packed_allowed():
            return "not allowed by the system"
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
        sizes = (c_int64(9), address(out), c_int64(20), c_int(0))
        found.packed_product(ctypes.byref(described), c_int(1), address(x), *sizes)
        if not torch.equal(out, x @ weight.T.float()):
            return False
    return True
