"""Accepting terms, and counting what is downloaded under them."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.utils import timezone

from marketplace.accounts.models import Namespace, User
from marketplace.accounts.services import people
from marketplace.clients import Asker
from marketplace.decisions import require
from marketplace.errors import Conflict
from models_catalog import policies
from models_catalog.models import Artifact, ClauseSet, Download, Grant, LicenseTerms, Order, Release
from models_catalog.models.licensing import Credential
from models_catalog.models.orders import Receiver
from models_catalog.services import orders, payments
from models_catalog.terms import Right, Terms, as_json, clause_set, clause_set_sha256
from models_catalog.validation import require_sound


def terms_row(value: Terms) -> LicenseTerms:
    """Returns the row of these terms; equal terms are one row. Raises Invalid (`bad_terms`): no terms that make no
    sense are ever stored."""
    require_sound(value)
    row, _ = LicenseTerms.objects.get_or_create(
        terms_hash=value.terms_hash,
        defaults={
            "name": value.name,
            "license_id": value.license_id,
            "kind": value.kind.value,
            "document": as_json(value),
            "commercial_use": value.answer(Right.COMMERCIAL_USE).value,
            "fine_tune": value.answer(Right.FINE_TUNE).value,
            "share_derivatives": value.answer(Right.SHARE_DERIVATIVES).value,
            "sell_derivatives": value.answer(Right.SELL_DERIVATIVES).value,
            "host_as_service": value.answer(Right.HOST_AS_SERVICE).value,
            "manual_approval": value.approval == "manual",
            "price_minor": value.price_minor,
            "currency": value.currency,
            "clause_set": lambda: _clause_set_row(value),  # type: ignore[misc]  # Django calls it where it creates
        },
    )
    return row


def _clause_set_row(value: Terms) -> ClauseSet:
    clauses = clause_set(value)
    row, _ = ClauseSet.objects.get_or_create(sha256=clause_set_sha256(clauses), defaults={"clauses": clauses})
    return row


def accept_terms(
    *,
    user: User,
    release: Release,
    terms_hash: str,
    now: datetime,
    licensee: Namespace | None = None,
    payment: str = "",
) -> Grant | Order:
    """Accepts the release's terms for the licensee, by default the user: returns the grant, or for a price the
    order that leads to it, which is paid in the way that `payment` names. Accepting again what is held returns the
    same grant, and ordering again the same open order.

    `terms_hash` must be that of the terms that were shown. Raises Conflict (`terms_changed`), Invalid
    (`bad_payment`) and Denied with what `may_license` and `may_price` say. Locks the listing and the release, so that nothing withdrawn is licensed."""
    holder = licensee or people.namespace_of(user)
    with transaction.atomic():
        locked = Release.objects.locked(release.pk)
        if terms_hash != locked.terms.terms_hash:
            raise Conflict("terms_changed", "The terms have changed since you read them. Read and accept them again.")
        decision = policies.may_license(user, locked, now=now, holder=holder)
        if decision.code == "already_licensed":
            return Grant.objects.active(now).covering(locked).get(licensee=holder)
        require(decision)
        require(policies.may_price(locked))
        provider = payments.provider_for(locked.terms.price_minor, wanted=payment)
        order = orders.place(user=user, holder=holder, release=locked, provider=provider.name, now=now)
        if provider.begin(order):
            return orders.settle(order=order, actor=user, received_by=Receiver.NOBODY, now=now)
    payments.provider_named(order.provider).open(order)
    return order


def record_downloads(*, release: Release, user: User, asker: Asker, credential: Credential, now: datetime) -> None:
    """Counts every file of a release that is about to be served as one archive, as `record_download` does."""
    with transaction.atomic():
        for artifact in release.artifacts.all():
            record_download(artifact=artifact, user=user, asker=asker, credential=credential, now=now)


def record_download(*, artifact: Artifact, user: User, asker: Asker, credential: Credential, now: datetime) -> None:
    """Counts one file that is about to be served, once a day however often it is begun; the caller has asked
    `may_download`."""
    row = Download(
        artifact=artifact,
        user=user,
        client=asker.client,
        is_ci=asker.is_ci,
        credential=credential,
        day=timezone.localdate(now),
    )
    Download.objects.bulk_create([row], ignore_conflicts=True)
