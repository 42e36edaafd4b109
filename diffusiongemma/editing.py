"""What a loaded model does with a text that exists: fill its holes, edit it, correct it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from diffusiongemma.config import GenerationConfig
from diffusiongemma.control.tokens.vocabulary import vocabulary_of
from diffusiongemma.engine.engine import Engine
from diffusiongemma.engine.plans import edit, infill, refine
from diffusiongemma.engine.plans.edit import EditResult, Span
from diffusiongemma.engine.plans.infill import InfillResult, Length
from diffusiongemma.engine.plans.plan import Desk, Plan, drive, plan_config
from diffusiongemma.engine.plans.refine import RefineResult
from diffusiongemma.errors import InputError
from diffusiongemma.model.model import Model
from diffusiongemma.text.holes import split_at
from diffusiongemma.text.seams import TextTokens


class Editing:
    """The part of `DiffusionGemma` that works on texts. `options` are the fields of `GenerationConfig` that shape
    decoding: `seed`, `steps`, `temperature`, `sampler`, …

    Each method has a twin `…_plan`, which runs nothing: it checks its arguments and gives a plan (see `plans.plan`),
    for whoever has an engine of their own.
    """

    model: Model
    tokenizer: Any
    generation: GenerationConfig
    directory: Path

    def infill(
        self,
        prefix: str,
        suffix: str = "",
        *,
        instruction: str | None = None,
        length: Length = "auto",
        **options: Any,
    ) -> InfillResult:
        """Write what goes between two texts, which stay as they are, character by character.

        `length` is a number of tokens, a range (least, most), or "auto": then the model chooses. An `instruction` says
        what to write. Raises `InputError`.
        """
        return self._run(self.infill_plan([prefix, suffix], instruction=instruction, length=length, **options))

    def infill_text(
        self,
        text: str,
        hole: str = "<<>>",
        *,
        instruction: str | None = None,
        length: Length = "auto",
        **options: Any,
    ) -> InfillResult:
        """`infill` for a text with one or more holes in it, marked by `hole`. Raises `InputError`, also where the
        marker is missing or stands twice in a row."""
        texts = split_at(text, hole)
        return self._run(self.infill_plan(texts, instruction=instruction, length=length, **options))

    def infill_plan(
        self, texts: Sequence[str], *, instruction: str | None = None, length: Length = "auto", **options: Any
    ) -> Plan[InfillResult]:
        """`infill` of the holes between `texts`, as a plan."""
        return infill.infill_plan(self._desk(options), texts, instruction, length)

    def edit(
        self,
        text: str,
        instruction: str | None = None,
        *,
        spans: Sequence[Span] | None = None,
        strength: float = 0.7,
        **options: Any,
    ) -> EditResult:
        """Change a text, starting from the text itself at the noise level `strength`: 0 changes nothing, 1 all.

        `spans` (from, to: characters) are the only places that may change; without, all of it may, its length too.
        Raises `InputError`.
        """
        return self._run(self.edit_plan(text, instruction, spans=spans, strength=strength, **options))

    def edit_plan(
        self,
        text: str,
        instruction: str | None = None,
        *,
        spans: Sequence[Span] | None = None,
        strength: float = 0.7,
        **options: Any,
    ) -> Plan[EditResult]:
        """`edit`, as a plan."""
        return edit.edit_plan(self._desk(options), text, instruction, spans, strength)

    def refine(self, text: str, *, threshold: float = 0.001, level: float = 0.1, **options: Any) -> RefineResult:
        """Write anew the tokens of a text that the model finds unlikely where they stand: those with a leave-one-out
        probability below `threshold`, when a share `level` of all tokens may be wrong. Raises `InputError`."""
        return self._run(self.refine_plan(text, threshold=threshold, level=level, **options))

    def refine_plan(
        self, text: str, *, threshold: float = 0.001, level: float = 0.1, **options: Any
    ) -> Plan[RefineResult]:
        """`refine`, as a plan."""
        return refine.refine_plan(self._desk(options), text, threshold, level)

    @cached_property
    def _text_tokens(self) -> TextTokens:
        if self.tokenizer is None:
            raise InputError(f"{self.directory} has no tokenizer files: infilling and editing are a matter of text")
        vocabulary = vocabulary_of(self.tokenizer, self.model.config.vocab_size)
        return TextTokens(self.tokenizer, vocabulary, self.generation.eos_token_ids)

    def _desk(self, options: dict[str, Any]) -> Desk:
        return Desk(self._text_tokens, self.model.config, plan_config(self.generation, options))

    def _run(self, plan: Plan[Any]) -> Any:
        # All requests of one turn of a plan in one batch: candidates are compared, so they had better run together.
        return drive(plan, lambda requests: Engine(self.model, self.tokenizer, len(requests)).results(requests))
