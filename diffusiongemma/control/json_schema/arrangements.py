"""Members with commas in between: lists, properties in order, properties in any order, lists that contain something.

Each situation is built once and shared (see `nfa`), so optional members cost their number, not all their combinations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from diffusiongemma.control.languages import language as lang


@dataclass(frozen=True)
class Count:
    """How many there may be; `most=None` is without limit."""

    least: int = 0
    most: int | None = None

    def allows_more(self, so_far: int) -> bool:
        return self.most is None or so_far < self.most

    def after(self, so_far: int) -> Count:
        return Count(max(0, self.least - so_far), None if self.most is None else max(0, self.most - so_far))

    def of(self, body: lang.Language) -> lang.Language:
        return lang.repeat(body, self.least, self.most)

    @property
    def end(self) -> Callable[[int], lang.Language]:
        """What may follow once so many are written, where nothing else may: the end, if they are enough."""
        return lambda written: lang.EMPTY if written >= self.least else lang.NEVER


@dataclass(frozen=True)
class Member:
    text: lang.Language
    required: bool = False


def listed(item: lang.Language, count: Count, comma: lang.Language) -> lang.Language:
    """Items of one kind, commas in between."""
    return with_prefix([], item, count, comma)


def with_prefix(
    prefix: Sequence[lang.Language], rest: lang.Language, count: Count, comma: lang.Language
) -> lang.Language:
    """A list whose first items are `prefix`, one each, and all others `rest`; it may stop anywhere `count` allows."""

    begun = max(len(prefix), 1)
    after = count.after(begun).of(lang.sequence(comma, rest))
    for i in reversed(range(begun)):
        item, separator = (prefix[i] if i < len(prefix) else rest), (comma if i else lang.EMPTY)
        more = lang.sequence(separator, item, after) if count.allows_more(i) else lang.NEVER
        after = lang.either(more, count.end(i))
    return after


def containing(meeting: lang.Language, other: lang.Language, count: Count, comma: lang.Language) -> lang.Language:
    """Lists in which so many items are `meeting`, all others `other`."""
    before, after = lang.repeat(lang.sequence(other, comma)), lang.repeat(lang.sequence(comma, other))
    none = lang.optional(lang.sequence(other, after)) if count.least == 0 else lang.NEVER
    if not count.allows_more(0):
        return none
    further = count.after(1).of(lang.sequence(after, comma, meeting))
    return lang.either(none, lang.sequence(before, meeting, further, after))


def in_order(
    members: Sequence[Member], count: Count, comma: lang.Language, end: Callable[[int], lang.Language]
) -> lang.Language:
    """Members in the order given, optional ones there or not; `end(n)` may follow n of them."""
    told_apart = len(members) if count.most is not None else max(count.least, 1)
    after = [end(written) for written in range(told_apart + 1)]  # by the number written; filled in from the last member
    for member in reversed(members):
        before = []
        for written, without in enumerate(after):
            separator = comma if written else lang.EMPTY
            following = lang.sequence(separator, member.text, after[min(written + 1, told_apart)])
            options = [following] if count.allows_more(written) else []
            before.append(lang.either(*options, *([] if member.required else [without])))
        after = before
    return after[0]


def in_any_order(
    members: Sequence[Member], count: Count, comma: lang.Language, end: Callable[[int], lang.Language]
) -> lang.Language:
    """Members in any order, each at most once; the situations are the sets of members already written."""
    needed = sum(1 << i for i, member in enumerate(members) if member.required)

    @cache
    def after(written: int) -> lang.Language:
        number = written.bit_count()
        options = [end(number)] if written & needed == needed else []
        if count.allows_more(number):
            for i, member in enumerate(members):
                if not written >> i & 1:
                    separator = comma if number else lang.EMPTY
                    options.append(lang.sequence(separator, member.text, after(written | 1 << i)))
        return lang.either(*options)

    return after(0)
