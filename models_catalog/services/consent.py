"""Receipts of consent: written once, given out as signed JSON."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from marketplace import credentials, signing
from marketplace.accounts.models import Namespace, User
from marketplace.decisions import require
from models_catalog import policies
from models_catalog.declarations import NOTHING, Declaration, as_json, require_stated
from models_catalog.models import Acceptance, LicenseTerms, Listing, Order
from models_catalog.models.consent import Purpose

FORMAT = "consent-receipt/1"


@dataclass(frozen=True, slots=True)
class Origin:
    """Through what, and from which address, somebody said yes; the address is kept as a keyed hash alone."""

    client: str = ""  # page or api
    address: str = ""


UNKNOWN = Origin()


def stated(declaration: Declaration, *, listing: Listing, terms: LicenseTerms) -> Declaration:
    """Returns of a licensee's statement what the terms ask for. Raises Invalid (`declaration_missing`,
    `bad_declaration`), Denied (`use_not_granted`) where the terms do not allow the use by somebody like that."""
    found = require_stated(declaration, terms.value)
    require(policies.may_use_as_declared(str(listing), terms.value, found))
    return found


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
    declaration: Declaration = NOTHING,
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
        declaration=as_json(declaration),
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
            "declaration": acceptance.declaration,
            "order": str(acceptance.order_id) if acceptance.order_id else None,
            "client": acceptance.client,
            "address_hash": acceptance.address_hash,
        }
    )
