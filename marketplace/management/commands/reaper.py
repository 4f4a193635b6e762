"""Gives lost work to somebody else, every five seconds."""

from __future__ import annotations

import logging
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import close_old_connections
from django.utils import timezone

from finetuning.services import reaping

logger = logging.getLogger(__name__)
EVERY_SECONDS = 5.0


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true")

    def handle(self, *, once: bool, **_options: Any) -> None:
        while True:
            try:
                reaping.reap(now=timezone.now())
            except Exception:  # it must outlive a database that is away for a while
                logger.exception("the reaper will try again")
                close_old_connections()
            if once:
                return
            time.sleep(EVERY_SECONDS)
