"""Python regular expressions as languages: a text is accepted exactly where `re.fullmatch` would match it.

The pattern is read by Python's own parser and character classes are asked of Python's own matcher, so syntax, flags
and Unicode tables are its own. What a finite automaton cannot say is refused by name.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from re import _compiler, _parser  # type: ignore[attr-defined]
from typing import Any

from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.anchored import without_outer_anchors
from diffusiongemma.control.languages.charset import ANY_CHAR, CharSet, chars, complement, union
from diffusiongemma.control.languages.charset import charset as charset_of
from diffusiongemma.control.languages.dfa import TooLarge
from diffusiongemma.control.languages.looks import LOOKS, Items, alternatives, by_position, has, localised
from diffusiongemma.control.recursion import deep_recursion
from diffusiongemma.errors import InputError

# What Python may come to read otherwise, such as `[[a]`, it reads as it does today; nobody here can change the pattern.
warnings.filterwarnings("ignore", "Possible (nested set|set )", FutureWarning, r"diffusiongemma\.")

REFUSED = {
    "GROUPREF": r"a back-reference such as \1",
    "GROUPREF_EXISTS": "a conditional group (?(1)…)",
    "ATOMIC_GROUP": "an atomic group (?>…)",
    "POSSESSIVE_REPEAT": "a possessive repeat such as *+",
}
BOUNDARIES = {"AT_BOUNDARY": "boundary", "AT_NON_BOUNDARY": "no boundary"}
ANCHORS: dict[str, lang.Anchor] = {
    "AT_BEGINNING": lang.Anchor("start"),
    "AT_BEGINNING_STRING": lang.Anchor("start"),
    "AT_END": lang.Anchor("end or final newline"),
    "AT_END_STRING": lang.Anchor("end"),
}
LINE_ANCHORS = {"AT_BEGINNING": lang.Anchor("line start"), "AT_END": lang.Anchor("line end")}
MOST_LOOKS_REPEATED = 8


def _unheard(_: int) -> None:
    """What is said to nobody."""


def regex_language(
    pattern: str, flags: int = 0, longest: int | None = None, clip: Callable[[int], object] = _unheard
) -> lang.Language:
    """The language of the texts that `re.fullmatch(pattern, text, flags)` matches.

    With `longest`, what may be repeated more often is repeated at most so often, where that only narrows the language;
    `clip` is told how often it may be.
    Raises `InputError` for a malformed pattern and, by name, for what no automaton can follow (back-references, atomic
    and possessive matching, looks that reach beyond what stands beside them inside repeats or behind
    other text).
    """
    return _read(pattern, flags, lang.EMPTY, longest, clip)


def found_language(pattern: str, flags: int = 0, longest: int | None = None) -> lang.Language:
    """The language of the texts in which `re.search(pattern, text, flags)` finds the pattern; `longest` as above."""
    return _read(pattern, flags, lang.ANY_TEXT, longest)


def _read(
    pattern: str, flags: int, around: lang.Language, longest: int | None, clip: Callable[[int], object] = _unheard
) -> lang.Language:
    """The language of the pattern with what may stand `around` it: nothing or any text."""
    try:
        with deep_recursion():
            tree = _parser.parse(pattern, flags)
            reader = _Reader(pattern, longest, clip)
            items = localised(tree, around is not lang.ANY_TEXT)
            if around is lang.ANY_TEXT and has(items, LOOKS):
                found = lang.either(*(reader.found(way, tree.state.flags) for way in alternatives(items)))
            else:
                reader.check_looks(items, unanchored=False)
                found = reader.followed(items, tree.state.flags, around)
            return without_outer_anchors(lang.sequence(around, found))
    except (re.error, OverflowError) as error:
        raise InputError(f"it is not a regular expression: {error}", option="regex", got=pattern) from error
    except RecursionError as error:
        raise TooLarge("its groups are nested too deeply: flatten it", option="regex") from error


@dataclass(frozen=True)
class _Reader:
    pattern: str
    longest: int | None
    clip: Callable[[int], object]

    @property
    def unlimited(self) -> _Reader:
        """For what must not be there, of which less would allow more."""
        return replace(self, longest=None)

    def check_looks(self, tree: Items, unanchored: bool) -> None:
        """Look-ahead is read as an intersection with all that follows, which begins a text of its own: anchors that
        look back mean the same there only where nothing has been read before."""
        for i, item in enumerate(tree):
            if has(item, LOOKS):
                looks_back = has(tree[i:], ("AT_BEGINNING", "AT_BEGINNING_STRING", *BOUNDARIES))
                anchored = not unanchored or any(str(a) in ("AT_BEGINNING", "AT_BEGINNING_STRING") for _, a in tree[:i])
                if looks_back and not (anchored and all(str(op) in ("AT", *LOOKS) for op, _ in tree[:i])):
                    raise self.refusal("look-ahead behind other text, together with ^ or \\b,")
                return

    def found(self, items: Items, flags: int) -> lang.Language:
        """What begins where a pattern is found, and all that comes after it."""
        at_start, later = by_position(items, bool(flags & re.MULTILINE))
        self.check_looks(at_start, unanchored=True)
        found = self.followed(at_start, flags, lang.ANY_TEXT)
        if later is None:
            return found
        self.check_looks(later, unanchored=True)
        return lang.either(found, lang.sequence(lang.Chars(ANY_CHAR), self.followed(later, flags, lang.ANY_TEXT)))

    def followed(self, items: Items, flags: int, tail: lang.Language) -> lang.Language:
        """A sequence and all that comes after it."""
        if not has(items, LOOKS):
            return lang.sequence(self.sequence(items, flags), tail)
        for item in reversed(items):
            tail = self.item_followed(item, flags, tail)
        return tail

    def item_followed(self, item: tuple[Any, Any], flags: int, tail: lang.Language) -> lang.Language:
        operation, argument = str(item[0]), item[1]
        if not has(item, LOOKS):
            return lang.sequence(self.node(item, flags), tail)
        if operation in LOOKS:
            direction, body = argument
            if direction < 0:
                raise self.refusal("look-behind such as (?<=…) or (?<!…)")
            if operation == "ASSERT":
                return lang.Both(tail, self.followed(body, flags, lang.ANY_TEXT))
            return lang.Without(tail, self.unlimited.followed(body, flags, lang.ANY_TEXT))
        if operation == "BRANCH":
            return lang.either(*(self.followed(branch, flags, tail) for branch in argument[1]))
        if operation == "SUBPATTERN":
            _, added, removed, body = argument
            return self.followed(body, (flags | added) & ~removed, tail)
        if operation in ("MAX_REPEAT", "MIN_REPEAT") and argument[1] is not _parser.MAXREPEAT:
            return self.repeat_followed(argument, flags, tail)
        raise self.refusal("look-ahead inside a repeat without end")

    def repeat_followed(self, argument: Any, flags: int, tail: lang.Language) -> lang.Language:
        least, most, body = argument
        if most > MOST_LOOKS_REPEATED:
            raise self.refusal(f"look-ahead inside a repeat of more than {MOST_LOOKS_REPEATED}")
        after = tail
        for count in reversed(range(most)):
            after = self.followed(body, flags, after)
            after = after if count < least else lang.either(after, tail)
        return after

    def sequence(self, items: Items, flags: int) -> lang.Language:
        return lang.sequence(*(self.node(item, flags) for item in items))

    def node(self, item: tuple[Any, Any], flags: int) -> lang.Language:
        operation, argument = item
        match str(operation):
            case "LITERAL" | "NOT_LITERAL" | "ANY" | "IN":
                return lang.Chars(_single_character(item, flags))
            case "BRANCH":
                return lang.either(*(self.sequence(branch, flags) for branch in argument[1]))
            case "SUBPATTERN":
                _, added, removed, body = argument
                return self.sequence(body, (flags | added) & ~removed)
            case "MAX_REPEAT" | "MIN_REPEAT":
                least, most, body = argument
                return lang.repeat(self.sequence(body, flags), least, self.most(least, most))
            case "AT":
                return self.anchor(str(argument), flags)
            case "FAILURE":
                return lang.NEVER
            case "LOCAL":
                return self.looked_at(argument[0], argument[1], flags)
            case name:
                raise self.refusal(REFUSED.get(name, name))

    def looked_at(self, items: Items, looks: list[tuple[bool, bool, Any]], flags: int) -> lang.Language:
        """What stands beside looks that need no more than that."""
        found = self.sequence(items, flags)
        for wanted, is_ahead, pattern in looks:
            body = (self if wanted else self.unlimited).sequence(pattern, flags)
            seen = lang.sequence(body, lang.ANY_TEXT) if is_ahead else lang.sequence(lang.ANY_TEXT, body)
            found = lang.Both(found, seen) if wanted else lang.Without(found, seen)
        return found

    def most(self, least: int, most: Any) -> int | None:
        if most is _parser.MAXREPEAT:
            return None
        if self.longest is None or most <= max(least, self.longest):
            return int(most)
        self.clip(int(most))
        return max(least, self.longest)

    def anchor(self, name: str, flags: int) -> lang.Language:
        if name in BOUNDARIES:
            word = ((_parser.CATEGORY, _parser.CATEGORY_WORD),)
            return lang.Anchor(BOUNDARIES[name], _asked_of_python(_parser.IN, word, flags & re.ASCII))  # type: ignore[arg-type]
        if flags & re.MULTILINE and name in LINE_ANCHORS:
            return LINE_ANCHORS[name]
        if name not in ANCHORS:
            raise self.refusal(REFUSED.get(name, name))
        return ANCHORS[name]

    def refusal(self, what: str) -> InputError:
        message = f"it uses {what}, which can't be guaranteed: rewrite it without"
        return InputError(message, option="regex", got=self.pattern)


def _single_character(item: tuple[Any, Any], flags: int) -> CharSet:
    if flags & re.IGNORECASE:  # Python's case rules (ſ, K, İ …) are asked of Python
        return _asked_of_python(item[0], _hashable(item[1]), flags & (re.IGNORECASE | re.ASCII | re.DOTALL))
    operation, argument = item
    match str(operation):
        case "LITERAL":
            return charset_of([(argument, argument)])
        case "NOT_LITERAL":
            return complement(charset_of([(argument, argument)]))
        case "ANY":
            return ANY_CHAR if flags & re.DOTALL else complement(chars("\n"))
        case _:
            return _listed_characters(argument, flags)


def _listed_characters(members: list[tuple[Any, Any]], flags: int) -> CharSet:
    sets = []
    for operation, argument in members:
        match str(operation):
            case "LITERAL":
                sets.append(charset_of([(argument, argument)]))
            case "RANGE":
                sets.append(charset_of([argument]))
            case "CATEGORY":
                sets.append(_asked_of_python(_parser.IN, ((operation, argument),), flags & re.ASCII))
    listed = union(*sets)
    return complement(listed) if str(members[0][0]) == "NEGATE" else listed


def _hashable(argument: Any) -> Any:
    return tuple(_hashable(a) for a in argument) if isinstance(argument, list | tuple) else argument


@lru_cache(maxsize=1024)
def _asked_of_python(operation: Any, argument: Any, flags: int) -> CharSet:
    """Every character that Python's matcher takes for this one-character item: runs of them in the list of all."""
    state = _parser.State()
    state.flags = flags | (0 if flags & re.ASCII else re.UNICODE)
    item = (operation, list(argument) if operation is _parser.IN else argument)
    one_or_more = (_parser.MAX_REPEAT, (1, _parser.MAXREPEAT, _parser.SubPattern(state, [item])))
    runs = _compiler.compile(_parser.SubPattern(state, [one_or_more]), state.flags).finditer(_every_character())
    return charset_of((ord(run.group()[0]), ord(run.group()[-1])) for run in runs)


@lru_cache(maxsize=1)
def _every_character() -> str:
    return "".join(chr(c) for low, high in ANY_CHAR for c in range(low, high + 1))
