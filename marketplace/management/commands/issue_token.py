"""Issues an API token and prints it, alone, on standard output."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from marketplace.accounts.models import Scope, User
from marketplace.accounts.services import tokens
from marketplace.errors import DomainError


class Command(BaseCommand):
    help = __doc__
    requires_system_checks: list[str] = []  # they take twice as long as the rest

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument(
            "--scope", action="append", nargs="+", default=[], help="one or more scopes; without it, all of them"
        )
        parser.add_argument("--name", default="command line")
        parser.add_argument("--days", type=int, default=90, help="days until it expires; 0 for never")

    def handle(self, *, username: str, scope: list[list[str]], name: str, days: int, **_options: Any) -> None:
        user = User.objects.filter(username__iexact=username).first()
        if user is None:
            raise CommandError(f"There is no account named {username}.")
        scopes = [item for group in scope for part in group for item in part.split(",")] or list(Scope.values)
        expires_at = timezone.now() + timedelta(days=days) if days else None
        try:
            _, secret = tokens.issue(user=user, name=name, scopes=scopes, expires_at=expires_at)
        except DomainError as error:
            raise CommandError(f"{error.message} Known scopes: {', '.join(Scope.values)}.") from error
        self.stdout.write(secret)
