"""The license file of a grant, for machines that never ask this site."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from marketplace import license_files, signing
from marketplace.accounts.models import User
from marketplace.accounts.services import audit
from marketplace.decisions import require
from marketplace.errors import Conflict
from models_catalog import declarations, policies
from models_catalog.models import Grant
from models_catalog.services.keys import covered_releases
from models_catalog.terms import Right

SUFFIX = ".lic"


def license_file(*, grant: Grant, actor: User, now: datetime) -> str:
    """Returns the signed text: what the grant opens now, file by file. It is good until the grant's end, also
    where that is revoked meanwhile, since nothing reaches a machine without a network. Raises Denied
    (`not_a_member`, `use_not_granted` by what the licensee states now), Conflict (`already_ended`)."""
    require(policies.may_use_grant(actor, grant))
    stated = declarations.from_json(grant.declaration)
    require(policies.may_use_as_declared(str(grant.listing), grant.terms.value, stated))
    if not Grant.objects.active(now).filter(pk=grant.pk).exists():
        raise Conflict("already_ended", "This license has ended already.")
    audit.record(
        "license.file", actor=actor, namespace=grant.licensee, subject=grant.listing, details={"grant": str(grant.pk)}
    )
    return license_files.armor(_payload(grant, now=now), sign=signing.sign)


def _payload(grant: Grant, *, now: datetime) -> dict[str, Any]:
    releases = covered_releases(grant).prefetch_related("artifacts").order_by("published_at", "pk")
    return {
        "format": license_files.FORMAT,
        "key_id": signing.key_id(signing.public_key()),
        "grant": str(grant.pk),
        "licensee": grant.licensee.name,
        "listing": str(grant.listing),
        "versions": [
            {
                "version": release.version,
                "sha": release.sha,
                "files": {file.path: file.sha256 for file in release.artifacts.all()},
            }
            for release in releases
        ],
        "terms": grant.terms.name,
        "terms_hash": grant.terms.terms_hash,
        "rights": {right.value: grant.terms.value.answer(right).value for right in Right},
        "seats": grant.seats,
        "is_trial": grant.is_trial,
        "issued_at": now.isoformat(),
        "expires_at": grant.expires_at.isoformat() if grant.expires_at else None,
    }
