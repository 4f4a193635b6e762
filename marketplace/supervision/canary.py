"""A message that does nothing but be heard: a slot that does not hear its own any more is stuck, however alive
its processes look, and is started again."""

from __future__ import annotations

import logging
import secrets
import time
from datetime import datetime

from django.core.cache import cache
from django.db import Error as DatabaseFault
from django.db import close_old_connections
from django.utils import timezone

from marketplace.queue import ring_canary
from marketplace.queue_settings import FAST, TRAIN

logger = logging.getLogger(__name__)
EVERY_SECONDS = 30.0
ANSWER_SECONDS = 15.0  # of a free worker; a busy one answers when it is free again
KEPT_SECONDS = 86_400


def sing(number: int) -> None:
    """What a worker does with the message."""
    cache.set(_song(number), "heard", timeout=KEPT_SECONDS)


def heard_at() -> dict[str, datetime | None]:
    """Returns when a worker of each kind of slot last heard its canary."""
    return {slot: cache.get(_last(slot)) for slot in (FAST, TRAIN)}


class Canary:
    """Asked about twice a second by the guard of one slot. Several slots of one name hear each other's: one that is
    stuck is then noticed once the others are busy."""

    def __init__(self, slot: str, *, now: float | None = None) -> None:
        self._slot = slot
        self._number = 0  # of the message that is on its way; 0: none
        self._rings_at = time.monotonic() if now is None else now
        self._free_since = 0.0  # since when a worker could have answered

    def is_deaf(self, *, is_free: bool, now: float | None = None) -> bool:
        """Whether a worker has been free for long, and the message is still unheard. A database that is away is
        no sign: it is asked again."""
        now = time.monotonic() if now is None else now
        try:
            if not self._number:
                self._ring(now)
                return False
            if cache.get(_song(self._number)):
                cache.set(_last(self._slot), timezone.now(), timeout=None)
                self._number = 0
                return False
        except (DatabaseFault, OSError) as fault:
            logger.warning("the canary's message cannot be read or written: %s", fault)
            close_old_connections()
            self._free_since = now
            return False
        if not is_free:
            self._free_since = now
        return now - self._free_since > ANSWER_SECONDS

    def _ring(self, now: float) -> None:
        if now < self._rings_at:
            return
        self._rings_at, self._free_since = now + EVERY_SECONDS, now
        number = secrets.randbelow(2**31 - 1) + 1
        ring_canary(self._slot, number)
        self._number = number


def _song(number: int) -> str:
    return f"canary:{number}"


def _last(slot: str) -> str:
    return f"canary:{slot}"
