"""Runs one worker slot: `fast` for checks, `train` for fine-tunes."""

from __future__ import annotations

import importlib
import os
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from marketplace.queue_settings import FAST, TRAIN


class Command(BaseCommand):
    help = __doc__
    requires_system_checks = []  # `up` has made them: half of the time that a restart takes

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", choices=[FAST, TRAIN])

    def handle(self, *, name: str, **_options: Any) -> None:
        # django-q2 reads its settings when it is imported; `up` sets the variable, a shell may forget it.
        if os.environ.get("Q_CLUSTER_NAME") != name:
            raise CommandError(f"Set Q_CLUSTER_NAME={name} in the environment of this command.")
        importlib.import_module("marketplace.supervision.slot").run()
