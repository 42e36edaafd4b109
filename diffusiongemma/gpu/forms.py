"""Rows [N, D] in the form in which a product takes them, and the work on rows between products, a kernel each.

A row is made ready by whatever makes it: as it is, with its even inputs before its odd ones (what the two halves of the
bytes of a weight in 4 bits are multiplied with), or in E4M3 with a scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

PLAIN, HALVES, FP8 = 0, 1, 2
FP8_MAX = 448.0
KERNEL_FP8_MAX = tl.constexpr(FP8_MAX)
if triton.knobs.runtime.interpret:
    from diffusiongemma.gpu.interpreted import mend

    mend()


@dataclass(frozen=True)
class Ready:
    """Rows [N, D] in one of the forms."""

    rows: Tensor
    scales: Tensor | None = None  # float32 [N], of E4M3

    @classmethod
    def empty(cls, like: Tensor, count: int, width: int, form: int) -> Ready:
        if form != FP8:
            return cls(like.new_empty(count, width))
        rows = torch.empty(count, width, dtype=torch.float8_e4m3fn, device=like.device)
        return cls(rows, torch.empty(count, dtype=torch.float32, device=like.device))

    @property
    def scale_argument(self) -> Tensor:
        return self.rows if self.scales is None else self.scales  # kernels without scales do not look at it


def block(width: int) -> int:
    return triton.next_power_of_2(width)


def warps(width: int) -> int:
    return 8 if width > 2048 else 4


@triton.jit
def _write(rows, scales, row, at, width, value, FORM: tl.constexpr):
    """value [BLOCK] float32 at columns `at` of a row, in its form."""
    inside = at < width
    start = rows + row.to(tl.int64) * width
    if FORM == 2:
        scale = tl.maximum(tl.max(tl.where(inside, tl.abs(value), 0.0), 0), 1e-12) / KERNEL_FP8_MAX
        tl.store(scales + row, scale)
        tl.store(start + at, (value / scale).to(rows.dtype.element_ty), mask=inside)
    elif FORM == 1:
        tl.store(start + at // 2 + (at % 2) * (width // 2), value.to(rows.dtype.element_ty), mask=inside)
    else:
        tl.store(start + at, value.to(rows.dtype.element_ty), mask=inside)


@triton.jit
def _read(start, at, inside):
    return tl.load(start + at, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _rounded(value, like):
    """float32 rounded as where `like` points to, which the plain modules do after each operation."""
    return value.to(like.dtype.element_ty).to(tl.float32)


@triton.jit
def _normed(value, width, eps):
    return value * tl.rsqrt(tl.sum(value * value, 0) / width + eps)


@triton.jit
def _prepare(x, weight, rows, scales, width, eps, NORM: tl.constexpr, FORM: tl.constexpr, BLOCK: tl.constexpr):
    row, at = tl.program_id(0), tl.arange(0, BLOCK)
    value = tl.load(x + row.to(tl.int64) * width + at, mask=at < width, other=0.0).to(tl.float32)
    if NORM:
        scale = tl.load(weight + at, mask=at < width, other=0.0).to(tl.float32)
        value = _rounded(_normed(value, width, eps) * scale, x)
    _write(rows, scales, row, at, width, value, FORM)


def prepare(x: Tensor, form: int, weight: Tensor | None = None, eps: float = 0.0) -> Ready:
    """x [N, D], through RMSNorm with `weight` [D] if that is given."""
    if weight is None and form == PLAIN:
        return Ready(x)
    x = x.contiguous()
    out = Ready.empty(x, len(x), x.shape[1], form)
    if len(x):
        _prepare[(len(x),)](
            x, x if weight is None else weight, out.rows, out.scale_argument, x.shape[1], eps,
            NORM=weight is not None, FORM=form, BLOCK=block(x.shape[1]), num_warps=warps(x.shape[1]),
        )  # fmt: skip
    return out


@triton.jit
def _gated(h, rows, scales, width, FORM: tl.constexpr, BLOCK: tl.constexpr):
    row, at = tl.program_id(0), tl.arange(0, BLOCK)
    start = h + row.to(tl.int64) * 2 * width
    gate = tl.load(start + at, mask=at < width, other=0.0).to(tl.float32)
    up = tl.load(start + width + at, mask=at < width, other=0.0).to(tl.float32)
    inner = 0.7978845608028654 * (gate + 0.044715 * gate * gate * gate)
    tanh = 1 - 2 / (tl.exp(2 * inner) + 1)
    _write(rows, scales, row, at, width, _rounded(0.5 * gate * (1 + tanh), h) * up, FORM)


def gated(h: Tensor, form: int) -> Ready:
    """GELU (tanh) of the first half of h [N, 2W] times the second half."""
    width = h.shape[1] // 2
    out = Ready.empty(h, len(h), width, form)
    _gated[(len(h),)](
        h, out.rows, out.scale_argument, width, FORM=form, BLOCK=block(width), num_warps=warps(width)
    )  # fmt: skip
    return out


@triton.jit
def _after_attention(
    x, y, post, dense_norm, routed_norm, router_scale, x_out, dense, dense_scales, routed, routed_scales, router,
    width, eps, DENSE: tl.constexpr, ROUTED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row, at = tl.program_id(0), tl.arange(0, BLOCK)
    inside, start = at < width, row.to(tl.int64) * width
    branch = _read(y + start, at, inside)
    scale = _read(post, at, inside)
    value = _read(x + start, at, inside)
    value = _rounded(value + _rounded(_normed(branch, width, eps) * scale, x), x)
    tl.store(x_out + start + at, value.to(x_out.dtype.element_ty), mask=inside)
    normed = _normed(value, width, eps)
    scale = _read(dense_norm, at, inside)
    _write(dense, dense_scales, row, at, width, _rounded(normed * scale, x), DENSE)
    scale = _read(routed_norm, at, inside)
    _write(routed, routed_scales, row, at, width, _rounded(normed * scale, x), ROUTED)
    scale = _read(router_scale, at, inside)
    seen = _rounded(_rounded(normed, x) * scale, x) / tl.sqrt(width.to(tl.float32))
    tl.store(router + start + at, seen.to(router.dtype.element_ty), mask=inside)


def after_attention(
    x: Tensor, y: Tensor, norms: tuple[Tensor, Tensor, Tensor, Tensor], eps: float, dense: int, routed: int
) -> tuple[Tensor, Ready, Ready, Tensor]:
    """Residual x [N, D] and the attention's output y -> the next residual, what the dense MLP, the experts and the
    router's product see of it. `norms` are the weights of the norms behind attention and before each."""
    count, width = x.shape
    out, seen = torch.empty_like(x), torch.empty_like(x)
    to_dense, to_routed = Ready.empty(x, count, width, dense), Ready.empty(x, count, width, routed)
    _after_attention[(count,)](
        x, y, *norms, out, to_dense.rows, to_dense.scale_argument, to_routed.rows, to_routed.scale_argument, seen,
        width, eps, DENSE=dense, ROUTED=routed, BLOCK=block(width), num_warps=warps(width),
    )  # fmt: skip
    return out, to_dense, to_routed, seen


@triton.jit
def _after_experts(
    x, dense, parts, shares, dense_norm, routed_norm, both_norm, scalar, next_norm, x_out, rows, scales,
    width, eps, K: tl.constexpr, FORM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    at, routed = tl.arange(0, BLOCK), tl.zeros([BLOCK], dtype=tl.float32)
    inside = at < width
    row = tl.program_id(0)
    start = row.to(tl.int64) * width
    for k in tl.static_range(K):
        part = tl.load(parts + (start * K + k * width) + at, mask=inside, other=0.0).to(tl.float32)
        routed += part * tl.load(shares + row * K + k)
    routed = _rounded(routed, x)
    scale = _read(routed_norm, at, inside)
    routed = _rounded(_normed(routed, width, eps) * scale, x)
    branch = _read(dense + start, at, inside)
    scale = _read(dense_norm, at, inside)
    both = _rounded(_rounded(_normed(branch, width, eps) * scale, x) + routed, x)
    scale = _read(both_norm, at, inside)
    value = _read(x + start, at, inside)
    value = _rounded(value + _rounded(_normed(both, width, eps) * scale, x), x)
    value = _rounded(value * tl.load(scalar).to(tl.float32), x)
    tl.store(x_out + start + at, value.to(x_out.dtype.element_ty), mask=inside)
    scale = _read(next_norm, at, inside)
    _write(rows, scales, row, at, width, _rounded(_normed(value, width, eps) * scale, x), FORM)


def after_experts(
    x: Tensor, dense: Tensor, parts: Tensor, shares: Tensor, norms: tuple[Tensor, Tensor, Tensor], scalar: Tensor,
    next_norm: Tensor, eps: float, form: int,
) -> tuple[Tensor, Ready]:  # fmt: skip
    """Residual x [N, D], the dense MLP's output, the experts' [N, k, D] and their shares [N, k] -> the next residual,
    and that through the norm that follows."""
    out, ready = torch.empty_like(x), Ready.empty(x, len(x), x.shape[1], form)
    _after_experts[(len(x),)](
        x, dense, parts, shares, *norms, scalar, next_norm, out, ready.rows, ready.scale_argument,
        x.shape[1], eps, K=parts.shape[1], FORM=form, BLOCK=block(x.shape[1]), num_warps=warps(x.shape[1]),
    )  # fmt: skip
    return out, ready
