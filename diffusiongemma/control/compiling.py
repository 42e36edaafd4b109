"""From what an answer must be to an automaton over the tokens of one vocabulary: here, or handed to somebody else.

Whoever serves others can't have a thread of theirs at it for seconds: inside `compiling_elsewhere` nothing is
compiled, and what is needed is named by an exception instead. This module does without torch, so that the process that
does compile starts soon.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Unpack

from diffusiongemma.control.constraint import Constraint
from diffusiongemma.control.inference.bundles import Bundles
from diffusiongemma.control.json_schema.nesting import MOST_STATES
from diffusiongemma.control.languages.compiler import compile_language
from diffusiongemma.control.languages.dfa import CharDfa, TooLarge
from diffusiongemma.control.languages.utf8 import to_bytes
from diffusiongemma.control.largest_part import largest_part
from diffusiongemma.control.notice import Notice
from diffusiongemma.control.recent import Recent
from diffusiongemma.control.structure import Grammar, Stated, Structure
from diffusiongemma.control.tokens.automaton import (
    NotWritable,
    TokenAutomaton,
    compile_tokens,
    compile_whole_characters,
)
from diffusiongemma.control.tokens.coarse import is_exact, landing_states
from diffusiongemma.control.tokens.preamble import SHIFT, with_preamble
from diffusiongemma.control.tokens.recount import Recount
from diffusiongemma.control.tokens.vocabulary import Vocabulary
from diffusiongemma.errors import InputError

MOST_EXACT_STATES = 1500  # beyond, characters are counted coarsely (see `coarse`)
FEWER_STATES = 6000  # of an automaton over characters where one over tokens is too large
KEPT_BYTES = 256 * 2**20


@dataclass(frozen=True)
class CompileJob:
    """What is to be compiled; equal ones have the same outcome.

    `preamble` is the pair of special tokens around a thought that may come first, in any words without a vertical bar,
    of which all markup is made.
    """

    grammar: Grammar
    fingerprint: str  # of the vocabulary
    end_ids: tuple[int, ...]
    preamble: tuple[int, int] | None
    vocabulary: Vocabulary = field(compare=False, repr=False)

    @classmethod
    def of(
        cls,
        grammar: Grammar,
        vocabulary: Vocabulary,
        end_ids: Collection[int],
        preamble: tuple[int, int] | None = None,
    ) -> CompileJob:
        return cls(grammar, vocabulary.fingerprint, tuple(sorted(end_ids)), preamble, vocabulary)

    def run(self) -> Constraint:
        """Raises `InputError` for what is malformed, can't be guaranteed or can't be written with this vocabulary,
        `TooLarge` for what outgrows the limits; it names the part that is largest."""
        try:
            dfa, notices = self._dfa(MOST_STATES)
            try:
                return self._constraint(dfa, notices)
            except TooLarge:
                if (narrower := self._narrower(dfa)) is None:
                    raise
                return self._constraint(*narrower)
        except TooLarge as error:
            raise self.too_large(error.message) from error

    def _dfa(self, most_states: int) -> tuple[CharDfa, list[Notice]]:
        notices: list[Notice] = []
        dfa = compile_language(self.grammar.language(notices.append, most_states))
        if dfa.is_empty:
            message = "no text at all meets the constraint: look for contradictions in it"
            raise InputError(message, option=largest_part(self.grammar)[0])
        return dfa, notices

    def _narrower(self, dfa: CharDfa) -> tuple[CharDfa, list[Notice]] | None:
        """Of a schema less may be written."""
        if dfa.num_states > FEWER_STATES:
            with contextlib.suppress(TooLarge):
                found, notices = self._dfa(FEWER_STATES)
                return (found, notices) if found.num_states <= FEWER_STATES else None
        return None

    def _constraint(self, dfa: CharDfa, notices: list[Notice]) -> Constraint:
        automaton, recount = self._with_preamble(*self._token_automaton(dfa))
        return Constraint(automaton, Bundles.of(automaton), tuple(notices), recount)

    def too_large(self, why: str) -> TooLarge:
        """The refusal, with the part to look at."""
        option, part = largest_part(self.grammar)
        return TooLarge(f"{part} is too large: {why}", option=option)

    def _token_automaton(self, dfa: CharDfa) -> tuple[TokenAutomaton, Recount | None]:
        if dfa.num_states < MOST_EXACT_STATES:
            with contextlib.suppress(TooLarge):
                return compile_tokens(to_bytes(dfa, MOST_EXACT_STATES), self.vocabulary, self.end_ids), None
        with contextlib.suppress(NotWritable):
            landing = landing_states(dfa)
            automaton, number = compile_whole_characters(dfa, self.vocabulary, self.end_ids, landing)
            return automaton, None if is_exact(landing) else Recount(dfa, number)
        return compile_tokens(to_bytes(dfa), self.vocabulary, self.end_ids), None

    def _with_preamble(
        self, automaton: TokenAutomaton, recount: Recount | None
    ) -> tuple[TokenAutomaton, Recount | None]:
        if self.preamble is None:
            return automaton, recount
        inside = self.vocabulary.without_bars.copy()
        inside[list(self.end_ids)] = False
        return with_preamble(automaton, *self.preamble, inside), recount and recount.after_preamble(SHIFT)


class CompileElsewhere(Exception):
    """A job that has no outcome yet."""

    def __init__(self, job: CompileJob):
        super().__init__("compile this elsewhere")
        self.job = job


Outcome = Constraint | InputError
_outcomes: ContextVar[Mapping[CompileJob, Outcome] | None] = ContextVar("outcomes", default=None)
_latest: Recent[CompileJob, Constraint] = Recent(KEPT_BYTES, lambda constraint: constraint.nbytes)


@contextlib.contextmanager
def compiling_elsewhere(outcomes: Mapping[CompileJob, Outcome]) -> Iterator[None]:
    """Inside, jobs have these outcomes or those still known; for any other `CompileElsewhere` is raised."""
    before = _outcomes.set(outcomes)
    try:
        yield
    finally:
        _outcomes.reset(before)


def compiled(job: CompileJob) -> Constraint:
    """The outcome of a job; the latest are kept. Raises what `CompileJob.run` does, and `CompileElsewhere`."""
    if (known := _latest.get(job)) is not None:
        return known
    outcomes = _outcomes.get()
    if outcomes is None:
        return compiled_here(job)
    if job not in outcomes:
        raise CompileElsewhere(job)
    outcome = outcomes[job]
    if isinstance(outcome, InputError):
        raise outcome
    return _kept(job, outcome)


def compiled_here(job: CompileJob) -> Constraint:
    """The same, in this thread come what may: for what is small, and for plans, which can't be asked twice."""
    return _latest.get(job) or _kept(job, job.run())


def _kept(job: CompileJob, constraint: Constraint) -> Constraint:
    return _latest.put(job, constraint.over(job.vocabulary))


def compile_constraint(
    *,
    vocabulary: Vocabulary,
    end_ids: Collection[int],
    preamble: tuple[int, int] | None = None,
    **stated: Unpack[Stated],
) -> Constraint:
    """Compile at most one of json_schema (object or text), regex, choices and template, and words, for a vocabulary.

    end_ids close the answer. Raises what `CompileJob.run` does.
    """
    return compiled(CompileJob.of(Structure.of(stated), vocabulary, end_ids, preamble))
