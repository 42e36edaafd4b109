"""Constraints compiled for one vocabulary, carried from canvas to canvas.

    constraint = compile_constraint(json_schema=schema, vocabulary=vocabulary, end_ids=[1, 106])
    state = constraint.begin(max_tokens=512)                # refuses at once if 512 tokens can't hold any match
    canvas = state.open_canvas(256)                         # a CanvasChain: posterior, most_probable_path
    state = state.after(canvas.most_probable_path(scores).tolist())

What runs on a canvas needs torch and is imported there: to compile, none is needed.
"""

from __future__ import annotations

import weakref
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from diffusiongemma.control.inference.bundles import Bundles
from diffusiongemma.control.inference.finishing import finishing_states, no_path
from diffusiongemma.control.languages.dfa import DEAD
from diffusiongemma.control.notice import Notice
from diffusiongemma.control.recent import Recent
from diffusiongemma.control.tokens.automaton import TokenAutomaton
from diffusiongemma.control.tokens.recount import Recount
from diffusiongemma.control.tokens.vocabulary import Vocabulary
from diffusiongemma.errors import InputError

if TYPE_CHECKING:
    import torch

    from diffusiongemma.control.inference.chain import CanvasChain
    from diffusiongemma.control.inference.evidence import TokenBlocks
    from diffusiongemma.control.inference.lattice import Lattice

KEPT_LATTICE_BYTES = 128 * 2**20  # the same request again, and the same canvas of other requests, find them
BYTES_OF_LAYOUT = 20  # of each token, in `TokenBlocks`


@dataclass(frozen=True, eq=False)
class Constraint:
    """A structure compiled for one vocabulary."""

    automaton: TokenAutomaton
    bundles: Bundles
    notices: tuple[Notice, ...] = ()  # what of the structure constrains nothing, or is written in part
    recount: Recount | None = None  # where the automaton counts coarsely

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is to be said, however long an answer may be."""
        return tuple(notice.text for notice in self.notices)

    @cached_property
    def nbytes(self) -> int:
        """What it takes in memory, the layout of its classes included, which is made with the first canvas."""
        layout = BYTES_OF_LAYOUT * len(self.automaton.class_of_token)
        layout += self.recount.nbytes if self.recount else 0
        parts = vars(self.automaton).values()
        return layout + self.bundles.nbytes + sum(part.nbytes for part in parts if isinstance(part, np.ndarray))

    @property
    def minimum_tokens(self) -> int:
        """The fewest tokens that any matching text takes, end token not counted."""
        return int(self.automaton.tokens_to_finish[0])

    @cached_property
    def longest_finish(self) -> int:
        """The fewest tokens to acceptance, from the state that needs most of them."""
        return int(self.automaton.tokens_to_finish.max())

    def over(self, vocabulary: Vocabulary) -> Constraint:
        """The same, able to read what is written; it has been compiled for this vocabulary."""
        if self.recount is None:
            return self
        return replace(self, recount=replace(self.recount, vocabulary=vocabulary))

    def lattice(self, start: int, positions: int, **rules: Any) -> Lattice:
        """`build_lattice` for this constraint; the latest results are kept, and do not keep the constraint."""
        key = weakref.ref(self), start, positions, *rules.values()
        known = recent_lattices.get(key)
        return known or recent_lattices.put(key, self.new_lattice(start, positions, **rules))

    def new_lattice(self, start: int, positions: int, **rules: Any) -> Lattice:
        from diffusiongemma.control.inference.lattice import build_lattice

        return build_lattice(self.automaton, self.bundles, start, positions, **rules)

    @cached_property
    def _blocks(self) -> dict[torch.device, TokenBlocks]:
        return {}

    def blocks(self, device: torch.device) -> TokenBlocks:
        """The layout of the classes on a device, made once."""
        from diffusiongemma.control.inference.evidence import token_blocks

        if device not in self._blocks:
            self._blocks[device] = token_blocks(self.automaton, device)
        return self._blocks[device]

    def classes_of(self, tokens: Collection[int]) -> np.ndarray:
        """[K] bool, the classes that any of the tokens is in."""
        classes = self.automaton.class_of_token[np.fromiter(tokens, np.int64)]
        return np.bincount(classes[classes >= 0], minlength=self.automaton.num_classes) > 0

    def begin(self, max_tokens: int, min_tokens: int = 0) -> ConstraintState:
        """The state before the first token of an answer of `min_tokens` to `max_tokens` tokens, end token not counted.

        Raises `InputError` if no matching text has such a length.
        """
        if max_tokens < max(1, min_tokens):
            message = f"allow at least 1 and at least the `min_tokens` of {min_tokens}"
            raise InputError(message, option="max_new_tokens", got=max_tokens)
        if not finishing_states(self.automaton, self.bundles, min_tokens, max_tokens)[0]:
            raise no_path(self.minimum_tokens, max_tokens, min_tokens)
        return ConstraintState(self, max_tokens, min_tokens)


recent_lattices: Recent[tuple[Any, ...], Lattice] = Recent(KEPT_LATTICE_BYTES, lambda lattice: lattice.nbytes)


@dataclass(frozen=True, eq=False)
class ConstraintState:
    """Where in the automaton an answer stands between two canvases."""

    constraint: Constraint
    max_tokens: int
    min_tokens: int = 0
    state: int = 0
    written: int = 0  # tokens so far
    exact: int = 0  # where the characters so far lead, if the automaton counts coarsely; -1 if unknown

    @property
    def finished(self) -> bool:
        """An end token has been written; only end tokens can follow."""
        return self.state == self.constraint.automaton.done

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is to be said of an answer of at most `max_tokens`."""
        return tuple(notice.text for notice in self.constraint.notices if notice.beyond < self.max_tokens)

    @property
    def may_end(self) -> bool:
        """The text so far matches."""
        return bool(self.constraint.automaton.accepting[self.state]) and self.written >= self.min_tokens

    def open_canvas(
        self,
        positions: int,
        device: torch.device | str = "cpu",
        permitted: Mapping[int, Collection[int]] | None = None,
    ) -> CanvasChain:
        """The chain over the next canvas, or over what of it is still within `max_tokens`: `chain.positions` tells.

        The last canvas ends in a match; any other where the tokens left suffice to reach one. `permitted` lists the
        only tokens for some positions, counted from the start of this canvas; it looks beyond its end too. The scores
        must leave out the others (`holding.Limits`). Raises `InputError` if nothing fits.
        """
        import torch

        from diffusiongemma.control.inference.chain import CanvasChain

        lattice = self.lattice(positions, permitted)
        blocks = self.constraint.blocks(torch.device(device))
        return CanvasChain(self.constraint.automaton, self.constraint.bundles, blocks, lattice)

    def lattice(self, positions: int, permitted: Mapping[int, Collection[int]] | None = None) -> Lattice:
        """That of the next canvas; raises `InputError` as `open_canvas` does."""
        constraint, left = self.constraint, self.max_tokens - self.written
        used = min(positions, left)
        assert used > 0, "no tokens left"
        end_not_before = max(0, self.min_tokens - self.written)
        rules: dict[str, Any] = dict(must_finish=left <= positions, end_not_before=end_not_before)
        if permitted:
            classes = {t: constraint.classes_of(tokens) for t, tokens in permitted.items()}
            rules |= dict(remaining=left - used, permitted=classes)
            return constraint.new_lattice(self.state, used, **rules)
        # Room beyond what any text needs to finish makes no difference, and would hide what is in the cache.
        enough = constraint.longest_finish + max(0, end_not_before - used)
        return constraint.lattice(self.state, used, remaining=min(left - used, enough), **rules)

    def after(self, tokens: Iterable[int]) -> ConstraintState:
        """The state once these tokens are committed. Raises `InputError` if they break the constraint."""
        committed = list(tokens)
        state, exact, recount = self.state, self.exact, self.constraint.recount
        for token in committed:
            before, state = state, self.constraint.automaton.advance(state, token)
            if state < 0:
                raise InputError("these tokens do not match the constraint")
            exact = recount.after(exact, token, before, state) if recount else exact
        written = self.written + len(committed)
        return replace(self, state=state, written=written, exact=exact)._recounted()

    def _recounted(self) -> ConstraintState:
        """With what rounding has cost so far undone, unless what may follow then can't end within the tokens left: of
        states rounded elsewhere that is not certain."""
        constraint, recount = self.constraint, self.constraint.recount
        if recount is None or self.exact < 0 or self.finished or self.state < recount.first:
            return self
        state = int(recount.number[self.exact])
        if state in (DEAD, self.state):
            return self
        least, most = max(0, self.min_tokens - self.written), self.max_tokens - self.written
        ends = finishing_states(constraint.automaton, constraint.bundles, least, most)[state]
        return replace(self, state=state) if ends else self
