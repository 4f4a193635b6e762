"""Brings a data directory up to date: database, cache table, static files, demo where the site is empty."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.db import connection

from marketplace import demo, signing

_LOCK_NUMBER = 0x6D696772617465  # of PostgreSQL's advisory lock


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Several web machines may start at once; one after another they find less to do. SQLite has one machine."""
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = 0")  # a migration of another machine may take its time
        cursor.execute("SELECT pg_advisory_lock(%s)", [_LOCK_NUMBER])
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_LOCK_NUMBER])


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
        with _alone():
            for name, arguments in steps:
                self.stdout.write(f"· {name}")
                call_command(name, *arguments, verbosity=0)
        signing.public_key()  # made now: machines beside this one wait for it
        if no_demo or settings.PRODUCTION:
            return
        if settings.DEMO:
            self.stdout.write("· demo catalog")
            call_command("seed_demo", "--if-empty", stdout=self.stdout)
        else:
            self.stdout.write(f"· no demo: {demo.WHY_NOT}")
