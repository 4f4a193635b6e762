"""How long the product takes to be whole again: every process there, the site answering, and where runs wait or were
in hand, one of them in hand."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from django.db import DatabaseError, close_old_connections, connections

from chaos.product import Product
from chaos.saying import say
from finetuning.models import Attempt, Run
from finetuning.models.runs import ACTIVE
from marketplace.supervision.processes import is_gone

STEP_SECONDS = 0.25


@dataclass(slots=True)
class Watch:
    """`recovered` has the seconds from each fault to the next moment at which all was well."""

    product: Product
    recovered: list[float] = field(default_factory=list)
    _since: list[tuple[str, float]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _done: threading.Event = field(default_factory=threading.Event)

    def struck(self, name: str, at: float) -> None:
        with self._lock:
            self._since.append((name, at))

    @property
    def is_waiting(self) -> bool:
        return bool(self._since)

    def run(self) -> None:
        try:
            while not self._done.wait(STEP_SECONDS):
                began = time.monotonic()
                if self._since and self.product.is_whole() and _works():
                    self._overcome(began)
        finally:
            connections.close_all()

    def stop(self) -> None:
        self._done.set()

    def _overcome(self, looked_at: float) -> None:
        """All was well after `looked_at`: what struck before it is overcome."""
        now = time.monotonic()
        with self._lock:
            ended = [one for one in self._since if one[1] < looked_at]
            self._since = [one for one in self._since if one[1] >= looked_at]
        for name, since in ended:
            self.recovered.append(now - since)
            say(f"     overcome after {now - since:.1f} s: {name}")


def _works() -> bool:
    try:
        if not Run.objects.filter(status__in=ACTIVE).exists():
            return True
        return any(not is_gone(attempt.slot) for attempt in Attempt.objects.open().filter(run__isnull=False))
    except DatabaseError:
        close_old_connections()
        return False


def quantile(values: list[float], share: float) -> float:
    """Returns the smallest value that at least `share` of the values do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
