"""Products of packed weights with activations of 8 bits on a CPU, by the libraries that `kernels.build` makes.

A row's result depends on that row alone, bit for bit, whatever the number of
rows and threads, and the sets of instructions agree to the last bit (`csrc/multiply.h`).
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
from ctypes import c_float, c_int, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from diffusiongemma.kernels.build import INSTRUCTION_SETS, library
from diffusiongemma.weights.packed import Blocks, Groups, Packed, Rows, Stack, int4

VERSION = 2
VARIABLE = "DIFFUSIONGEMMA_KERNELS"  # one of INSTRUCTION_SETS, or "none"
NEEDS = {"avx512": {"avx512f", "avx512bw", "avx512vl", "avx512_vnni"}, "avx2": {"avx2", "fma", "f16c"}, "plain": set()}
KINDS = {"int4": 0, "uint8": 1, "int8": 2, "fp4": 3, "Q4_K": 4, "Q5_0": 5, "Q6_K": 6, "Q8_0": 7}
FLOATS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.float8_e4m3fn: 3}
LEFT_OUT = 1e-6  # of a mean's shares, at most


class _Weight(ctypes.Structure):
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
    reasons = []
    for name in [wanted] if wanted else INSTRUCTION_SETS:
        if wanted or NEEDS[name] <= _processor():
            found = _load(name)
            if isinstance(found, ctypes.CDLL):
                return found, name
            reasons.append(f"{name}: {found}")
    return None, "; ".join(reasons)


def can_multiply(weight: Packed) -> bool:
    """Whether the kernels know this layout and width."""
    if isinstance(weight, (Stack, Rows)):
        return all(map(can_multiply, weight.parts))
    if weight.shape[-1] % 16:
        return False
    if isinstance(weight, Blocks):
        return weight.kind in KINDS
    if not isinstance(weight, Groups) or weight.kind not in KINDS:
        return False
    floats = [weight.scales] if weight.offsets is None else [weight.scales, weight.offsets]
    tensors = [weight.codes, *floats]
    return (
        weight.shape[-1] // weight.scales.shape[-1] % 16 == 0
        and all(x.dtype in FLOATS for x in floats)
        and all(x.is_contiguous() and x.device.type == "cpu" for x in tensors)
    )


class Product:
    """x [N, in] -> [N, out] in x's dtype. It holds the weight, whose memory the library reads."""

    def __init__(self, weight: Packed):
        self.packed, self.out = weight, weight.shape[-2]
        self.parts = _described(weight)

    def __call__(self, x: Tensor) -> Tensor:
        rows = x.float().contiguous()
        out = torch.empty(len(x), self.out)
        first = 0
        for part in self.parts:
            at = c_void_p(out.data_ptr() + first * out.element_size())
            _library().packed_product(ctypes.byref(part), _at(rows), c_int64(len(x)), at, c_int64(self.out))
            first += part.out
        return out.to(x.dtype)

    def mean(self, shares: Tensor) -> Tensor:
        """shares [N, out] >= 0 -> [N, in] float32: the mean row, but for `LEFT_OUT` of the shares' sum."""
        assert len(self.parts) == 1
        shares = shares.float().contiguous()
        out = torch.empty(len(shares), self.packed.shape[-1])
        _library().packed_mean(
            ctypes.byref(self.parts[0]), _at(shares), c_int64(len(shares)), c_float(LEFT_OUT), _at(out)
        )
        return out


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
    _library().packed_read(_at(logits), c_int64(len(logits)), c_int64(logits.shape[1]), *map(_at, inputs), readings)
    whole = torch.tensor([(r.argmax, r.drawn) for r in readings], dtype=torch.long)
    real = torch.tensor([(r.entropy, r.logprob, r.drawn_logprob) for r in readings])
    return (*whole.unbind(-1), *real.unbind(-1))  # type: ignore[return-value]


class Experts:
    """The routed experts of a layer in one call: gate_up [E, 2W, D] and down [E, D, W]."""

    def __init__(self, gate_up: Packed, down: Packed):
        self.packed = gate_up, down
        self.count = gate_up.shape[0]
        self.gate_up, self.down = (_array(weight, self.count) for weight in self.packed)

    def __call__(self, x: Tensor, weights: Tensor, experts: Tensor) -> Tensor:
        """x [N, D], weights [N, k], experts [N, k] -> [N, D] in x's dtype."""
        rows, shares, chosen = x.float().contiguous(), weights.float().contiguous(), experts.contiguous()
        out = torch.empty_like(rows)
        segments = [c_int(len(array) // self.count) for array in (self.gate_up, self.down)]
        _library().packed_experts(
            self.gate_up, segments[0], self.down, segments[1], c_int(self.count), _at(rows), _at(chosen), _at(shares),
            c_int64(len(x)), c_int(experts.shape[1]), _at(out),
        )  # fmt: skip
        return out.to(x.dtype)


def _library() -> ctypes.CDLL:
    library, reason = kernels()
    assert library is not None, reason
    return library


def _array(weight: Packed, experts: int) -> ctypes.Array[_Weight]:
    parts = [part for expert in range(experts) for part in _described(weight[expert])]
    return (_Weight * len(parts))(*parts)


def _described(weight: Packed) -> list[_Weight]:
    """A matrix as the library knows it: segments of rows one below the other."""
    if isinstance(weight, Rows):
        return [segment for part in weight.parts for segment in _described(part)]
    out, width = weight.shape
    if isinstance(weight, Blocks):
        return [_Weight(KINDS[weight.kind], 0, 0, 0, out, width, 0, 1.0, weight.raw.data_ptr(), None, None)]
    assert isinstance(weight, Groups)
    offsets = weight.offsets
    return [
        _Weight(
            KINDS[weight.kind],
            FLOATS[weight.scales.dtype],
            0 if offsets is None else FLOATS[offsets.dtype],
            weight.zero,
            out,
            width,
            width // weight.scales.shape[-1],
            weight.factor,
            weight.codes.data_ptr(),
            weight.scales.data_ptr(),
            None if offsets is None else offsets.data_ptr(),
        )
    ]


def _at(tensor: Tensor) -> c_void_p:
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
        if found.packed_version() != VERSION or found.packed_weight_size() != ctypes.sizeof(_Weight):
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
    if not loaded:
        torch.zeros(1).sum()
    ctypes.CDLL(loaded[0] if loaded else "libgomp.so.1", mode=ctypes.RTLD_GLOBAL)


def _multiplies(found: ctypes.CDLL) -> bool:
    """One product of whole numbers, which no rounding touches: weights of -7 to 7 times codes of -127 to 127."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(-7, 8, (20, 96), generator=generator).float()
    codes[:, ::32] = 7
    x = torch.randint(-127, 128, (9, 96), generator=generator).float()
    x[:, ::32] = 127
    (weight,) = _described(packed := int4(codes))
    out = torch.empty(9, 20)
    found.packed_product(ctypes.byref(weight), _at(x), c_int64(9), _at(out), c_int64(20))
    del packed
    return torch.equal(out, x @ codes.T)
