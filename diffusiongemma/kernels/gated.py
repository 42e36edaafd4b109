"""The gate of an MLP, gelu(gate) · up, with its gradients in one pass where a CPU trains in float32."""

from __future__ import annotations

import ctypes
from ctypes import c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor

from diffusiongemma.kernels.gelu import gelu
from diffusiongemma.kernels.native import address, kernels, loaded_library

LANES = 8  # the widths that the kernel takes are multiples


def gated(gate: Tensor, up: Tensor, share: Tensor | None = None) -> Tensor:
    """gelu(gate) · up, times `share`: gate and up [..., W], share [...] or None -> [..., W] in up's type.

    gate and up may be halves of one tensor.
    """
    if _trained_here(gate, up, share):
        return _Gated.apply(gate, up, share)
    hidden = gelu(gate) * up
    return hidden if share is None else hidden * share[..., None].to(up.dtype)


def _trained_here(gate: Tensor, up: Tensor, share: Tensor | None) -> bool:
    tensors = [gate, up] if share is None else [gate, up, share]
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or not any(t.requires_grad for t in tensors):
        return False
    if any(t.device.type != "cpu" or t.dtype != torch.float32 for t in tensors) or gate.shape[-1] % LANES:
        return False
    return all(_in_rows(t) for t in (gate, up)) and kernels()[0] is not None


def _in_rows(x: Tensor) -> bool:
    """Whether its rows lie one behind the other, with the same space between all of them."""
    strides = [x.stride(i) // x.stride(-2) for i in range(x.ndim - 1)] if x.ndim > 1 else []
    expected = [x.shape[i + 1 : -1].numel() for i in range(x.ndim - 1)]
    return x.stride(-1) == 1 and strides == expected


class _Strided(ctypes.Structure):
    """`Strided` of csrc/gated.h."""

    _fields_ = [("data", c_void_p), ("stride", c_int64)]

    @classmethod
    def of(cls, x: Tensor) -> _Strided:
        return cls(x.data_ptr(), x.stride(-2))


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, share: Tensor | None) -> Tensor:
        share = None if share is None else share.contiguous()
        ctx.save_for_backward(gate, up, share)
        out = torch.empty(up.shape)
        rows, width = c_int64(up.shape[:-1].numel()), c_int64(up.shape[-1])
        shares = None if share is None else address(share)
        loaded_library().packed_gated(_Strided.of(gate), _Strided.of(up), shares, rows, width, address(out))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gate, up, share = ctx.saved_tensors
        given = grads[0].contiguous()
        of_gate, of_up = torch.empty(up.shape), torch.empty(up.shape)
        of_share = None if share is None else torch.empty_like(share)
        rows, width = c_int64(up.shape[:-1].numel()), c_int64(up.shape[-1])
        shares = [None if x is None else address(x) for x in (share, of_share)]
        loaded_library().packed_gated_gradients(
            _Strided.of(gate), _Strided.of(up), shares[0], address(given), rows, width, _Strided.of(of_gate),
            _Strided.of(of_up), shares[1],
        )  # fmt: skip
        return of_gate, of_up, of_share
