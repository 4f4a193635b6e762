"""Brings a data directory up to date: database, cache table, static files, demo where the site is empty."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser

from marketplace import demo


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--no-demo", action="store_true", help="leave the catalog empty")

    def handle(self, *, no_demo: bool, **_options: Any) -> None:
        steps: list[tuple[str, list[str]]] = [
            ("migrate", []),
            ("createcachetable", []),
            ("collectstatic", ["--noinput"]),
        ]
        for name, arguments in steps:
            self.stdout.write(f"· {name}")
            call_command(name, *arguments, verbosity=0)
        if no_demo or settings.PRODUCTION:
            return
        if settings.DEMO:
            self.stdout.write("· demo catalog")
            call_command("seed_demo", "--if-empty", stdout=self.stdout)
        else:
            self.stdout.write(f"· no demo: {demo.WHY_NOT}")
