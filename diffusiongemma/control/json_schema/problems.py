"""What is said about schemas that can't be honoured, and about keywords that say nothing."""

from __future__ import annotations

from collections.abc import Mapping

from diffusiongemma.control.notice import Notice
from diffusiongemma.errors import InputError

MOST_LISTED = 12
TOO_LARGE = "more would be too large"
Places = dict[tuple[str, str], list[str]]  # of what a keyword is called and what is said of it


class Refusal(InputError):
    """One place of a schema that can't be guaranteed."""


class NotTold(Refusal):
    """What is not allowed can't be told whole."""


def schema_error(message: str) -> Refusal:
    return Refusal(message, option="json_schema")


def refusal(keyword: str, where: str, why: str = "remove it") -> Refusal:
    return schema_error(f"{keyword!r} at {where or '/'} can't be guaranteed: {why}")


def not_told(keyword: str, where: str, why: str) -> NotTold:
    return NotTold(refusal(keyword, where, why).message, option="json_schema")


def malformed(keyword: str, where: str, expected: str) -> Refusal:
    return schema_error(f"{keyword!r} at {where or '/'} must be {expected}")


def all_of(problems: list[Refusal]) -> Refusal:
    """One refusal that lists them all."""
    texts = list(dict.fromkeys(problem.message for problem in problems))
    more = [f"{len(texts) - MOST_LISTED} more places"] if len(texts) > MOST_LISTED else []
    return schema_error("; also ".join(texts[:MOST_LISTED] + more))


class Notes:
    """Keywords that say nothing about values, and where the first of each stands; and those of which less
    can be written than they allow."""

    def __init__(self) -> None:
        self._silent: Places = {}
        self._narrow: Places = {}

    def __call__(self, keyword: str, where: str, why: str) -> None:
        _add(self._silent, repr(keyword), where, f"constrains nothing: {why}")

    def narrow(self, keyword: str, where: str, why: str, how: str = "is written in part") -> None:
        _add(self._narrow, repr(keyword), where, f"{how}: {why}")

    @property
    def notices(self) -> list[Notice]:
        return [Notice(text) for text in (*_in_words(self._silent), *self.narrowed)]

    @property
    def narrowed(self) -> tuple[str, ...]:
        return _in_words(self._narrow)


class Clips:
    """What is written less far than it goes, in one way of writing a schema."""

    def __init__(self) -> None:
        self._places: dict[int, Places] = {}  # by the tokens of an answer that could hold more

    def __call__(self, keyword: str, where: str, what: str, beyond: int, why: str = TOO_LARGE) -> None:
        """`what` is written at most, of which answers of so many tokens could not hold more."""
        self.narrow(repr(keyword), where, f"{what} at most, {why} (without it there is no limit)", beyond)

    def narrow(self, name: str, where: str, left: str, beyond: int) -> None:
        """The same of what has no number in the schema."""
        _add(self._places.setdefault(beyond, {}), name, where, f"is written in part: {left}")

    @property
    def notices(self) -> list[Notice]:
        return [Notice(text, beyond) for beyond, places in self._places.items() for text in _in_words(places)]


def _add(notes: Places, name: str, where: str, what: str) -> None:
    places = notes.setdefault((name, what), [])
    if where not in places:
        places.append(where)


def _in_words(notes: Mapping[tuple[str, str], list[str]]) -> tuple[str, ...]:
    return tuple(
        f"{name} at {places[0] or '/'}"
        + (f" and {len(places) - 1} other places" if len(places) > 1 else "")
        + f" {what}"
        for (name, what), places in notes.items()
    )
