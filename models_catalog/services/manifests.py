"""The manifest of a release: its files by digest, its terms, its parents. Its SHA-256 is the revision."""

from __future__ import annotations

import hashlib
from typing import Any

from finetuning.engine.spec import canonical
from models_catalog.models import Release


def manifest(release: Release) -> dict[str, Any]:
    return {
        "listing": str(release.listing),
        "version": release.version,
        "task": release.listing.task,
        "framework": release.listing.framework,
        "architecture": release.listing.architecture,
        "terms_hash": release.terms.terms_hash,
        "files": [
            {"path": path, "sha256": sha256, "bytes": size}
            for path, sha256, size in release.artifacts.order_by("path").values_list("path", "sha256", "bytes")
        ],
        "parents": [
            {
                "relation": edge.relation,
                "manifest_sha256": edge.parent_manifest_sha256,
                "dataset_sha256": edge.dataset_sha256,
            }
            for edge in release.parent_edges.order_by("id")
        ],
        "remote": {"url": release.remote_url, "sha256_prefix": release.remote_sha256_prefix},
    }


def manifest_sha256(release: Release) -> str:
    return hashlib.sha256(canonical(manifest(release))).hexdigest()
