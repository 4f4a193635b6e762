"""A site that was copied while it stood is the same site in another folder."""

from __future__ import annotations

import json
from pathlib import Path

from sites import Site

FILL = """
import io, os
from marketplace import storage
from marketplace.accounts.models import User
for n in range(3): User.objects.create_user(f"person{n}", password="long enough words")
for n in range(4): storage.put(io.BytesIO(f"blob {n}".encode()), max_bytes=100)
"""
TELL = """
import json
from django.apps import apps
from marketplace import storage
counts = {model._meta.label: model._base_manager.count() for model in apps.get_models()}
whole = {name: storage.is_whole(name) for name in storage.stored()}
print(json.dumps([counts, whole]))
"""


def told(site: Site) -> list[dict[str, int]]:
    return json.loads(site.manage("shell", "-c", TELL).stdout.splitlines()[-1])


def test_a_signing_key_that_lies_elsewhere_is_in_the_backup(site: Site, tmp_path: Path) -> None:
    elsewhere = tmp_path / "keys.pem"
    made = site.manage(
        "shell", "-c", "from marketplace import signing; signing.public_key()", SIGNING_KEY_FILE=str(elsewhere)
    )
    assert made.returncode == 0, made.stderr
    saved = site.manage("backup", str(tmp_path / "saved"), SIGNING_KEY_FILE=str(elsewhere))

    assert saved.returncode == 0, saved.stderr
    assert (tmp_path / "saved/receipts.pem").read_bytes() == elsewhere.read_bytes()


def test_a_backup_has_every_row_and_every_blob_and_the_keys(site: Site, tmp_path: Path) -> None:
    filled = site.manage("shell", "-c", FILL)
    assert filled.returncode == 0, filled.stderr
    saved = site.manage("backup", str(tmp_path / "saved"))
    assert saved.returncode == 0, saved.stderr
    again = site.manage("backup", str(tmp_path / "saved"))

    restored = Site(tmp_path / "saved")
    counts, whole = told(restored)

    assert [counts, whole] == told(site)
    assert counts["accounts.User"] == 3
    assert list(whole.values()) == [True] * 4
    assert (tmp_path / "saved/secret_key").read_text() == (site.data_dir / "secret_key").read_text()
    assert (again.returncode, "is not empty" in again.stderr) == (1, True)
