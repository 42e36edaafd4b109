"""Python regular expressions as languages: a text is accepted exactly where `re.fullmatch` would match it.

The pattern is read by Python's own parser and character classes are asked of Python's own matcher, so syntax, flags
and Unicode tables are its own. What a finite automaton cannot say is refused by name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from re import _compiler, _parser  # type: ignore[attr-defined]
from typing import Any

from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.charset import ANY_CHAR, CharSet, chars, complement, union
from diffusiongemma.control.languages.charset import charset as charset_of
from diffusiongemma.control.languages.dfa import TooLarge
from diffusiongemma.errors import InputError

REFUSED = {
    "ASSERT": "look-around such as (?=…) or (?<=…)",
    "ASSERT_NOT": "look-around such as (?!…) or (?<!…)",
    "GROUPREF": r"a back-reference such as \1",
    "GROUPREF_EXISTS": "a conditional group (?(1)…)",
    "ATOMIC_GROUP": "an atomic group (?>…)",
    "POSSESSIVE_REPEAT": "a possessive repeat such as *+",
    "AT_BOUNDARY": r"a word boundary \b",
    "AT_NON_BOUNDARY": r"the non-boundary \B",
}
ANCHORS: dict[str, lang.Anchor] = {
    "AT_BEGINNING": lang.Anchor("start"),
    "AT_BEGINNING_STRING": lang.Anchor("start"),
    "AT_END": lang.Anchor("end or final newline"),
    "AT_END_STRING": lang.Anchor("end"),
}


def regex_language(pattern: str, flags: int = 0, dollar_is_end: bool = False) -> lang.Language:
    """The language of the texts that `re.fullmatch(pattern, text, flags)` matches.

    With `dollar_is_end`, `$` is ECMA-262's: the end only, not before a final newline.

    Raises `InputError` for a malformed pattern and, by name, for what no automaton can follow (look-around,
    back-references, atomic and possessive matching, word boundaries, line anchors of MULTILINE).
    """
    try:
        tree = _parser.parse(pattern, flags)
        return _Reader(pattern, dollar_is_end).sequence(tree, tree.state.flags)
    except (re.error, OverflowError) as error:
        raise InputError(f"it is not a regular expression: {error}", option="regex", got=pattern) from error
    except RecursionError as error:
        raise TooLarge("its groups are nested too deeply: flatten it", option="regex") from error


@dataclass(frozen=True)
class _Reader:
    pattern: str
    dollar_is_end: bool

    def sequence(self, items: Any, flags: int) -> lang.Language:
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
                return lang.repeat(self.sequence(body, flags), least, None if most is _parser.MAXREPEAT else most)
            case "AT":
                return self.anchor(str(argument), flags)
            case "FAILURE":
                return lang.NEVER
            case name:
                raise self.refusal(REFUSED.get(name, name))

    def anchor(self, name: str, flags: int) -> lang.Language:
        if flags & re.MULTILINE and name in ("AT_BEGINNING", "AT_END"):
            raise self.refusal("a line anchor ^ or $ under MULTILINE")
        if name not in ANCHORS:
            raise self.refusal(REFUSED.get(name, name))
        return ANCHORS["AT_END_STRING" if name == "AT_END" and self.dollar_is_end else name]

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
