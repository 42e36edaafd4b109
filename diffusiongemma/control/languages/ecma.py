r"""Patterns of ECMA-262, which JSON Schema's `pattern` is in, in the words of Python's.

What differs: `\d`, `\w` and `\b` are ASCII, `\s` has its own list, `.` excludes four line ends, `$` is the end only,
`{,3}` is literal, unknown escapes stand for themselves, groups and code points are written differently, and there are
Unicode properties.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import groupby
from typing import Any

from diffusiongemma.control.languages.charset import ANY_CHAR, CharSet, char_range, chars, charset, complement, union
from diffusiongemma.errors import InputError

LINE_ENDS = chars("\n\r\u2028\u2029")
SPACE = union(chars("\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff"), char_range("\u2000", "\u200a"))
DIGIT = char_range("0", "9")
WORD = union(char_range("a", "z"), char_range("A", "Z"), DIGIT, chars("_"))
CLASSES = {"d": DIGIT, "w": WORD, "s": SPACE}
CLASSES |= {name.upper(): complement(members) for name, members in CLASSES.items()}
CONTROLS = {"t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "0": "\0"}
LONG_NAMES = {"Letter": "L", "Number": "N", "Punctuation": "P", "Symbol": "S", "Mark": "M", "Separator": "Z"}
LONG_NAMES |= {"Uppercase_Letter": "Lu", "Lowercase_Letter": "Ll", "Titlecase_Letter": "Lt", "Modifier_Letter": "Lm"}
LONG_NAMES |= {"Other_Letter": "Lo", "Decimal_Number": "Nd", "Letter_Number": "Nl", "Other_Number": "No", "digit": "Nd"}
LONG_NAMES |= {"Connector_Punctuation": "Pc", "Dash_Punctuation": "Pd", "Other_Punctuation": "Po", "punct": "P"}
LONG_NAMES |= {"Math_Symbol": "Sm", "Currency_Symbol": "Sc", "Other_Symbol": "So", "Space_Separator": "Zs"}
LONG_NAMES |= {"Control": "Cc", "cntrl": "Cc", "Format": "Cf", "Other": "C", "Combining_Mark": "M", "Any": ""}
HEX_DIGIT = union(DIGIT, char_range("a", "f"), char_range("A", "F"))
EMOJI_COMPONENT: tuple[tuple[int, int], ...] = (
    (0x23, 0x23),
    (0x2A, 0x2A),
    (0x30, 0x39),
    (0x200D, 0x200D),
    (0x20E3, 0x20E3),
    (0xFE0F, 0xFE0F),
)
EMOJI_COMPONENT += ((0x1F1E6, 0x1F1FF), (0x1F3FB, 0x1F3FF), (0x1F9B0, 0x1F9B3), (0xE0020, 0xE007F))
EXACT = {"ASCII": char_range("\0", "\x7f"), "ASCII_Hex_Digit": HEX_DIGIT, "AHex": HEX_DIGIT}
EXACT["Emoji_Component"] = EXACT["EComp"] = charset(EMOJI_COMPONENT)
# Of the others, those that every version of Unicode has.
PICTURES: tuple[tuple[int, int], ...] = (
    (0xA9, 0xA9),
    (0xAE, 0xAE),
    (0x231A, 0x231B),
    (0x2614, 0x2615),
    (0x2648, 0x2653),
    (0x26A0, 0x26A1),
)
PICTURES += ((0x2705, 0x2705), (0x2708, 0x270D), (0x2728, 0x2728), (0x2753, 0x2755), (0x2763, 0x2764), (0x2B50, 0x2B50))
PICTURES += ((0x1F300, 0x1F320), (0x1F324, 0x1F393), (0x1F3A0, 0x1F3F0), (0x1F400, 0x1F4FD), (0x1F4FF, 0x1F53D))
PICTURES += ((0x1F5FB, 0x1F64F), (0x1F680, 0x1F6C5), (0x1F90C, 0x1F93A), (0x1F93C, 0x1F945), (0x1F947, 0x1F9FF))
# Of derived properties, what is known of them here, and categories that have all of it.
DERIVED: dict[str, tuple[Callable[[str], bool] | CharSet, tuple[str, ...]]] = {
    "Alphabetic": (str.isalpha, ("L", "M", "Nl", "So")),
    "Uppercase": (str.isupper, ("Lu", "Nl", "So")),
    "Lowercase": (str.islower, ("Ll", "Lm", "Lo", "M", "Nl", "So")),
    "Extended_Pictographic": (charset(PICTURES), ("S", "P", "Ll")),
}
TOKEN = re.compile(
    r"\\u\{(?P<brace>[0-9A-Fa-f]+)\}|\\u(?P<unit>[0-9A-Fa-f]{4})|\\x(?P<byte>[0-9A-Fa-f]{2})|\\c(?P<control>[A-Za-z])"
    r"|\\(?P<sign>[pP])\{(?P<property>[^}]*)\}|\\k<(?P<named>\w+)>|\\(?P<escape>.)"
    r"|\(\?<(?P<name>[A-Za-z_]\w*)>|(?P<count>\{\d+(?:,\d*)?\})|(?P<char>.)",
    re.DOTALL,
)


class NotEcma(InputError):
    """A pattern that ECMA-262 does not read."""


def is_exact(pattern: str) -> bool:
    """Whether all properties that it names are known exactly."""
    return not any(found["property"] in DERIVED for found in TOKEN.finditer(pattern))


def as_python(pattern: str) -> str:
    """The same pattern for Python's parser, to be read with re.ASCII. Raises `NotEcma`."""
    return "".join(_translated(pattern))


def _translated(pattern: str) -> Iterator[str]:
    position = 0
    while position < len(pattern):
        found = TOKEN.match(pattern, position)
        assert found is not None
        position = found.end()
        text = found.group()
        if text == "[":
            members, position = _class(pattern, position)
            yield _written(members)
        elif text == ".":
            yield _written(complement(LINE_ENDS))
        elif text == "$":
            yield r"\Z"
        elif text == "{":
            yield r"\{"
        elif text == "(" and pattern.startswith("(?", position - 1):
            if not re.match(r"\?(?:[:=!]|<[=!])", pattern[position:]):
                raise NotEcma(f"it is not ECMA-262's: {pattern[position - 1 : position + 4]}", option="regex")
            yield text
        elif found["name"]:
            yield f"(?P<{found['name']}>"
        elif found["named"]:
            yield f"(?P={found['named']})"
        elif found["count"] or (found["escape"] or "-") in "123456789bB" or (found["char"] or "-") in "()|*+?^":
            yield text
        else:
            yield _written(_members(found))


def _members(found: re.Match[str], excluded: bool = False) -> CharSet:
    """The characters that one token stands for, and such as may be among them if they are to be excluded."""
    if code := found["brace"] or found["unit"] or found["byte"]:
        return charset([(int(code, 16), int(code, 16))])
    if found["control"]:
        return chars(chr(ord(found["control"]) % 32))
    if found["property"] is not None:
        others = found["sign"] == "P"
        members = _with_property(found["property"], others != excluded)
        return complement(members) if others else members
    escape = found["escape"]
    if escape is None:
        return chars(found.group())
    if escape in CLASSES:
        return CLASSES[escape]
    return chars(CONTROLS.get(escape, escape))


def _class(pattern: str, position: int) -> tuple[CharSet, int]:
    """The members of a class [...] whose first character is at `position`, and where it ends."""
    negative = pattern.startswith("^", position)
    position += negative
    sets: list[CharSet] = []
    dash = False  # whether a range may end with the next member
    while position < len(pattern) and pattern[position] != "]":
        found = TOKEN.match(pattern, position)
        assert found is not None
        if found["count"] or found["name"]:  # nothing special here: one character
            found = TOKEN.match(pattern, position, position + 1)
            assert found is not None
        members = chars("\b") if found["escape"] == "b" else _members(found, negative)
        position = found.end()
        if found.group() == "-" and sets and not dash and pattern[position : position + 1] not in ("]", ""):
            dash = True
            continue
        if dash and all(len(ends) == 1 and ends[0][0] == ends[0][1] for ends in (sets[-1], members)):
            low, high = sets[-1][0][0], members[0][0]
            if high < low:
                raise NotEcma("a range in a class goes backwards", option="regex", got=pattern)
            members = charset([(low, high)])
        elif dash:
            sets.append(chars("-"))
        sets, dash = [*sets, members], False
    if position >= len(pattern):
        raise NotEcma("a class has no end", option="regex", got=pattern)
    members = union(*sets)
    return (complement(members) if negative else members), position + 1


def _written(members: CharSet) -> str:
    if not members:
        return "(?!)"
    if members == ANY_CHAR:
        return r"[\s\S]"
    if len(members) == 1 and members[0][0] == members[0][1]:
        return re.escape(chr(members[0][0]))
    return "[" + "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in members) + "]"


@lru_cache(maxsize=64)
def _with_property(name: str, outer: bool = False) -> CharSet:
    """The characters of a general category, or of one of a few properties. Versions of Unicode differ in what is not
    assigned yet: the outer set has all that, and whatever else may have the property. Raises `InputError` for others.
    """
    kind, _, value = name.rpartition("=")
    value = LONG_NAMES.get(value, value)
    if name in EXACT:
        return EXACT[name]
    if kind in ("", "gc", "General_Category") and re.fullmatch("(?:[LMNPSZC][a-z]?)?", value):
        return _of_categories((value, "Cn")) if outer or not value else _of_categories((value,), ("Cn",))
    if name in DERIVED:
        known, categories = DERIVED[name]
        if outer:
            return _of_categories((*categories, "Cn"))
        return charset((low, high) for low, high, found in _runs(known) if found) if callable(known) else known
    message = f"it uses the Unicode property {name!r}, which is not known here: write a class of its characters"
    raise InputError(message, option="regex")


def _of_categories(names: tuple[str, ...], but: tuple[str, ...] = ()) -> CharSet:
    runs = _category_runs()
    return charset((low, high) for low, high, name in runs if name.startswith(names) and name not in but)


@lru_cache(maxsize=1)
def _category_runs() -> list[tuple[int, int, str]]:
    return list(_runs(unicodedata.category))


def _runs(quality: Callable[[str], Any]) -> Iterator[tuple[int, int, Any]]:
    """(first, last, quality) of all code points, alike neighbours together."""
    first = 0
    for value, run in groupby(map(quality, map(chr, range(sys.maxunicode + 1)))):
        last = first + sum(1 for _ in run) - 1
        yield first, last, value
        first = last + 1
