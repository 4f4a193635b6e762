"""Removes blobs that nothing names and that were last stored a day ago. The reaper does the same every hour."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from finetuning.services import garbage


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="say what would go, and keep it")

    def handle(self, *, dry_run: bool, **_options: Any) -> None:
        collected = garbage.collect(now=timezone.now(), dry_run=dry_run)
        verb = "would be removed" if dry_run else "removed"
        self.stdout.write(f"{collected.blobs} blobs {verb}, {collected.bytes / 2**20:,.1f} MiB")
