"""What pages refer to is there, and third-party files are what vendor.json says."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
VENDOR = ROOT / "static/vendor"
SPRITE = VENDOR / "bootstrap-icons-1.13.2/sprite.svg"
_NAMES = (r'{% icon "([a-z0-9-]+)" %}', r'icon_name="([a-z0-9-]+)"', r'nav_link "\w+" "[^"]+" "([a-z0-9-]+)"')


def test_every_icon_is_in_the_sprite() -> None:
    text = "\n".join(path.read_text() for path in (ROOT / "templates").rglob("*.html"))
    used = {name for pattern in _NAMES for name in re.findall(pattern, text)}
    drawn = set(re.findall(r'<symbol id="([^"]+)"', SPRITE.read_text()))

    assert used
    assert used <= drawn


def test_third_party_files_are_unchanged() -> None:
    for entry in json.loads((VENDOR / "vendor.json").read_text())["files"]:
        content = (VENDOR / entry["path"]).read_bytes()

        assert hashlib.sha256(content).hexdigest() == entry["sha256"], entry["path"]
        assert len(content) == entry["bytes"]


def test_templates_hold_no_inline_style_or_script() -> None:
    """The content security policy would block it."""
    for path in (ROOT / "templates").rglob("*.html"):
        text = path.read_text()

        assert not re.search(r"\sstyle=|\son\w+=\"|<style", text), path
        assert not re.search(r"<script(?![^>]*\bsrc=)", text), path
