"""What changed between two texts, word by word."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

Change = tuple[str, str]  # "same", "delete" or "insert", and the text

_PIECES = re.compile(r"\s+|\w+|[^\w\s]")


def word_diff(before: str, after: str) -> list[Change]:
    """The runs of words, spaces and marks that stayed, went and came. What is the same and deleted adds up to
    `before`, what is the same and inserted to `after`."""
    old, new = _PIECES.findall(before), _PIECES.findall(after)
    changes: list[Change] = []
    for tag, i, j, k, l in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            changes.append(("same", "".join(old[i:j])))
        else:
            changes += [
                (kind, text) for kind, text in (("delete", "".join(old[i:j])), ("insert", "".join(new[k:l]))) if text
            ]
    return changes


def share_changed(before: str, after: str) -> float:
    """The share of the words of `before` that `after` has not kept, in their order; 0 for a text without words."""
    old, new = before.split(), after.split()
    kept = sum(match.size for match in SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks())
    return 1 - kept / len(old) if old else 0.0
