"""A vendor's own terms: composed clause by clause over a license or a template, and put on a draft."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from django.db import transaction

from finetuning.engine.spec import CARD_FILE
from marketplace.accounts.models import User
from marketplace.accounts.services import audit
from marketplace.decisions import require
from marketplace.errors import Conflict, Invalid
from models_catalog import ancestry, policies, validation
from models_catalog.models import Release
from models_catalog.models.listings import EDITABLE
from models_catalog.plain_words import as_text
from models_catalog.presets import OFFERS, PRESETS
from models_catalog.services import lineage
from models_catalog.services.licensing import terms_row
from models_catalog.terms import Kind, Terms
from models_catalog.verdict import SHARE_ALIKE

START = "commercial"
# What a vendor may set on a well-known license without making it another: the license says nothing of them.
_OF_THE_OFFER = ("price_minor", "currency", "approval", "attribution_text")
# What a client does not state: they follow from what was stated.
_IDENTITY = frozenset({"license_id", "spdx_id", "kind", "edition"})


def compose(clauses: Mapping[str, Any], *, start: str = START) -> Terms:
    """Returns the terms that the clauses make over those of `start`, a key of OFFERS.

    A well-known license whose own clauses were changed is that license no more: it becomes the vendor's own terms,
    which need a name of their own. Own terms without a text get one that says every clause. Raises Invalid
    (`bad_terms`) with the field."""
    if start not in OFFERS:
        raise Invalid("bad_terms", f"Start from one of {', '.join(sorted(OFFERS))}.", field="start")
    if stated := sorted(_IDENTITY & clauses.keys()):
        raise Invalid("bad_terms", "This follows from the license that you start from.", field=stated[0])
    origin = OFFERS[start]
    value = validation.read(clauses, over=origin)
    if _same_license(value, origin):
        return value
    if start in PRESETS:
        if value.name == origin.name:
            raise Invalid("bad_terms", f"This is the {origin.name} no more: give it a name of its own.", field="name")
        value = dataclasses.replace(value, license_id="other", spdx_id="", edition="", kind=Kind.PROPRIETARY)
    if value.text == origin.text:
        value = dataclasses.replace(value, text=as_text(value))
    return validation.require_sound(value)


def _same_license(value: Terms, origin: Terms) -> bool:
    offer = {name: getattr(value, name) for name in _OF_THE_OFFER}
    return dataclasses.replace(origin, **offer) == value


def worded(terms: Terms, *, ancestors: Iterable[Terms]) -> Terms:
    """Returns a derivative's terms with a text that says their own clauses, where theirs was written of an
    ancestor's and says that one's price and royalty. A share-alike license keeps its text, which is what it is."""
    is_written = any(terms.text == ancestor.text == as_text(ancestor) for ancestor in ancestors)
    if not is_written or terms.derivative_terms in SHARE_ALIKE:
        return terms
    return dataclasses.replace(terms, text=as_text(terms))


def set_terms(*, user: User, release: Release, terms: Terms) -> Release:
    """Puts other terms on a draft, with the credits that its lineage asks for.

    Raises Denied (`not_the_vendor`, `release_frozen`; what `lineage.carrying` and `may_price` say), Invalid (`bad_terms`), Conflict
    (`release_frozen`). Locks the release."""
    require(policies.may_edit_release(user, release, path=CARD_FILE))
    row = terms_row(terms)
    with transaction.atomic():
        locked = Release.objects.select_for_update(of=("self",), no_key=True).filter(pk=release.pk)
        if not locked.filter(status__in=EDITABLE).exists():
            raise Conflict("release_frozen", "This release was submitted meanwhile. Create a new version.")
        bound = ancestry.bounds_of(release, user=user)
        carried = lineage.carrying(row, bound=bound, name=release.listing.name)
        Release.objects.filter(pk=release.pk).update(terms=carried)
        require(policies.may_price(Release.objects.select_related("listing", "terms").get(pk=release.pk)))
        details = {"terms_hash": carried.terms_hash}
        audit.record(
            "release.set_terms", actor=user, namespace=release.listing.namespace, subject=release, details=details
        )
    release.refresh_from_db()
    return release
