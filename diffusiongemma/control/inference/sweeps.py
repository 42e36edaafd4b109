"""Sums over all paths of a lattice, position by position: one loop, two ways to add up.

Weights are [C, sets], a log mass or score per position and class set. A schema can force dozens of tokens that the
model finds absurd, and no float holds such products. So marginals are summed as scaled probabilities first, which is
up to twice as fast, and again on a log scale where anything that counts was too small for a float.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from diffusiongemma.control.inference.bundles import Bundles
from diffusiongemma.control.inference.lattice import BothWays, Lattice
from diffusiongemma.kernels.lattice import available

SMALLEST_MASS = 1e-280  # relative to a position's largest: above it float64 sums lose nothing
SCALED_EVERY = 4  # positions
SAME_TOTAL = 1e-9  # how far apart, as logs, sums of the same paths may be


def best_path(lattice: Lattice, weights: np.ndarray) -> np.ndarray:
    """[C] the class sets along the best path, from the best score of each set at each position [C, sets]."""
    if available():
        return lattice.flat.best_path(weights)
    values = _best_to_end(lattice, weights)
    moves, node = lattice.backward, 0
    of_move = weights.ravel()[moves.cell]
    cells = np.empty(lattice.positions, np.int64)
    for t, (leaves, begins, at) in enumerate(zip(moves.leaves, moves.begins, moves.slices, strict=True)):
        begin, end = begins[node], begins[node + 1] if node + 1 < len(begins) else len(leaves)
        reached, first = leaves[begin:end], at.start + begin
        picked = int(np.argmax(of_move[first : at.start + end] + values[t + 1][reached]))
        cells[t] = moves.cell[first + picked]
        node = int(reached[picked])
    return cells % weights.shape[1]


def _best_to_end(lattice: Lattice, weights: np.ndarray) -> list[np.ndarray]:
    """For each position 0 .. C, the score of the best path from each node to an end."""
    moves, values = lattice.backward, np.zeros(len(lattice.states[-1]))
    of_move = weights.ravel()[moves.cell]
    swept = [values]
    for t in reversed(range(lattice.positions)):
        values = np.maximum.reduceat(values[moves.leaves[t]] + of_move[moves.slices[t]], moves.begins[t])
        swept.append(values)
    return swept[::-1]


def set_posterior(lattice: Lattice, log_mass: np.ndarray) -> np.ndarray:
    """[C, sets] how probable it is that an accepted path reads each class set at each position; rows sum to 1."""
    total = lattice.flat.joint_sums(_relative(lattice, log_mass)) if available() else None
    if total is None:
        joint = None if available() else _scaled_joint(lattice, log_mass)
        joint = _log_joint(lattice, log_mass) if joint is None else joint
        total = np.bincount(lattice.backward.cell, weights=joint, minlength=log_mass.size).reshape(log_mass.shape)
    shares: np.ndarray = total / total.sum(1, keepdims=True)
    return shares


def _relative(lattice: Lattice, log_mass: np.ndarray) -> np.ndarray:
    """[C, sets] masses over the largest that a move reads at the position, at most 1."""
    most = np.where(lattice.read, log_mass, -np.inf).max(1, keepdims=True)
    relative = log_mass - most
    weights: np.ndarray = np.exp(np.minimum(relative, 0, out=relative), out=relative)
    return weights


def _log_joint(lattice: Lattice, log_mass: np.ndarray) -> np.ndarray:
    """[M] of every move, the sum of all paths that take it over the sum of all paths."""
    both = lattice.both_ways
    values, joined = _swept(both, log_mass)
    # What comes before a move, its own weight and what follows it, over the sum of all paths.
    log_joint = joined[both.backward_at]
    log_joint += values[both.before_at]
    log_joint -= values[-1]
    return np.exp(log_joint, out=log_joint)


def _scaled_joint(lattice: Lattice, log_mass: np.ndarray) -> np.ndarray | None:
    """[M] the same up to a factor for each position, or None where floats don't hold it.

    The sum of all paths is found at every position, from what leads there and what follows. What became 0 on one side
    is missing in some of these sums, so where all are equal nothing that counts is lost.
    """
    both, moves = lattice.both_ways, lattice.backward
    joined = _relative(lattice, log_mass).ravel().take(both.cell)  # [2 M]
    values = np.ones(both.values[-1].stop)
    scales = np.zeros((2, lattice.positions + 1))  # logs of what the values of each turn were divided by, either way
    turns = zip(both.leaves, both.begins, both.slices, both.values, both.values[1:], both.split, strict=False)
    for turn, (leaves, begins, at, now, then, split) in enumerate(turns, 1):
        sums = joined[at]
        sums *= values[now].take(leaves)
        after = values[then]
        np.add.reduceat(sums, begins, out=after)
        if turn % SCALED_EVERY == 0:
            most = np.maximum.reduceat(after, (0, split))
            if not most.all():
                return None
            after[:split] /= most[0]
            after[split:] /= most[1]
            scales[:, turn] = np.log(most)
    joint = joined[both.backward_at]
    joint *= values[both.before_at]
    sums = np.add.reduceat(joint, [at.start for at in moves.slices])
    if not sums.all():
        return None
    forward, backward = np.cumsum(scales, axis=1)
    log_total = np.log(sums) + forward[:-1] + backward[:-1][::-1]
    return joint if np.ptp(log_total) < SAME_TOTAL else None


def _swept(both: BothWays, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values before every turn and after the last; of every move, its weight and the sum over the paths behind."""
    joined = weights.ravel().take(both.cell)  # [2 M]
    values = np.zeros(both.values[-1].stop)
    turns = zip(both.leaves, both.begins, both.slices, both.values, both.values[1:], strict=False)
    for leaves, begins, at, now, then in turns:
        sums = joined[at]
        sums += values[now].take(leaves)
        np.logaddexp.reduceat(sums, begins, out=values[then])
    return values, joined


@dataclass(frozen=True, eq=False)
class SetMasses:
    """The masses of class sets, summed from those of their classes, and the way back."""

    bundles: Bundles
    log_in_class: np.ndarray  # [C, K]
    log_in_set: np.ndarray  # [C, sets]

    @classmethod
    def of(cls, log_in_class: np.ndarray, bundles: Bundles) -> SetMasses:
        log_in_set = np.empty((len(log_in_class), bundles.num_sets))
        log_in_set[:, bundles.single] = log_in_class[:, bundles.classes[bundles.first[bundles.single]]]
        if len(bundles.several):
            peak = log_in_class.max(1, keepdims=True)
            in_several = _product(np.exp(log_in_class - peak), bundles.membership)
            if in_several.min() > SMALLEST_MASS:
                log_in_set[:, bundles.several] = peak + np.log(in_several)
            else:
                log_in_set = _log_sums(log_in_class[:, bundles.classes], bundles.first)
        return cls(bundles, log_in_class, log_in_set)

    def by_class(self, in_set: np.ndarray) -> np.ndarray:
        """[C, sets] probabilities → [C, K]: each set's is shared out by the masses of its classes."""
        bundles = self.bundles
        peak = self.log_in_class.max(1, keepdims=True)
        mass = np.exp(self.log_in_set[:, bundles.several] - peak)
        if mass.min(initial=1.0) <= SMALLEST_MASS:
            return self._by_class_in_logs(in_set)
        if len(bundles.several):
            in_class = _product(in_set[:, bundles.several] / mass, bundles.membership.T)
            in_class *= np.exp(self.log_in_class - peak)
        else:
            in_class = np.zeros_like(self.log_in_class)
        in_class[:, bundles.classes[bundles.first[bundles.single]]] += in_set[:, bundles.single]
        return in_class

    def _by_class_in_logs(self, in_set: np.ndarray) -> np.ndarray:
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
