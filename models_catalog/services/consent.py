"""Receipts of consent: written once, given out as signed JSON."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from marketplace import credentials, signing
from marketplace.accounts.models import Namespace, User
from models_catalog.models import Acceptance, LicenseTerms, Listing, Order
from models_catalog.models.consent import Purpose

FORMAT = "consent-receipt/1"


@dataclass(frozen=True, slots=True)
class Origin:
    """Through what, and from which address, somebody said yes; the address is kept as a keyed hash alone."""

    client: str = ""  # page or api
    address: str = ""


UNKNOWN = Origin()


def record(
    *,
    user: User,
    licensee: Namespace,
    listing: Listing,
    terms: LicenseTerms,
    version: str,
    purpose: Purpose,
    origin: Origin,
    now: datetime,
    order: Order | None = None,
) -> Acceptance:
    return Acceptance.objects.create(
        user=user,
        licensee=licensee,
        listing=listing,
        terms=terms,
        version=version,
        text_sha256=terms.value.text_sha256,
        purpose=purpose,
        order=order,
        client=origin.client,
        address_hash=credentials.keyed_hash(origin.address, purpose="address") if origin.address else "",
        accepted_at=now,
    )


def receipt(acceptance: Acceptance) -> dict[str, Any]:
    """Returns the receipt with this site's signature over its canonical JSON (marketplace/signing.py)."""
    return signing.envelope(
        {
            "format": FORMAT,
            "id": str(acceptance.pk),
            "purpose": acceptance.purpose,
            "accepted_by": acceptance.user.username,
            "accepted_for": acceptance.licensee.name,
            "accepted_at": acceptance.accepted_at.isoformat(),
            "listing": str(acceptance.listing),
            "version": acceptance.version,
            "terms": acceptance.terms.name,
            "terms_hash": acceptance.terms.terms_hash,
            "text_sha256": acceptance.text_sha256,
            "order": str(acceptance.order_id) if acceptance.order_id else None,
            "client": acceptance.client,
            "address_hash": acceptance.address_hash,
        }
    )
