"""Copies an SQLite site, while it runs, into an empty folder that can be used as a DATA_DIR."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

from marketplace import signing, storage

SITE_KEY = "secret_key"


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path)

    def handle(self, *, folder: Path, **_options: Any) -> None:
        if connection.vendor != "sqlite" or settings.STORAGE_BUCKET:
            raise CommandError("This copies SQLite and blobs on a disk. Use pg_dump, and a copy of the bucket.")
        if folder.exists() and any(folder.iterdir()):
            raise CommandError(f"{folder} is not empty. Name a new folder.")
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        # The database first: every blob that its rows name is there already, and stays a day at least.
        with connection.cursor() as cursor:
            cursor.execute("VACUUM INTO %s", [str(folder / "db.sqlite3")])
        names = list(storage.stored())
        for sha256 in names:
            source = storage.path_of(sha256)
            target = folder / "blobs" / source.relative_to(settings.STORAGE_DIR)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
        # Under the names that a DATA_DIR has, also where the signing key lies elsewhere.
        keys = {SITE_KEY: Path(settings.DATA_DIR) / SITE_KEY, signing.KEY_FILE: Path(settings.SIGNING_KEY_FILE)}
        for name, path in keys.items():
            if path.exists():
                shutil.copy2(path, folder / name)
        self.stdout.write(f"{len(names)} blobs and the database in {folder}")
