"""Who takes part in a step: what has cost the others much before it began lets them go first for a while.

A canvas more makes a step longer for all of its requests, on a CPU nearly by what it takes alone. A request whose
constraint took long to compile, of which the others' steps have suffered already, sits out most steps of theirs, until
it has waited for a few times what it cost.
"""

from __future__ import annotations

from collections.abc import Sequence

from diffusiongemma.engine.generation import Generation

EVERY = 4  # steps of others: in one of so many a request that defers takes part
TIMES = 4.0  # what it waits at most, of what it has cost


def taking_part(running: Sequence[Generation]) -> list[Generation]:
    """All that do not defer to others, and of those that do the one that has sat out most, if it is its turn; all where
    all do."""
    first = [g for g in running if not _defers(g)]
    others = sorted((g for g in running if _defers(g)), key=lambda g: -g.sat_out)
    next_ones = [g for g in others[:1] if g.sat_out >= EVERY - 1]
    return [*first, *next_ones] if first else list(running)


def count_waiting(running: Sequence[Generation], taking_part: Sequence[Generation], seconds: float) -> None:
    """After a step of so many seconds."""
    for generation in running:
        waits = generation not in taking_part
        generation.sat_out = generation.sat_out + 1 if waits else 0
        generation.waited += seconds if waits else 0.0


def _defers(generation: Generation) -> bool:
    return generation.waited < TIMES * generation.request.compiled_in
