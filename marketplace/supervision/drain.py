"""The wish that a slot stops: its work is laid down where it can be taken up again, and nothing new is begun."""

from __future__ import annotations

import mmap

from django.conf import settings

SPARE_SECONDS = 5.0  # from the end of the engines to the end of the slot: the queue and the rows are written meanwhile

# Shared with the workers, which are forked from the slot. No lock: a killed process could hold it for ever.
_is_asked = mmap.mmap(-1, 1)


def ask() -> None:
    _is_asked[0] = 1


def is_asked() -> bool:
    return _is_asked[0] == 1


def slot_seconds() -> float:
    """Returns how long a slot that was asked takes at most."""
    return float(settings.DRAIN_SECONDS) + SPARE_SECONDS
