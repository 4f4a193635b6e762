"""Checks a license file without a network or a database: who signed it, whether it was changed, whether it ended.

Exit status: 0 valid, 1 expired, 2 changed, 3 signed by another key, 4 unreadable.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from marketplace import license_files
from marketplace.license_files import Fault, LicenseFileError

_STATUS = {Fault.EXPIRED: 1, Fault.TAMPERED: 2, Fault.WRONG_KEY: 3, Fault.UNREADABLE: 4}


class Command(BaseCommand):
    help = __doc__
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument(
            "--public-key", required=True, help="a PEM file, or the 32 bytes of the key as hex or base64"
        )

    def handle(self, *, file: Path, public_key: str, **_options: Any) -> None:
        given = Path(public_key)
        try:
            key = license_files.public_key_from(given.read_text() if given.is_file() else public_key)
        except ValueError as error:
            raise CommandError(f"This is no Ed25519 public key: {error}.", returncode=4) from error
        try:
            payload = license_files.verify(file.read_text(errors="replace"), key, now=timezone.now())
        except OSError as error:
            raise CommandError(f"The file cannot be read: {error}.", returncode=4) from error
        except LicenseFileError as error:
            raise CommandError(f"{error.fault}: {error}", returncode=_STATUS[error.fault]) from error
        self.stdout.write(json.dumps({"valid": True, **payload}, indent=2, ensure_ascii=False))
