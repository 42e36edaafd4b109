"""Constraints as users state them, compiled for one vocabulary and carried from canvas to canvas.

constraint = compile_constraint(json_schema=schema, vocabulary=vocabulary, end_ids=[1, 106])
state = constraint.begin(max_tokens=512)                # refuses at once if 512 tokens can't hold any match
canvas = state.open_canvas(256)                         # a CanvasChain: posterior, most_probable_path, sample_path
state = state.after(canvas.most_probable_path(scores).tolist())
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from typing import Any, Protocol

import numpy as np
import torch

from diffusiongemma.control.inference.bundles import Bundles
from diffusiongemma.control.inference.chain import CanvasChain
from diffusiongemma.control.inference.evidence import TokenBlocks, token_blocks
from diffusiongemma.control.inference.finishing import finishing_states, why_no_path
from diffusiongemma.control.inference.lattice import Lattice, build_lattice
from diffusiongemma.control.json_schema.text import JsonStyle, json_schema_language
from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.dfa import CharDfa
from diffusiongemma.control.languages.nfa import compile_language
from diffusiongemma.control.languages.regex import choices_language, regex_language, template_language
from diffusiongemma.control.languages.utf8 import to_bytes
from diffusiongemma.control.tokens.automaton import NotWritable, TokenAutomaton, compile_tokens, with_preamble
from diffusiongemma.control.tokens.coarse import landing_states
from diffusiongemma.control.tokens.vocabulary import Vocabulary
from diffusiongemma.control.tokens.words import words_language
from diffusiongemma.errors import InputError

CACHED_CONSTRAINTS = 32
CACHED_LATTICES = 4  # of each constraint: the same request again, and the same canvas of other requests, find them
DEFAULT_STYLE = JsonStyle()
MOST_EXACT_STATES = 1500  # beyond, characters are counted coarsely (see `coarse`)


class Stated(Protocol):
    """What a text must be, as a value that can be compared and hashed."""

    def language(self) -> lang.Language: ...


@dataclass(frozen=True)
class Structure:
    """What the text must be: at most one of the first four, with words that must or must not be in it."""

    json_schema: str | None = None
    regex: str | None = None
    choices: tuple[str, ...] | None = None
    template: str | None = None
    banned_words: tuple[str, ...] = ()
    required_words: tuple[str, ...] = ()
    ignore_case: bool = False  # of the words
    style: JsonStyle = DEFAULT_STYLE

    def language(self) -> lang.Language:
        """Raises `InputError` for what is malformed, contradictory or can't be guaranteed."""
        return words_language(self._text(), self.banned_words, self.required_words, self.ignore_case)

    def _text(self) -> lang.Language:
        kinds = ("json_schema", "regex", "choices", "template")
        stated = [kind for kind in kinds if getattr(self, kind) is not None]
        if len(stated) > 1:
            raise InputError(f"{stated[0]} and {stated[1]} can't both be asked for: choose one")
        if self.json_schema is not None:
            return json_schema_language(self.json_schema, self.style)
        if self.regex is not None:
            return regex_language(self.regex)
        if self.choices is not None:
            return choices_language(self.choices)
        return lang.ANY_TEXT if self.template is None else template_language(self.template)


@dataclass(frozen=True, eq=False)
class Constraint:
    """A structure compiled for one vocabulary."""

    automaton: TokenAutomaton

    @property
    def minimum_tokens(self) -> int:
        """The fewest tokens that any matching text takes, end token not counted."""
        return int(self.automaton.tokens_to_finish[0])

    @cached_property
    def longest_finish(self) -> int:
        """The fewest tokens to acceptance, from the state that needs most of them."""
        return int(self.automaton.tokens_to_finish.max())

    @cached_property
    def bundles(self) -> Bundles:
        return Bundles.of(self.automaton)

    @cached_property
    def lattice(self) -> Callable[..., Lattice]:
        """`build_lattice` for this constraint; its latest results are kept."""
        return lru_cache(maxsize=CACHED_LATTICES)(partial(build_lattice, self.automaton, self.bundles))

    @cached_property
    def _blocks(self) -> dict[torch.device, TokenBlocks]:
        return {}

    def blocks(self, device: torch.device) -> TokenBlocks:
        """The layout of the classes on a device, made once."""
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
            raise InputError(f"at least 1 new token and at least the minimum of {min_tokens} must be allowed")
        if not finishing_states(self.automaton, self.bundles, min_tokens, max_tokens)[0]:
            raise InputError(why_no_path(self.minimum_tokens, max_tokens, min_tokens))
        return ConstraintState(self, max_tokens, min_tokens)


@dataclass(frozen=True, eq=False)
class ConstraintState:
    """Where in the automaton an answer stands between two canvases."""

    constraint: Constraint
    max_tokens: int
    min_tokens: int = 0
    state: int = 0
    written: int = 0  # tokens so far

    @property
    def finished(self) -> bool:
        """An end token has been written; only end tokens can follow."""
        return self.state == self.constraint.automaton.done

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
        left = self.max_tokens - self.written
        used = min(positions, left)
        assert used > 0, "no tokens left"
        end_not_before = max(0, self.min_tokens - self.written)
        rules: dict[str, Any] = dict(must_finish=left <= positions, end_not_before=end_not_before)
        if permitted:
            classes = {t: self.constraint.classes_of(tokens) for t, tokens in permitted.items()}
            lattice = build_lattice(
                self.constraint.automaton,
                self.constraint.bundles,
                self.state,
                used,
                remaining=left - used,
                permitted=classes,
                **rules,
            )
        else:
            # Room beyond what any text needs to finish makes no difference, and would hide what is in the cache.
            enough = self.constraint.longest_finish + max(0, end_not_before - used)
            lattice = self.constraint.lattice(self.state, used, remaining=min(left - used, enough), **rules)
        blocks = self.constraint.blocks(torch.device(device))
        return CanvasChain(self.constraint.automaton, self.constraint.bundles, blocks, lattice)

    def after(self, tokens: Iterable[int]) -> ConstraintState:
        """The state once these tokens are committed. Raises `InputError` if they break the constraint."""
        committed = list(tokens)
        state = self.constraint.automaton.run(committed, self.state)
        if state < 0:
            raise InputError("these tokens do not match the constraint")
        written = self.written + len(committed)
        return ConstraintState(self.constraint, self.max_tokens, self.min_tokens, state, written)


def compile_constraint(
    *,
    vocabulary: Vocabulary,
    end_ids: Collection[int],
    json_schema: Any = None,
    regex: str | None = None,
    choices: Collection[str] | None = None,
    template: str | None = None,
    banned_words: Collection[str] = (),
    required_words: Collection[str] = (),
    ignore_case: bool = False,
    style: JsonStyle = DEFAULT_STYLE,
    neutral_ids: Collection[int] = (),
    preamble: tuple[int, int] | None = None,
) -> Constraint:
    """Compile at most one of json_schema (object or text), regex, choices and template, and words, for a vocabulary.

    end_ids close the answer; neutral_ids (special tokens that write nothing) may stand anywhere before; `preamble` is
    the pair of special tokens around a thought that may come first, in any words without a vertical bar, of which all
    markup is made. The last 32 constraints are kept.
    Raises `InputError` for what is malformed, can't be guaranteed or can't be written with this vocabulary, `TooLarge`
    (an `InputError`) for what outgrows the limits.
    """
    for name, listed in (("choices", choices), ("banned_words", banned_words), ("required_words", required_words)):
        if isinstance(listed, str):
            raise InputError(f"{name}: give a list of texts, not one text")
    structure = Structure(
        json_schema=json_schema if json_schema is None or isinstance(json_schema, str) else _as_json(json_schema),
        regex=regex,
        choices=None if choices is None else tuple(choices),
        template=template,
        banned_words=tuple(banned_words),
        required_words=tuple(required_words),
        ignore_case=ignore_case,
        style=style,
    )
    return compile_structure(structure, vocabulary, end_ids, neutral_ids, preamble)


def compile_structure(
    structure: Stated,
    vocabulary: Vocabulary,
    end_ids: Collection[int],
    neutral_ids: Collection[int] = (),
    preamble: tuple[int, int] | None = None,
) -> Constraint:
    """`compile_constraint` for any hashable value that knows its language."""
    ids = tuple(sorted(end_ids)), tuple(sorted(neutral_ids))
    return _compiled(_Request(structure, vocabulary.fingerprint, *ids, preamble, vocabulary))


def _as_json(schema: Any) -> str:
    try:
        return json.dumps(schema)
    except (TypeError, ValueError) as error:
        raise InputError(f"schema: it can't be written as JSON: {error}") from error


@dataclass(frozen=True)
class _Request:
    structure: Stated
    fingerprint: str
    end_ids: tuple[int, ...]
    neutral_ids: tuple[int, ...]
    preamble: tuple[int, int] | None
    vocabulary: Vocabulary = field(compare=False)


@lru_cache(maxsize=CACHED_CONSTRAINTS)
def _compiled(request: _Request) -> Constraint:
    dfa = compile_language(request.structure.language())
    if dfa.is_empty:
        raise InputError("no text at all meets the constraint: look for contradictions in it")
    automaton = _token_automaton(dfa, request)
    if request.preamble is None:
        return Constraint(automaton)
    written = request.vocabulary.token_bytes
    inside = np.array([text is not None and b"|" not in text for text in written]) & ~_among(len(written), request)
    return Constraint(with_preamble(automaton, *request.preamble, inside))


def _among(size: int, request: _Request) -> np.ndarray:  # [V] bool: end and neutral tokens
    special = np.zeros(size, bool)
    special[[*request.end_ids, *request.neutral_ids]] = True
    return special


def _token_automaton(dfa: CharDfa, request: _Request) -> TokenAutomaton:
    in_bytes, tokens = to_bytes(dfa), (request.vocabulary, request.end_ids, request.neutral_ids)
    if in_bytes.num_states > MOST_EXACT_STATES:
        with contextlib.suppress(NotWritable):
            return compile_tokens(in_bytes, *tokens, landing_states(dfa, in_bytes.num_states))
    return compile_tokens(in_bytes, *tokens)
