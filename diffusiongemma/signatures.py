"""What the public methods take, for type checkers: prompts, and the options by name.

Those of decoding stand beside their table, in `options`; the others are the fields of `RequestOptions`. A test holds
these names to theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from diffusiongemma.options import BatchDecodingOptions, DecodingOptions

if TYPE_CHECKING:
    from torch import Tensor

    from diffusiongemma.control.constraint import Constraint
    from diffusiongemma.engine.branch import Branch
    from diffusiongemma.model.cache import SequenceCache

Message = Mapping[str, Any]  # role, content and what else a chat template reads
Content = str | Sequence[Mapping[str, Any]]  # of a message: a text, or parts that may be images and video
Schema = dict[str, Any] | str
if TYPE_CHECKING:
    # A text (one user message), messages, or token ids.
    PromptLike = str | Sequence[Message] | Sequence[int] | Tensor
    Prompts = list[str] | list[list[Message]] | list[list[dict[str, Any]]] | list[list[int]] | list[Tensor]


class AnswerOptions(DecodingOptions, total=False):
    """`request` takes these: how to decode, and the fields of `RequestOptions`."""

    tools: Sequence[dict[str, Any]] | None
    think: bool
    raw: bool
    json_schema: Schema | None
    strict_schema: bool
    show_schema: bool
    regex: str | None
    choices: Sequence[str] | None
    template: str | None
    banned_words: Sequence[str]
    required_words: Sequence[str]
    logit_bias: Mapping[int | str, float] | Mapping[int, float] | Mapping[str, float] | None
    pins: Mapping[int, int | str] | Mapping[int, int] | Mapping[int, str] | None
    branch: Branch | None
    stop: str | Sequence[str]


class GenerateOptions(AnswerOptions, total=False):
    """`generate` and `chat` take these."""

    trace: bool


class StreamOptions(GenerateOptions, total=False):
    """`stream` takes these."""

    id: int
    frames: bool
    cache: SequenceCache | None
    constraint: Constraint | None


class BatchOptions(BatchDecodingOptions, total=False):
    """`generate` of several prompts takes these: the options of one prompt, or a list of them."""

    trace: bool | list[bool]
    tools: Sequence[dict[str, Any]] | list[Sequence[dict[str, Any]]] | None
    think: bool | list[bool]
    raw: bool | list[bool]
    json_schema: Schema | list[Schema | None] | None
    strict_schema: bool | list[bool]
    show_schema: bool | list[bool]
    regex: str | list[str | None] | None
    choices: Sequence[str] | list[Sequence[str]] | None
    template: str | list[str | None] | None
    banned_words: Sequence[str] | list[Sequence[str]]
    required_words: Sequence[str] | list[Sequence[str]]
    logit_bias: Mapping[int | str, float] | list[Mapping[int | str, float]] | None
    pins: Mapping[int, int | str] | list[Mapping[int, int | str]] | None
    branch: Branch | list[Branch | None] | None
    stop: str | Sequence[str] | list[Sequence[str]]
