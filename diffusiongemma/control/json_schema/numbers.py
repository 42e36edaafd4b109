"""JSON numbers within bounds, as languages.

Whole numbers have at most 19 digits, or as many as a bound; others at most 15 after the point, or an exponent where no
bound but 0 is near. Readers round texts to floats. Rounding keeps the order, so what is within closed bounds stays
there; beside an open bound, and where whole numbers are excluded, at most 15 digits in all are written, which survive
the round trip (IEEE 754).
"""

from __future__ import annotations

from decimal import Decimal  # only compared and turned over here: arithmetic would round to the context's digits
from functools import lru_cache

import numpy as np

from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.charset import char_range, chars
from diffusiongemma.control.languages.dfa import DEAD, CharDfa, alphabet_of
from diffusiongemma.control.languages.minimal import minimised, trimmed

EXACT_DIGITS = 15
WHOLE_DIGITS = 19  # of identifiers and nanoseconds
FRACTION_DIGITS, EXACT_FRACTION_DIGITS = 15, 6
NONZERO_DIGIT = lang.Chars(char_range("1", "9"))
MINUS = lang.literal("-")


def digits(least: int, most: int) -> lang.Language:
    return lang.repeat(lang.DIGIT, least, most)


@lru_cache(maxsize=256)
def integers(low: int | None, high: int | None) -> lang.Language:
    """Whole numbers from `low` to `high` (None: no bound), in decimal, without leading zeros or negative zero."""
    longest = max(len(str(abs(bound))) for bound in (low or 0, high or 0))
    largest = 10 ** max(WHOLE_DIGITS, longest) - 1
    low, high = max(-largest, -largest if low is None else low), min(largest, largest if high is None else high)
    options = []
    if high >= 0:
        options.append(_whole(max(low, 0), high))
    if low < 0:
        options.append(lang.sequence(MINUS, _whole(max(1, -high), -low)))
    return lang.either(*options)


def _whole(low: int, high: int) -> lang.Language:
    """0 ≤ low .. high, one option per number of digits."""
    options = []
    for length in range(len(str(low)), len(str(high)) + 1):
        smallest = max(low, 10 ** (length - 1) if length > 1 else 0)
        largest = min(high, 10**length - 1)
        if smallest <= largest:
            options.append(_same_length(str(smallest), str(largest)))
    return lang.either(*options)


def _same_length(low: str, high: str) -> lang.Language:
    """Digit strings between two of the same length."""
    if not low:
        return lang.EMPTY
    if set(low[1:]) <= {"0"} and set(high[1:]) <= {"9"}:
        return lang.sequence(lang.Chars(char_range(low[0], high[0])), digits(len(low) - 1, len(low) - 1))
    if low[0] == high[0]:
        return lang.sequence(lang.literal(low[0]), _same_length(low[1:], high[1:]))
    rest = len(low) - 1
    options = [
        lang.sequence(lang.literal(low[0]), _same_length(low[1:], "9" * rest)),
        lang.sequence(lang.literal(high[0]), _same_length("0" * rest, high[1:])),
    ]
    if int(high[0]) - int(low[0]) > 1:
        between = char_range(str(int(low[0]) + 1), str(int(high[0]) - 1))
        options.append(lang.sequence(lang.Chars(between), digits(rest, rest)))
    return lang.either(*options)


@lru_cache(maxsize=256)
def decimals(
    low: Decimal | None, high: Decimal | None, low_open: bool, high_open: bool, fractions_only: bool = False
) -> lang.Language:
    """Numbers from `low` to `high`, whole ones and fractions; an open bound is itself left out."""
    written = [_fraction_of(bound) for bound in (low, high) if bound is not None]
    exact = fractions_only or any(is_open and bound != 0 for bound, is_open in ((low, low_open), (high, high_open)))
    places = max([EXACT_FRACTION_DIGITS if exact else FRACTION_DIGITS, *map(len, written)])
    before = max(1, EXACT_DIGITS - places) if exact else WHOLE_DIGITS
    zero = Decimal(0)
    options = []
    if high is None or high > 0 or (high == 0 and not high_open):
        above, above_open = (low, low_open) if low is not None and low >= 0 else (zero, False)
        options.append(_magnitudes(above, above_open, high, high_open, places, before))
        if high is None and above == 0 and not fractions_only:
            options.append(SCIENTIFIC)
    if low is None or low < 0:
        above, above_open = (high.copy_negate(), high_open) if high is not None and high < 0 else (zero, True)
        below = None if low is None else low.copy_negate()
        options.append(lang.sequence(MINUS, _magnitudes(above, above_open, below, low_open, places, before)))
        if low is None and above == 0 and not fractions_only:
            options.append(lang.sequence(MINUS, SCIENTIFIC))
    return lang.either(*options)


def _magnitudes(
    low: Decimal, low_open: bool, high: Decimal | None, high_open: bool, places: int, before: int
) -> lang.Language:
    """Numbers without sign or exponent; at most `before` digits before the point of a fraction, `places` after it."""
    whole_digits = max(WHOLE_DIGITS, len(str(int(high or 0))), len(str(int(low))))
    any_whole = _whole(0, 10**whole_digits - 1)
    before_point = _whole(0, 10**before - 1)
    with_fraction = lang.sequence(before_point, lang.literal("."), digits(1, places))
    limits = [_at_least(low, low_open, whole_digits, places)]
    if high is not None:
        limits.append(_at_most(high, high_open, places))
    return lang.both(lang.either(any_whole, with_fraction), *limits)


def _fraction_of(bound: Decimal) -> str:
    """The digits after the point, without trailing zeros."""
    return format(bound.copy_abs(), "f").partition(".")[2].rstrip("0")


def _at_least(bound: Decimal, is_open: bool, whole_digits: int, places: int) -> lang.Language:
    whole, fraction = int(bound), _fraction_of(bound)
    any_fraction = lang.optional(lang.sequence(lang.literal("."), digits(1, places)))
    beyond = lang.sequence(_whole(whole + 1, 10**whole_digits - 1), any_fraction)
    tail: lang.Language = lang.sequence(lang.literal("."), _tail_at_least(fraction, is_open, places))
    if not fraction and not is_open:
        tail = any_fraction
    return lang.either(beyond, lang.sequence(lang.literal(str(whole)), tail))


def _at_most(bound: Decimal, is_open: bool, places: int) -> lang.Language:
    whole, fraction = int(bound), _fraction_of(bound)
    options = [lang.sequence(lang.literal(str(whole)), lang.literal("."), _tail_at_most(fraction, is_open, places))]
    if fraction or not is_open:
        options.append(lang.literal(str(whole)))
    if whole > 0:
        any_fraction = lang.optional(lang.sequence(lang.literal("."), digits(1, places)))
        options.append(lang.sequence(_whole(0, whole - 1), any_fraction))
    return lang.either(*options)


def _tail_at_least(fraction: str, is_open: bool, places: int) -> lang.Language:
    """At most `places` digits after the point that are ≥ (open: >) those of `fraction`."""
    if places == 0:
        return lang.EMPTY if not fraction and not is_open else lang.NEVER
    if not fraction:
        some_nonzero = lang.sequence(lang.repeat(lang.DIGIT), NONZERO_DIGIT, lang.repeat(lang.DIGIT))
        return lang.both(digits(1, places), some_nonzero) if is_open else digits(0, places)
    options = [lang.sequence(lang.literal(fraction[0]), _tail_at_least(fraction[1:], is_open, places - 1))]
    if fraction[0] < "9":
        larger = char_range(chr(ord(fraction[0]) + 1), "9")
        options.append(lang.sequence(lang.Chars(larger), digits(0, places - 1)))
    return lang.either(*options)


def _tail_at_most(fraction: str, is_open: bool, places: int, started: bool = False) -> lang.Language:
    """At most `places` digits after the point, one at least, that are ≤ (open: <) those of `fraction`."""
    if not fraction:
        return lang.NEVER if is_open else lang.repeat(lang.literal("0"), 0 if started else 1, places)
    if places == 0:
        return lang.EMPTY
    options = [lang.sequence(lang.literal(fraction[0]), _tail_at_most(fraction[1:], is_open, places - 1, True))]
    if fraction[0] > "0":
        smaller = char_range("0", chr(ord(fraction[0]) - 1))
        options.append(lang.sequence(lang.Chars(smaller), digits(0, places - 1)))
    return lang.either(*options, *([lang.EMPTY] if started else []))


SCIENTIFIC = lang.sequence(  # below 1e300, so no reader overflows
    NONZERO_DIGIT,
    lang.optional(lang.sequence(lang.literal("."), digits(1, FRACTION_DIGITS))),
    lang.Chars(chars("eE")),
    lang.optional(lang.Chars(chars("+-"))),
    _whole(0, 299),
)
ANY_NUMBER = lang.sequence(  # without bounds: below 1e300 too, in few states, since it stands in many places
    lang.optional(MINUS),
    _whole(0, 10**WHOLE_DIGITS - 1),
    lang.optional(lang.sequence(lang.literal("."), digits(1, FRACTION_DIGITS))),
    lang.optional(lang.sequence(lang.Chars(chars("eE")), lang.optional(lang.Chars(chars("+-"))), _whole(1, 279))),
)
WITH_FRACTION = lang.both(  # not a whole number: some digit after the point is not zero
    lang.ANY_TEXT, lang.sequence(lang.ANY_TEXT, lang.literal("."), lang.ANY_TEXT, NONZERO_DIGIT, lang.ANY_TEXT)
)


@lru_cache(maxsize=64)
def multiples(of: int, places: int = 0) -> lang.Language:
    """Numbers divisible by `of` / 10^`places`, with at most so many digits after the point.

    The automaton keeps the remainder of all digits read, and how many of them stand after the point.
    """
    alphabet = alphabet_of([char_range(d, d) for d in "0123456789"] + [char_range(c, c) for c in "-."])
    first = 1 + np.arange(places + 1) * of  # state 0: nothing read; then remainders, by the digits after the point
    table = np.full((1 + (places + 1) * of + of, alphabet.num_atoms), DEAD)  # the last ones: just behind the point
    behind_point = 1 + (places + 1) * of
    remainders = np.arange(of)
    for digit in range(10):
        (atom,) = alphabet.atoms_in(char_range(str(digit), str(digit)))
        table[0, atom] = 1 + digit % of
        table[first[0] + remainders, atom] = first[0] + (remainders * 10 + digit) % of
        for place in range(1, places + 1):
            following = first[place] + (remainders * 10 + digit) % of
            table[(behind_point if place == 1 else first[place - 1]) + remainders, atom] = following
    (minus,), (point,) = (alphabet.atoms_in(char_range(c, c)) for c in "-.")
    table[0, minus] = 0
    if places:
        table[first[0] + remainders, point] = behind_point + remainders
    accepting = np.zeros(len(table), bool)
    for place in range(places + 1):
        accepting[first[place] + remainders] = remainders * 10 ** (places - place) % of == 0
    return lang.Compiled(minimised(trimmed(CharDfa(alphabet, table.astype(np.int32), accepting))))
