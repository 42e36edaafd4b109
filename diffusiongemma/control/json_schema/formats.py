"""String formats of JSON Schema as languages. Each is the format or a part of it that is never wrong: dates know leap
years, host names stay within their lengths, internationalised forms are written in ASCII, URIs without user or IPv6.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache

from diffusiongemma.control.languages import language as lang
from diffusiongemma.control.languages.regex import regex_language

YEAR_29_FEB = r"(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"  # leap years but 0000
DATE = (
    r"(?:\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)"
    rf"|02-(?:0[1-9]|1\d|2[0-8]))|{YEAR_29_FEB}-02-29)"
)
TIME = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)"

# RFC 5890 allows 63 characters a label and 253 in all; 4 labels of 24 leave the automaton small
LABEL = r"[a-z](?:-?[a-z0-9]){0,11}"
HOSTNAME = rf"(?:[a-z0-9](?:-?[a-z0-9]){{0,11}}\.){{0,3}}{LABEL}"
ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"  # RFC 5322
EMAIL = rf"{ATOM}(?:\.{ATOM})*" + r"@[a-z0-9]+(?:-[a-z0-9]+)*(?:\.[a-z](?:-?[a-z0-9])*)+"

OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
IPV4 = rf"{OCTET}(?:\.{OCTET}){{3}}"
GROUP = r"[0-9a-fA-F]{1,4}"
IPV6 = "|".join(
    [rf"{GROUP}(?::{GROUP}){{7}}", "::"]
    + [rf"(?:{GROUP}:){{{n}}}(?::{GROUP}){{1,{7 - n}}}" for n in range(1, 7)]
    + [rf":(?::{GROUP}){{1,7}}", rf"(?:{GROUP}:){{1,7}}:"]
    # the last four bytes as in IPv4
    + [rf"(?:{GROUP}:){{6}}{IPV4}", rf"::(?:{GROUP}:){{0,5}}{IPV4}"]
    + [rf"(?:{GROUP}:){{{n}}}:(?:{GROUP}:){{0,{5 - n}}}{IPV4}" for n in range(1, 6)]
)
BASE64 = r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?"
UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"

# RFC 3986, host names without user information, IP literals left out
PCHAR = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
NO_COLON = PCHAR.replace(":@", "@")
PATH = rf"(?:/{PCHAR}*)*"
QUERY = rf"(?:\?(?:{PCHAR}|[/?])*)?(?:#(?:{PCHAR}|[/?])*)?"
AUTHORITY = r"//[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*(?::\d{1,4})?"
URI = rf"[A-Za-z][A-Za-z0-9+.-]*:(?:{AUTHORITY}{PATH}|/?{PCHAR}+{PATH}){QUERY}"
RELATIVE = rf"(?:{AUTHORITY}{PATH}|/|/?{NO_COLON}+{PATH}){QUERY}"

NUMBER = r"\d{1,4}"  # RFC 3339, appendix A: units may only be left out at either end
DURATION_DATE = rf"(?:{NUMBER}Y(?:{NUMBER}M(?:{NUMBER}D)?)?|{NUMBER}M(?:{NUMBER}D)?|{NUMBER}D)"
DURATION_TIME = rf"T(?:{NUMBER}H(?:{NUMBER}M(?:{NUMBER}S)?)?|{NUMBER}M(?:{NUMBER}S)?|{NUMBER}S)"

# Of a relative pointer's number a zero is the last digit: jsonschema takes no other.
FORMATS: dict[str, str] = {
    "date": DATE,
    "time": TIME,
    "date-time": rf"{DATE}T{TIME}",
    "duration": rf"P(?:{DURATION_DATE}(?:{DURATION_TIME})?|{DURATION_TIME}|{NUMBER}W)",
    "email": EMAIL,
    "idn-email": EMAIL,
    "hostname": HOSTNAME,
    "idn-hostname": HOSTNAME,
    "ipv4": IPV4,
    "ipv6": IPV6,
    "uuid": UUID,
    "uri": URI,
    "iri": URI,
    "uri-reference": rf"{URI}|{RELATIVE}",
    "iri-reference": rf"{URI}|{RELATIVE}",
    "json-pointer": r"(?:/(?:[^~/\x00-\x1f]|~[01])*)*",
    "relative-json-pointer": r"(?:0|[1-9]{1,3}0?)(?:#|(?:/(?:[^~/\x00-\x1f]|~[01])*)*)",
    "regex": r"\^?(?:[A-Za-z0-9 _,:;=@/-]|\\[.dws]|\.|\[a-z\]\+?)+\$?",
    "uri-template": rf"{URI}(?:\{{[a-z][a-z0-9_]*\}}(?:/{PCHAR}*)?)*",
    # beyond the standard
    "url": URI,
    "ip-address": IPV4,
    "host-name": HOSTNAME,
    "ip": rf"{IPV4}|{IPV6}",
    "byte": BASE64,
    "base64": BASE64,
    "color": "#[0-9a-f]{6}",
}
HEX = "[0-9a-fA-F]"
FORMATS |= {f"uuid{n}": rf"{HEX}{{8}}-{HEX}{{4}}-{n}{HEX}{{3}}-[89abAB]{HEX}{{3}}-{HEX}{{12}}" for n in range(1, 9)}
UNWRITTEN = {"binary", "password", "float", "double", "decimal", "path", "file-path", "directory-path"}
"""Formats that any value has: they say how it is to be shown or stored."""
NUMBERS = {
    f"{sign}int{bits}": (Decimal(0 if sign else -(2 ** (bits - 1))), Decimal(2 ** (bits if sign else bits - 1) - 1))
    for sign in ("", "u")
    for bits in (8, 16, 32, 64)
}
"""The least and largest number of formats of whole numbers."""


@lru_cache(maxsize=32)
def format_language(name: str) -> lang.Language:
    """The texts of a format listed in FORMATS."""
    written = regex_language(FORMATS[name], re.ASCII)
    if name in ("date", "date-time"):  # there is no year 0
        return lang.Without(written, lang.sequence(lang.literal("0000"), lang.ANY_TEXT))
    return written
