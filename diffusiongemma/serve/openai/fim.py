"""Fill-in-the-middle markers inside a prompt, read as prefix and suffix: this model has no such tokens.

Editors write the markers of the model that they take it for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple


class Markers(NamedTuple):
    """What stands before the prefix, before the suffix, and before (or after all of it) the place to fill."""

    prefix: str
    suffix: str
    middle: str


FAMILIES = (
    Markers("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    Markers("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    Markers("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    Markers("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),
    Markers("<PRE>", "<SUF>", "<MID>"),
    Markers("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
    Markers("<|fim▁begin|>", "<|fim▁hole|>", "<|fim▁end|>"),
    Markers("[PREFIX]", "[SUFFIX]", "[MIDDLE]"),
    Markers("<|fim_begin|>", "<|fim_hole|>", "<|fim_end|>"),
)
# What stands before other files of a project, and the tokens that some formats end with.
_FILES = re.compile(r"<\|?(?:repo_name|reponame|file_sep|file_separator|filename|gh_stars)\|?>")
_ENDS = ("<|endoftext|>", "<|fim_pad|>", "<fim_pad>", "<|file_sep|>", "<|repo_name|>", "<EOT>", "<s>", "</s>")


class Gap(NamedTuple):
    prefix: str
    suffix: str


def gap_of(prompt: str) -> Gap | None:
    """The texts around the place to fill; None where a prompt has no markers, or not those of one family."""
    for markers in FAMILIES:
        found = _between(prompt, markers)
        if found is not None:
            return Gap(*found)
    return None


def _between(prompt: str, markers: Markers) -> tuple[str, str] | None:
    first, second = prompt.rfind(markers.prefix), prompt.rfind(markers.suffix)
    if second < 0 or (first < 0 and markers.prefix != "[PREFIX]"):
        return None
    spaced = markers.prefix == "<PRE>"  # this format has a space behind and before its markers
    if first < second:
        before, prefix = _cut(prompt, first, markers.prefix, second)
        suffix, _, rest = prompt[second + len(markers.suffix) :].partition(markers.middle)
    else:  # suffix first
        before, suffix = _cut(prompt, second, markers.suffix, first)
        prefix, _, rest = prompt[first + len(markers.prefix) :].partition(markers.middle)
    if spaced:
        prefix, suffix = prefix.removeprefix(" ").removesuffix(" "), suffix.removesuffix(" ")
    return _told(before) + _told(prefix + rest), _without(_told(suffix), _ENDS)


def _cut(prompt: str, start: int, marker: str, end: int) -> tuple[str, str]:
    return (prompt[:start], prompt[start + len(marker) : end]) if start >= 0 else ("", prompt[:end])


def _told(text: str) -> str:
    """Other files as plain text, each behind its name in a line of its own."""
    return _FILES.sub("", _without(text, _ENDS[:2] + _ENDS[5:]))


def _without(text: str, marks: Iterable[str]) -> str:
    for mark in marks:
        text = text.replace(mark, "")
    return text
