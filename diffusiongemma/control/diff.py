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
    kept = sum(len(text.split()) for kind, text in word_diff_of_words(before, after) if kind == "same")
    total = len(before.split())
    return 1 - kept / total if total else 0.0


def word_diff_of_words(before: str, after: str) -> list[Change]:
    """`word_diff` of the words alone, whatever space lies between them; words are written apart by one space."""
    old, new = before.split(), after.split()
    changes: list[Change] = []
    for tag, i, j, k, l in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        parts = [("same", old[i:j])] if tag == "equal" else [("delete", old[i:j]), ("insert", new[k:l])]
        changes += [(kind, " ".join(words)) for kind, words in parts if words]
    return changes
