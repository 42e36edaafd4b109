"""Which draft a schema is written in, and what older drafts and OpenAPI say in the words of draft 2020-12.

`$schema` decides. Without it every keyword that any draft has is read, in the latest draft that has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urldefrag, urljoin

from diffusiongemma.control.json_schema.problems import malformed, refusal, schema_error

LATEST = 2020
ANNOTATIONS = {
    *("$schema", "$id", "$anchor", "$comment", "$defs", "definitions", "title", "description", "default", "examples"),
    *("deprecated", "readOnly", "writeOnly", "contentEncoding", "contentMediaType", "contentSchema"),
    *("$vocabulary", "$dynamicAnchor", "$recursiveAnchor"),
}
SINCE = {
    **dict.fromkeys(("const", "contains", "propertyNames", "examples"), 6),
    **dict.fromkeys(("if", "then", "else", "$comment"), 7),
    **dict.fromkeys(("dependentRequired", "dependentSchemas", "unevaluatedItems", "unevaluatedProperties"), 2019),
    **dict.fromkeys(("minContains", "maxContains", "$anchor", "$recursiveRef"), 2019),
    **dict.fromkeys(("prefixItems", "$dynamicRef"), 2020),
}
# Before their draft these are no keywords. Honoured nevertheless they only take values away, which is what their
# author meant, unless something negates.
ONLY_NARROW = {"const", "contains", "propertyNames", "dependentRequired", "dependentSchemas"}
NEGATING = {"not", "if", "oneOf", "maxContains", "unevaluatedProperties", "unevaluatedItems"}
REPLACED = {"additionalItems": 2020, "dependencies": 2019}  # the first draft without them
NOT_SCHEMAS = {"const", "enum", "default", "examples", "example"}
Schema = Mapping[str, Any]


def at(where: str, *steps: str | int) -> str:
    """The JSON pointer to what stands inside `where`."""
    return where + "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in steps)


class Dialect:
    """The words of one schema document."""

    def __init__(self, root: Any) -> None:
        stated = root.get("$schema") if isinstance(root, Mapping) else None
        self.stated = _draft(stated)
        self.draft = self.stated or LATEST
        words = {keyword for _, raw in schemas_in(root) for keyword in raw}
        self.negates = bool(words & NEGATING)
        self._looks_at_the_rest = bool(words & {"unevaluatedProperties", "unevaluatedItems"})
        self.is_read_both_ways = not self.stated and "dependencies" in words

    def modern(self, raw: Schema, where: str, note: Any, negated: bool) -> Schema:
        """The same in the words of draft 2020-12, what says nothing in this draft left out and given to `note`.

        Where drafts differ, it is what all of them say, and under negation what any of them says.
        """
        if "$ref" in raw and self.draft < 2019:  # nothing beside it counts
            for keyword in raw.keys() - ANNOTATIONS - {"$ref", "id"}:
                note(keyword, where, f"beside $ref it says nothing in draft {self.draft}")
            return {"$ref": raw["$ref"]}
        kept = {keyword: value for keyword, value in raw.items() if self._counts(keyword, where, note, negated)}
        if kept.keys() & {"nullable", "items", "additionalItems", "dependencies", "$recursiveRef", "$dynamicRef"} or (
            kept.get("exclusiveMinimum") in (True, False) or kept.get("exclusiveMaximum") in (True, False)
        ):
            _translated(kept, where, self)
        return kept

    def _counts(self, keyword: str, where: str, note: Any, negated: bool) -> bool:
        since = SINCE.get(keyword, 0)
        if keyword == "nullable":
            if self.stated:
                note(keyword, where, f"it is OpenAPI's, and $schema says draft {self.draft}")
            return not self.stated
        if since > self.draft and keyword not in ANNOTATIONS and (self.negates or keyword not in ONLY_NARROW):
            note(keyword, where, f"draft {self.draft}, which $schema names, does not have it")
            return False
        if keyword == "dependencies" and self.draft >= REPLACED[keyword]:
            if self.stated:
                note(keyword, where, f"draft {self.draft} has dependentRequired and dependentSchemas in its place")
                return False
            if self._looks_at_the_rest:
                raise refusal(keyword, where, "drafts differ on it: write dependentRequired or dependentSchemas")
            return not negated
        return True


def _draft(stated: Any) -> int | None:
    """The number or year of the draft, None where none is named."""
    if not isinstance(stated, str):
        return None
    if found := re.search(r"json-schema\.org/draft-0(\d)/", stated):
        if int(found[1]) < 4:
            raise schema_error(f"draft {found[1]} is not read: say it in draft 4 or a later one")
        return max(4, min(7, int(found[1])))
    found = re.search(r"json-schema\.org/draft/(20\d\d)-", stated)
    return int(found[1]) if found else None


def _translated(kept: dict[str, Any], where: str, dialect: Dialect) -> None:
    """The same keywords in their present form, in place."""
    if kept.pop("nullable", False) is True and "type" in kept:
        names = [kept["type"]] if isinstance(kept["type"], str) else kept["type"]
        kept["type"] = [*names, "null"] if isinstance(names, list) and "null" not in names else names
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(kept.get(exclusive), bool):
            if dialect.stated and dialect.draft > 4:
                raise malformed(exclusive, where, f"a number in draft {dialect.draft}")
            if kept.pop(exclusive) and bound in kept:
                kept[exclusive] = kept.pop(bound)
    if isinstance(kept.get("items"), list):
        if dialect.stated == LATEST:
            raise malformed("items", where, "a schema in draft 2020-12: a list is called prefixItems")
        _list_form(kept, where)
    else:
        kept.pop("additionalItems", None)
    if "dependencies" in kept:
        _dependencies(kept, where)
    if kept.get("$recursiveRef") == "#":
        kept["$ref"] = kept.pop("$recursiveRef")


def _list_form(kept: dict[str, Any], where: str) -> None:
    first, rest = kept.pop("items"), kept.pop("additionalItems", None)
    if first:
        kept["prefixItems"] = first
    if rest is not None:
        kept["items"] = rest


def _dependencies(kept: dict[str, Any], where: str) -> None:
    given = kept.pop("dependencies")
    if not isinstance(given, Mapping):
        raise malformed("dependencies", where, "an object")
    needed = {name: [value] if isinstance(value, str) else value for name, value in given.items()}
    lists = {name: value for name, value in needed.items() if isinstance(value, list)}
    schemas = {name: value for name, value in needed.items() if not isinstance(value, list)}
    for keyword, added in (("dependentRequired", lists), ("dependentSchemas", schemas)):
        if added and keyword in kept:
            raise refusal("dependencies", where, f"it stands beside {keyword}: write one of the two")
        if added:
            kept[keyword] = added


def schemas_in(root: Any) -> Iterator[tuple[str, Schema]]:
    """Every object of a document that may be a schema, with the pointer to it; values that are none are left out."""
    pending: list[tuple[str, Any, bool]] = [("", root, False)]
    while pending:
        where, value, by_name = pending.pop()
        if isinstance(value, Mapping):
            if not by_name:
                yield where, value
            for key, inner in value.items():
                if by_name or key not in NOT_SCHEMAS:
                    names = not by_name and key in ("properties", "patternProperties", "$defs", "definitions")
                    pending.append((at(where, key), inner, names))
        elif isinstance(value, list):
            pending += [(at(where, i), inner, False) for i, inner in enumerate(value)]


class Resources:
    """Where the identifiers and anchors of a document stand, and what its references point to."""

    def __init__(self, root: Any, dialect: Dialect) -> None:
        self.root, self._dialect = root, dialect
        self._key = "id" if dialect.draft == 4 else "$id"
        self._base = {"": ""}  # of every resource, by where it stands
        self._found: dict[str, str] = {"": ""}  # absolute identifier, with an anchor or without → where
        self._several: set[str] = set()
        self._dynamic: dict[str, int] = {}
        named = sorted(schemas_in(root), key=lambda entry: entry[0].count("/"))
        for where, raw in named:
            self._read_id(where, raw)
        for where, raw in named:
            self._read_anchors(where, raw)

    def _read_id(self, where: str, raw: Schema) -> None:
        given = raw.get(self._key)
        if not isinstance(given, str) or ("$ref" in raw and self._dialect.draft < 2019):
            return
        absolute, fragment = urldefrag(urljoin(self.base(where), given))
        if fragment and self._dialect.draft < 2019:
            self._add(f"{absolute}#{fragment}", where)
        elif given and not given.startswith("#"):
            self._base[where] = absolute
            self._add(absolute, where)

    def _read_anchors(self, where: str, raw: Schema) -> None:
        for key in ("$anchor", "$dynamicAnchor"):
            if isinstance(raw.get(key), str):
                self._add(f"{self.base(where)}#{raw[key]}", where)
                self._dynamic[raw[key]] = self._dynamic.get(raw[key], 0) + (key == "$dynamicAnchor")

    def _add(self, identifier: str, where: str) -> None:
        if identifier in self._found and self._found[identifier] != where:
            self._several.add(identifier)
        self._found[identifier] = where

    def _resource(self, where: str) -> str:
        """Where the resource begins that `where` is in."""
        while where not in self._base:
            where = where.rpartition("/")[0]
        return where

    def base(self, where: str) -> str:
        return self._base[self._resource(where)]

    @property
    def alone(self) -> bool:
        """Whether the document is one resource, so that references that depend on who refers do not."""
        return len(self._base) == 1

    def is_plain(self, anchor: str) -> bool:
        """Whether a dynamic reference to this anchor can only mean one place."""
        return self._dynamic.get(anchor, 0) <= 1

    def target(self, reference: str, where: str) -> str | None:
        """Where a reference that stands at `where` points to: a JSON pointer from the root, or None for what is in
        another document."""
        absolute, fragment = urldefrag(urljoin(self.base(where), reference))
        if reference.startswith("#"):
            absolute = self.base(where)
        if fragment and not fragment.startswith("/"):
            found = self._found.get(f"{absolute}#{fragment}")
        else:
            found = self._resource(where) if reference.startswith("#") else self._found.get(absolute)
        if f"{absolute}#{fragment}" in self._several or absolute in self._several:
            raise schema_error(f"$ref {reference!r} at {where or '/'} points to several places of that name")
        if found is None and reference.startswith("#"):
            raise schema_error(f"$ref {reference!r} at {where or '/'} points to nothing")
        return found + fragment if found is not None and fragment.startswith("/") else found
