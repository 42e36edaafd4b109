"""Looks that a pattern takes no further than at what stands beside them: `(?!-)[a-z-]+`, `[a-z-]+(?<!-)`.

Where a look-ahead needs fewer characters than what follows it in the same sequence has, or a look-behind fewer than
what comes before, the two are an intersection of their own, wherever the sequence stands: in repeats, too. Python's
parse tree gets an item `LOCAL` in their place: (items, [(wanted, is ahead, pattern)]).
"""

from __future__ import annotations

from collections.abc import Sequence
from re import _parser  # type: ignore[attr-defined]
from typing import Any

LOOKS = ("ASSERT", "ASSERT_NOT")
LOCAL = "LOCAL"
STARTS = ("AT_BEGINNING", "AT_BEGINNING_STRING")
Items = Sequence[tuple[Any, Any]]


def has(items: Any, operations: tuple[str, ...]) -> bool:
    """Whether any of the operations, or of the anchors, is somewhere in a part of the tree."""
    if isinstance(items, tuple | list | _parser.SubPattern):
        return any(has(item, operations) for item in items)
    return str(items) in operations


def localised(tree: Any, anchored: bool) -> list[tuple[Any, Any]]:
    """The items of a tree with `LOCAL` wherever that says the same; `anchored` where nothing comes before them."""
    return _sequence(tree, 0 if anchored else 1)


def _sequence(tree: Any, starts: int | None = None) -> list[tuple[Any, Any]]:
    """The same, of a sequence that so many anchors make begin where the text does (None: that can't be said)."""
    items = list(tree)
    found: list[tuple[Any, Any]] = []
    sources: list[Any] = []  # of each that was found, what it was before: its width is known
    begin = 0
    while begin < len(items):
        end = begin
        while end < len(items) and str(items[end][0]) in LOOKS and _is_ahead(items[end]) == _is_ahead(items[begin]):
            end += 1
        looks = items[begin:end]
        taken = _beside(tree.state, sources if looks and not _is_ahead(looks[0]) else items[end:], looks, starts)
        if not taken:
            found.append(_inside(items[begin]))
            sources.append(items[begin])
            begin += 1
        elif _is_ahead(looks[0]):
            found.append((LOCAL, ([_inside(item) for item in items[end : end + taken]], _described(looks))))
            sources.append((_parser.SUBPATTERN, (None, 0, 0, _parser.SubPattern(tree.state, items[end : end + taken]))))
            begin = end + taken
        else:
            inner = (LOCAL, (found[-taken:], _described(looks)))
            source = (_parser.SUBPATTERN, (None, 0, 0, _parser.SubPattern(tree.state, sources[-taken:])))
            found[-taken:], sources[-taken:] = [inner], [source]
            begin = end
    return found


def _beside(state: Any, items: list[Any], looks: list[Any], starts: int | None) -> int:
    """How many of the items beside these looks have all that they look at; 0 where that can't be said."""
    if not looks or has([body for _, (_, body) in looks], (*LOOKS, "AT")):
        return 0
    needed, behind = max(body.getwidth()[1] for _, (_, body) in looks), not _is_ahead(looks[0])
    for count in range(1, len(items) + 1):
        beside = items[-count:] if behind else items[:count]
        if has(beside, ("AT",)) or has(beside, LOOKS):
            return 0
        if _parser.SubPattern(state, beside).getwidth()[0] >= needed:
            return count
        before = items[:-count]
        if behind and starts is not None and len(before) >= starts and all(str(a) in STARTS for _, a in before):
            return 0 if before and state.flags & _parser.SRE_FLAG_MULTILINE else count
    return 0


def _is_ahead(look: tuple[Any, Any]) -> bool:
    return str(look[0]) in LOOKS and look[1][0] > 0


def _described(looks: Items) -> list[tuple[bool, bool, Any]]:
    return [(str(look[0]) == "ASSERT", _is_ahead(look), look[1][1]) for look in looks]


def _inside(item: tuple[Any, Any]) -> tuple[Any, Any]:
    """The same item with what is inside it localised."""
    operation, argument = item
    match str(operation):
        case "BRANCH":
            return operation, (argument[0], [_sequence(branch) for branch in argument[1]])
        case "SUBPATTERN" | "MAX_REPEAT" | "MIN_REPEAT":
            return operation, (*argument[:-1], _sequence(argument[-1]))
        case "ASSERT" | "ASSERT_NOT":
            return operation, (argument[0], _sequence(argument[1]))
    return item


def alternatives(items: Items) -> list[Items]:
    """The branches of a pattern that consists of them."""
    if len(items) != 1:
        return [items]
    operation, argument = items[0]
    if str(operation) == "BRANCH":
        return [way for branch in argument[1] for way in alternatives(branch)]
    if str(operation) == "SUBPATTERN" and not argument[1] and not argument[2]:
        return alternatives(argument[3])
    return [items]


def by_position(items: Items, lines: bool) -> tuple[Items, Items | None]:
    """A pattern that begins with look-ahead from the start of the text, `(?!^a)b`: what it is there, and what it is
    further on, where that differs (no more look-ahead, or nothing at all)."""
    leading = 0
    while leading < len(items) and _is_ahead(items[leading]):
        leading += 1
    from_start = [look for look in items[:leading] if str((look[1][1] or [(None, None)])[0][1]) in STARTS]
    if not from_start or lines:
        return items, None
    here = [(_parser.AT, _parser.AT_BEGINNING), *items]
    if any(str(look[0]) == "ASSERT" for look in from_start):
        return here, None
    return here, [item for item in items if not any(item is look for look in from_start)]
