"""How often the API may be called, as the environment says it. Plain values: settings.py imports this before Django is
ready."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

STANDARD = "standard"  # the plan of everybody for whom the staff chose no other
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_RATE = re.compile(r"([1-9]\d{0,8})/(s|sec|second|m|min|minute|h|hour|d|day)")
_PLAN = re.compile(r"[a-z0-9-]{1,40}")


@dataclass(frozen=True, slots=True)
class Rate:
    """`calls` in a window of `seconds`."""

    calls: int
    seconds: int

    def times(self, factor: int) -> Rate:
        return Rate(self.calls * factor, self.seconds)


def rate(text: str) -> Rate:
    """Reads `120/min`. Raises ValueError."""
    found = _RATE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no rate such as 120/min")
    return Rate(int(found[1]), _SECONDS[found[2][0]])


def plans(entries: Iterable[str], *, standard: Rate) -> dict[str, Rate]:
    """Reads `partner=6000/min`, one for each plan beside the standard one. Raises ValueError."""
    found = {STANDARD: standard}
    for entry in filter(None, (entry.strip() for entry in entries)):
        name, _, given = entry.partition("=")
        if not _PLAN.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a plan: small letters, digits and '-'")
        found[name] = rate(given)
    return found
