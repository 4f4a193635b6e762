"""Reads STORAGE_URL. Plain values: settings.py imports this before Django is ready."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from django.core.exceptions import ImproperlyConfigured

_OPTIONS = frozenset({"endpoint_url", "region_name"})


def storage(url: str, *, data_dir: Path) -> tuple[Path, dict[str, str]]:
    """Returns the store's directory on this machine and, where the blobs lie in a bucket, what django-storages
    is to know of it; the directory then holds copies of blobs that the engine needed lately.

    `file:///path` or `s3://bucket/prefix?endpoint_url=...&region_name=...`; credentials come from the AWS variables."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Path(url.removeprefix("file://")), {}
    if parts.scheme != "s3" or not parts.hostname:
        raise ImproperlyConfigured("STORAGE_URL must be file:///path or s3://bucket/prefix?endpoint_url=https://host.")
    if parts.username or parts.password:
        raise ImproperlyConfigured(
            "STORAGE_URL must hold no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    given = dict(parse_qsl(parts.query))
    if unknown := given.keys() - _OPTIONS:
        raise ImproperlyConfigured(
            f"STORAGE_URL knows {', '.join(sorted(_OPTIONS))}, not {', '.join(sorted(unknown))}."
        )
    bucket = {"bucket_name": parts.hostname, "location": parts.path.strip("/"), **given}
    return data_dir / "blobs", bucket
