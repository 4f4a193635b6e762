"""Gives lost work to somebody else, every five seconds; once an hour it removes what lies about."""

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
EVERY_SECONDS = 5.0
SWEEP_SECONDS = 3600.0


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true")

    def handle(self, *, once: bool, **_options: Any) -> None:
        sweep_at = time.monotonic()
        while True:
            try:
                reaping.reap(now=timezone.now())
                if time.monotonic() >= sweep_at:
                    sweep_at = time.monotonic() + SWEEP_SECONDS
                    removed = leftovers.sweep(now=timezone.now())
                    logger.info("swept: %d leftovers removed", removed)
                    # Beside the loop: reading every row takes long on a large site, and lost work must not wait.
                    collector = threading.Thread(target=_collect_garbage, daemon=True)
                    collector.start()
                    if once:
                        collector.join()
            except Exception:  # it must outlive a database that is away for a while
                logger.exception("the reaper will try again")
                close_old_connections()
            if once:
                return
            time.sleep(EVERY_SECONDS)


def _collect_garbage() -> None:
    try:
        collected = garbage.collect(now=timezone.now())
        logger.info("swept: %d blobs removed, %d bytes", collected.blobs, collected.bytes)
    except Exception:  # likewise: the next hour tries again
        logger.exception("no blobs removed")
    finally:
        connection.close()  # this thread's own
