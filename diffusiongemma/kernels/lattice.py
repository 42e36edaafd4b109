"""Sums and best paths over the lattices of constraints by the library of `native`: in place of numpy's sweeps, which
take a call for each position, and of torch's passes over what scores say of blocks of tokens.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int64, c_void_p
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffusiongemma.kernels.native import address, kernels, loaded_library

BLOCKS_OF_TILE = 32  # as in csrc/lattice.h; by torch, at V = 262,144, 132 ms per 256 rows on one core, 300 ms untiled


def available() -> bool:
    """Whether there is a library for this processor."""
    return kernels()[0] is not None


class _Lattice(ctypes.Structure):
    """`Lattice` of csrc/lattice.h."""

    _fields_ = [
        *((name, c_int64) for name in ("positions", "sets")),
        *((name, c_void_p) for name in ("first_node", "first_move", "after", "set")),
    ]


@dataclass(frozen=True, eq=False)
class FlatLattice:
    """The nodes of all positions, one position after the other, and their moves."""

    sets: int  # how many class sets there are
    first_node: np.ndarray  # [C + 2] int64
    first_move: np.ndarray  # [nodes of positions 0 .. C - 1, + 1] int64
    after: np.ndarray  # [M] int32 the node a move leads to, within its position
    class_set: np.ndarray  # [M] int32

    @property
    def positions(self) -> int:
        return len(self.first_node) - 2

    def joint_sums(self, weights: np.ndarray) -> np.ndarray | None:
        """weights [C, sets], at most 1 -> [C, sets]: the sum of all paths that read the set there, up to a factor for
        each position. None where floats don't hold it."""
        weights = np.ascontiguousarray(weights)
        sums = np.empty_like(weights)
        held = loaded_library().packed_joint_sums(ctypes.byref(self._described()), *map(_address, (weights, sums)))
        return sums if held else None

    def best_path(self, scores: np.ndarray) -> np.ndarray:
        """[C] the class sets along the path with the highest total of scores [C, sets], the first of equals."""
        scores = np.ascontiguousarray(scores, np.float64)
        best = np.empty(self.positions, np.int64)
        loaded_library().packed_best_path(ctypes.byref(self._described()), *map(_address, (scores, best)))
        return best

    def _described(self) -> _Lattice:
        arrays = (self.first_node, self.first_move, self.after, self.class_set)
        return _Lattice(self.positions, self.sets, *(array.ctypes.data for array in arrays))


class _Blocks(ctypes.Structure):
    """`Blocks` of csrc/lattice.h."""

    _fields_ = [
        *((name, c_int64) for name in ("tiles", "width", "classes")),
        *((name, c_void_p) for name in ("tokens", "padding", "first_block")),
    ]


def takes_class_sums(scores: Tensor, weight: Tensor) -> bool:
    """Whether `class_sums` takes these scores: float32 as they lie on a CPU."""
    on_cpu = scores.device.type == "cpu" and weight.device.type == "cpu"
    return on_cpu and scores.dtype == torch.float32 and scores.is_contiguous() and available()


def class_sums(
    scores: Tensor, tokens: Tensor, padding: Tensor, first_block: np.ndarray, weight: Tensor
) -> tuple[np.ndarray, ...]:
    """Of scores [n, V], tiles of tokens [tiles, width, 32] int32 and where each class's blocks begin [K + 1]: fills
    weight [n, tiles, width, 32] -> best, mass, tilt and share of every block, each [n, tiles * 32] float32, and best
    and mass of every class, each [n, K] float64.
    """
    tiles, width, lanes = tokens.shape
    assert lanes == BLOCKS_OF_TILE and tokens.dtype == torch.int32 and weight.is_contiguous()
    of_block = np.empty((4, len(scores), tiles * lanes), np.float32)
    of_class = np.empty((2, len(scores), len(first_block) - 1))
    first_block = np.ascontiguousarray(first_block, np.int64)
    where = tokens.data_ptr(), padding.data_ptr(), first_block.ctypes.data
    blocks = _Blocks(tiles, width, len(first_block) - 1, *where)
    inputs = address(scores), *map(c_int64, scores.shape), ctypes.byref(blocks)
    loaded_library().packed_class_sums(*inputs, address(weight), *map(_address, (*of_block, *of_class)))
    return (*of_block, *of_class)


def _address(array: np.ndarray) -> c_void_p:
    return c_void_p(array.ctypes.data)
