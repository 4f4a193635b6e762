"""Builds the demo's accounts and its catalog of real models."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from marketplace import demo
from marketplace.errors import DomainError


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--if-empty", action="store_true", help="do nothing where the catalog has listings")

    def handle(self, *, if_empty: bool, **_options: Any) -> None:
        if settings.PRODUCTION:
            raise CommandError("The demo has accounts with known passwords; a production site does not seed it.")
        if not settings.DEMO:
            raise CommandError(demo.WHY_NOT)
        if if_empty and not demo.is_wanted():
            return
        try:
            demo.seed(report=self.stdout.write)
        except DomainError as error:
            details = "".join(f"\n  {item}" for item in error.items)
            raise CommandError(error.message + details) from error
