"""What is wrong with an upload, said to the person who can mend it. An invalid upload is a result of the
engine, not a failure: these never leave `inspect`."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

MAX_ITEMS = 20
_MAX_ITEM_CHARACTERS = 120
# Control, format (bidi overrides among them), surrogate, private and unassigned characters.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_JOINERS = frozenset("\u200c\u200d")  # Cf, but part of ordinary words in Persian and of emoji


@dataclass(frozen=True, slots=True)
class Problem:
    """`message` says what is wrong and what to do; `items` names at most 20 of the places."""

    code: str
    message: str
    items: tuple[str, ...] = ()


class Rejected(Exception):
    """The upload is invalid for these reasons."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(", ".join(problem.code for problem in problems))
        self.problems = problems

    def __reduce__(self) -> tuple[type[Rejected], tuple[Problem, ...]]:
        return Rejected, self.problems


def reject(code: str, message: str, items: Iterable[str] = ()) -> Rejected:
    """Returns the exception for one problem, its items made printable and cut to the first 20."""
    shown = [printable(item) for _, item in zip(range(MAX_ITEMS), items, strict=False)]
    return Rejected(Problem(code, message, tuple(shown)))


def is_printable(text: str) -> bool:
    """Whether every character can be shown without changing how its neighbours look."""
    # Python's notion is the stricter one, and quick.
    return text.isprintable() or all(
        char in _JOINERS or unicodedata.category(char) not in _UNPRINTABLE for char in text
    )


def printable(text: str) -> str:
    """Returns `text` with unprintable characters escaped and its middle cut out where it is long."""
    escaped = "".join(char if is_printable(char) else f"\\u{ord(char):04x}" for char in text)
    if len(escaped) <= _MAX_ITEM_CHARACTERS:
        return escaped
    half = _MAX_ITEM_CHARACTERS // 2
    return f"{escaped[:half]}\u2026{escaped[-half:]}"
