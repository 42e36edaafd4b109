"""Sums and best paths over the lattices of constraints by the library of `native`: in place of numpy's sweeps, which
take a call for each position, and of torch's passes over what scores say of blocks of tokens.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from ctypes import c_int64, c_void_p
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from diffusiongemma.kernels.native import address, kernels, loaded_library

BLOCKS_OF_TILE = 32  # as in csrc/blocks.h; by torch, at V = 262,144, 132 ms per 256 rows on one core, 300 ms untiled


def available() -> bool:
    """Whether there is a library for this processor."""
    return kernels()[0] is not None


class _Lattice(ctypes.Structure):
    """`Lattice` of csrc/lattice.h."""

    _fields_ = [
        *((name, c_int64) for name in ("positions", "states", "sets")),
        *((name, c_void_p) for name in ("first", "target", "set", "live", "permitted")),
    ]


class _Paths(ctypes.Structure):
    """`Paths` of csrc/paths.h."""

    _fields_ = [
        *((name, c_int64) for name in ("start", "done", "not_before")),
        *((name, c_void_p) for name in ("ends", "live", "read")),
    ]


@dataclass(frozen=True, eq=False)
class LatticeArrays:
    """The bundles of edges of an automaton, ordered by the states that they leave, and where they are taken."""

    sets: int  # how many class sets there are
    first: np.ndarray  # [S + 1] int64, where the bundles of each state begin
    target: np.ndarray  # [P] int32
    class_set: np.ndarray  # [P] int32
    live: np.ndarray  # [C + 1, S] bool, the states on some path before each position, and after the last
    permitted: Mapping[int, np.ndarray]  # of some positions, [P] bool: the only bundles that may be taken

    @property
    def positions(self) -> int:
        return len(self.live) - 1

    def find_paths(self, start: int, ends: np.ndarray, done: int, not_before: int) -> tuple[np.ndarray, int]:
        """Fills `live` -> whether a move reads the set at the position [C, sets] bool, and how many moves there are.

        Paths lead from state `start` to one of `ends` [S] bool, none to `done` before position `not_before`.
        """
        read = np.empty((self.positions, self.sets), bool)
        paths = _Paths(start, done, not_before, *(array.ctypes.data for array in (ends, self.live, read)))
        moves: int = loaded_library().packed_paths(ctypes.byref(self._described), ctypes.byref(paths))
        return read, moves

    def joint_shares(self, log_weights: np.ndarray) -> np.ndarray:
        """log_weights [C, sets], at most 0 -> [C, sets]: how much of the sum of all paths reads the set there."""
        shares = self.scaled_shares(log_weights)
        return self.wide_shares(log_weights) if shares is None else shares

    def scaled_shares(self, log_weights: np.ndarray) -> np.ndarray | None:
        """The same where doubles hold all that counts."""
        weights, shares = np.exp(np.ascontiguousarray(log_weights)), np.empty(log_weights.shape)
        lattice = ctypes.byref(self._described)
        held = loaded_library().packed_joint_shares(lattice, *map(_address, (weights, shares)))
        return shares if held else None

    def wide_shares(self, log_weights: np.ndarray) -> np.ndarray:
        """The same for any weights."""
        log_weights, shares = np.ascontiguousarray(log_weights), np.empty(log_weights.shape)
        lattice = ctypes.byref(self._described)
        loaded_library().packed_wide_joint_shares(lattice, *map(_address, (log_weights, shares)))
        return shares

    def best_path(self, scores: np.ndarray) -> np.ndarray:
        """[C] the class sets along the path with the highest total of scores [C, sets], the first of equals."""
        scores = np.ascontiguousarray(scores, np.float64)
        best = np.empty(self.positions, np.int64)
        loaded_library().packed_best_path(ctypes.byref(self._described), *map(_address, (scores, best)))
        return best

    @cached_property
    def _described(self) -> _Lattice:
        arrays = (self.first, self.target, self.class_set, self.live)
        assert [array.dtype for array in arrays] == [np.int64, np.int32, np.int32, bool]
        masks = (self.permitted.get(t) for t in range(self.positions))
        self._addresses[:] = [None if mask is None else mask.ctypes.data for mask in masks]
        sizes = self.positions, self.live.shape[1], self.sets
        return _Lattice(*sizes, *(array.ctypes.data for array in arrays), ctypes.addressof(self._addresses))

    @cached_property
    def _addresses(self) -> ctypes.Array[c_void_p]:
        return (c_void_p * self.positions)()


class _Blocks(ctypes.Structure):
    """`Blocks` of csrc/blocks.h."""

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
