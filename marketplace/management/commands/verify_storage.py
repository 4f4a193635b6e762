"""Reads every blob and compares it with its name; lists what is missing, damaged or orphaned. Changes nothing."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from finetuning.services import garbage
from marketplace import storage
from marketplace.errors import Unavailable


class Command(BaseCommand):
    help = __doc__

    def handle(self, **_options: Any) -> None:
        present = list(storage.stored())
        mentioned = set(garbage.mentioned())
        damaged = [sha256 for sha256 in present if self._is_damaged(sha256)]
        # After the long reading: what was needed then and is not there now is missing, not just new.
        missing = sorted(name for name in garbage.needed() if not storage.exists(name))
        orphaned = [sha256 for sha256 in present if sha256 not in mentioned]
        for kind, names in (("missing", missing), ("damaged", damaged), ("orphaned", orphaned)):
            for name in names:
                self.stdout.write(f"{kind} {name}")
        summary = f"{len(missing)} missing, {len(damaged)} damaged, {len(orphaned)} orphaned"
        self.stdout.write(f"{len(present)} blobs read: {summary}")
        if missing or damaged:
            raise CommandError(
                "Bring the missing and damaged files back from a backup, each under its name. Orphans are harmless."
            )

    def _is_damaged(self, sha256: str) -> bool:
        try:
            return not storage.is_whole(sha256)
        except Unavailable as error:
            if error.code != "file_missing":  # which means: removed since it was listed
                raise
            return False
        except OSError as error:
            self.stderr.write(f"unreadable {sha256}: {error.strerror}")
            return True
