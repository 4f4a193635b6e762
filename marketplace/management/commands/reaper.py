"""Gives lost work to somebody else, every two seconds; once an hour it removes what lies about."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import close_old_connections, connection
from django.utils import timezone

from finetuning.services import garbage, leftovers, reaping

logger = logging.getLogger(__name__)
EVERY_SECONDS = 2.0
SWEEP_SECONDS = 3600.0


class Command(BaseCommand):
    help = __doc__
    requires_system_checks = []  # `up` has made them: half of the time that a restart takes

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true")

    def handle(self, *, once: bool, **_options: Any) -> None:
        sweep_at = time.monotonic()
        while True:
            try:
                reaping.reap(now=timezone.now())
                if time.monotonic() >= sweep_at:
                    sweep_at = time.monotonic() + SWEEP_SECONDS
                    # Beside the loop: reading every row takes long on a large site, and lost work must not wait.
                    cleaner = threading.Thread(target=_clean, daemon=True)
                    cleaner.start()
                    if once:
                        cleaner.join()
            except Exception:  # it must outlive a database that is away for a while
                logger.exception("the reaper will try again")
                close_old_connections()
            if once:
                return
            time.sleep(EVERY_SECONDS)


def _clean() -> None:
    """Each of the two whether or not the other can: a bucket may refuse what the disk needs."""
    try:
        for clean in (_sweep, _collect_garbage):
            try:
                clean()
            except Exception:  # the next hour tries again
                logger.exception("%s failed", clean.__name__)
    finally:
        connection.close()  # this thread's own


def _sweep() -> None:
    removed = leftovers.sweep(now=timezone.now())
    logger.info("swept: %d leftovers removed", removed)


def _collect_garbage() -> None:
    collected = garbage.collect(now=timezone.now())
    logger.info("swept: %d blobs removed, %d bytes", collected.blobs, collected.bytes)
