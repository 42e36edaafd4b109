"""
Sums over all paths of a lattice, position by position: one loop, two ways to add up.

Weights are [C, sets], a log mass or score per position and class set. Everything stays on a log scale: a schema can
force dozens of tokens that the model finds absurd, and no float holds such products (the scaled linear form was tried:
no faster at these sizes, and it underflows exactly there).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from diffusiongemma.control.lattice import Bundles, Lattice, Moves

SMALLEST_MASS = 1e-280  # relative to a position's largest: above it float64 sums lose nothing


def forward_sums(lattice: Lattice, weights: np.ndarray) -> list[np.ndarray]:
    """For each position 0 .. C, the log sum over the paths from the start to each node."""
    return _sweep(np.logaddexp, lattice.forward, weights, 1, range(lattice.positions))


def backward_sums(lattice: Lattice, weights: np.ndarray, add: np.ufunc = np.logaddexp) -> list[np.ndarray]:
    """For each position 0 .. C, the log sum (`add=np.maximum`: the best) over the paths from each node to an end."""
    return _sweep(add, lattice.backward, weights, len(lattice.states[-1]), reversed(range(lattice.positions)))[::-1]


def _sweep(add: np.ufunc, moves: Moves, weights: np.ndarray, ends: int, positions: Iterable[int]) -> list[np.ndarray]:
    of_move = weights.ravel()[moves.cell]
    values = np.zeros(ends)
    swept = [values]
    for t in positions:
        values = add.reduceat(values[moves.leaves[t]] + of_move[moves.slices[t]], moves.begins[t])
        swept.append(values)
    return swept


def set_posterior(lattice: Lattice, log_mass: np.ndarray) -> np.ndarray:
    """[C, sets] how probable it is that an accepted path reads each class set at each position; rows sum to 1."""
    before = np.concatenate(forward_sums(lattice, log_mass))
    after = np.concatenate(backward_sums(lattice, log_mass))
    cell = lattice.backward.cell
    log_joint = before[lattice.before] + log_mass.ravel()[cell] + after[lattice.after]
    peak = np.maximum.reduceat(log_joint, [at.start for at in lattice.backward.slices])
    joint = np.exp(log_joint - peak[cell // log_mass.shape[1]])
    total = np.bincount(cell, weights=joint, minlength=log_mass.size).reshape(log_mass.shape)
    return total / total.sum(1, keepdims=True)


@dataclass(frozen=True, eq=False)
class SetMasses:
    """The masses of class sets, summed from those of their classes, and the way back."""

    bundles: Bundles
    log_in_class: np.ndarray  # [C, K]
    log_in_set: np.ndarray  # [C, sets]

    @classmethod
    def of(cls, log_in_class: np.ndarray, bundles: Bundles) -> "SetMasses":
        peak = log_in_class.max(1, keepdims=True)
        in_set = _product(np.exp(log_in_class - peak), bundles.membership)
        if in_set.min() > SMALLEST_MASS:
            return cls(bundles, log_in_class, peak + np.log(in_set))
        return cls(bundles, log_in_class, _log_sums(log_in_class[:, bundles.classes], bundles.first))

    def by_class(self, in_set: np.ndarray) -> np.ndarray:
        """[C, sets] probabilities → [C, K]: each set's is shared out by the masses of its classes."""
        peak = self.log_in_class.max(1, keepdims=True)
        mass = np.exp(self.log_in_set - peak)
        if mass.min() > SMALLEST_MASS:
            return _product(in_set / mass, self.bundles.membership.T) * np.exp(self.log_in_class - peak)
        bundles = self.bundles
        log_share = self.log_in_class[:, bundles.classes] - self.log_in_set[:, bundles.set_of]
        share = in_set[:, bundles.set_of] * np.exp(log_share)
        return np.add.reduceat(share[:, bundles.by_class], bundles.first_by_class, axis=1)


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The matrix product, by torch so that one setting rules all threads."""
    return (torch.from_numpy(a) @ torch.from_numpy(b)).numpy()


def _log_sums(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """log Σ exp over the column ranges first[i] .. first[i + 1] - 1 of values [C, N] → [C, ranges], of any size."""
    peak = np.maximum.reduceat(values, first[:-1], axis=1)
    shifted = np.exp(values - np.repeat(peak, np.diff(first), axis=1))
    return peak + np.log(np.add.reduceat(shifted, first[:-1], axis=1))
