"""Sums over all paths of a lattice, and the best of them, position by position.

Weights are [C, sets], a log mass or score per position and class set. A schema can force dozens of tokens that the
model finds absurd, and no float holds such products: the library adds up scaled doubles first, and numbers with more
room for exponents where anything that counts was too small for them; its plain twin does so on a log scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from diffusiongemma.control.inference.bundles import Bundles
from diffusiongemma.control.inference.lattice import Lattice
from diffusiongemma.kernels.lattice import available

SMALLEST_MASS = 1e-280  # relative to a position's largest: above it float64 sums lose nothing
SAME_TOTAL = 1e-9  # how far apart, as logs, sums of the same paths may be
SMALLEST_LOG = -1e9  # relative to a position's largest: as good as nothing


def best_path(lattice: Lattice, weights: np.ndarray) -> np.ndarray:
    """[C] the class sets along the best path, from the best score of each set at each position [C, sets]."""
    if available():
        return lattice.arrays.best_path(weights)
    states = lattice.live.shape[1]
    chosen, values = np.empty((lattice.positions, states), np.int64), np.zeros(states)
    for t in reversed(range(lattice.positions)):
        source, target, class_set = lattice.steps[t]
        found = weights[t, class_set] + values[target]
        begins = np.flatnonzero(np.diff(source, prepend=-1))
        values = np.full(states, -np.inf)
        values[source[begins]] = np.maximum.reduceat(found, begins)
        best = np.flatnonzero(found == values[source])[::-1]
        chosen[t, source[best]] = best  # the last one written is the first of equals
    state, path = int(lattice.live[0].argmax()), np.empty(lattice.positions, np.int64)
    for t, (_, target, class_set) in enumerate(lattice.steps):
        path[t], state = class_set[chosen[t, state]], target[chosen[t, state]]
    return path


def set_posterior(lattice: Lattice, log_mass: np.ndarray) -> np.ndarray:
    """[C, sets] how probable it is that an accepted path reads each class set at each position; rows sum to 1."""
    most = np.where(lattice.read, log_mass, -np.inf).max(1, keepdims=True)
    relative = np.clip(log_mass - most, SMALLEST_LOG, 0)
    return lattice.arrays.joint_shares(relative) if available() else _joint_shares(lattice, relative)


def _joint_shares(lattice: Lattice, log_weights: np.ndarray) -> np.ndarray:
    """The plain twin of `LatticeArrays.joint_shares`."""
    shares = _scaled_shares(lattice, log_weights)
    return _log_shares(lattice, log_weights) if shares is None else shares


def _scaled_shares(lattice: Lattice, log_weights: np.ndarray) -> np.ndarray | None:
    """[C, sets] by sums that are scaled at every position, or None where floats don't hold them.

    The sum of all paths is found at every position, from what leads there and what follows. What became 0 on one side
    is missing in some of these sums, so where all are equal nothing that counts is lost.
    """
    weights, states = np.exp(log_weights), lattice.live.shape[1]
    ahead, ahead_of, totals = [lattice.live[0].astype(float)], [0.0], np.empty(lattice.positions)
    for w, (source, target, class_set) in zip(weights, lattice.steps, strict=True):
        sums = np.bincount(target, ahead[-1][source] * w[class_set], states)
        if not (most := sums.max()):
            return None
        ahead.append(sums / most)
        ahead_of.append(ahead_of[-1] + np.log(most))
    behind, behind_of, shares = lattice.live[-1].astype(float), 0.0, np.empty_like(log_weights)
    for t in reversed(range(lattice.positions)):
        source, target, class_set = lattice.steps[t]
        follows = weights[t, class_set] * behind[target]
        joint = ahead[t][source] * follows
        behind = np.bincount(source, follows, states)
        if not ((total := joint.sum()) and (most := behind.max())):
            return None
        totals[t] = np.log(total) + ahead_of[t] + behind_of
        shares[t] = np.bincount(class_set, joint / total, shares.shape[1])
        behind = behind / most
        behind_of += np.log(most)
    return shares if np.ptp(totals) < SAME_TOTAL else None


def _log_shares(lattice: Lattice, log_weights: np.ndarray) -> np.ndarray:
    """[C, sets] by sums on a log scale."""
    states, (positions, sets) = lattice.live.shape[1], log_weights.shape
    ahead, shares = [np.where(lattice.live[0], 0.0, -np.inf)], np.empty_like(log_weights)
    for t, (source, target, class_set) in enumerate(lattice.steps):
        ahead.append(_log_sums_by(target, ahead[t][source] + log_weights[t, class_set], states))
    behind = np.where(lattice.live[-1], 0.0, -np.inf)
    for t in reversed(range(positions)):
        source, target, class_set = lattice.steps[t]
        follows = log_weights[t, class_set] + behind[target]
        behind = _log_sums_by(source, follows, states)
        joint = _log_sums_by(class_set, ahead[t][source] + follows, sets)
        shares[t] = np.exp(joint - np.logaddexp.reduce(joint))
    return shares


def _log_sums_by(group: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """[count] log Σ exp of the values [n] of each group 0 .. count - 1; -inf for those without."""
    peak = np.full(count, -np.inf)
    np.maximum.at(peak, group, values)
    with np.errstate(divide="ignore"):
        sums: np.ndarray = np.log(np.bincount(group, np.exp(values - peak[group]), count))
    return np.add(sums, peak, where=sums > -np.inf, out=sums)


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
