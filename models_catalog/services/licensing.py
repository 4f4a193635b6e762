"""Accepting terms, and counting what is downloaded under them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from marketplace.accounts.models import Namespace, User
from marketplace.accounts.services import audit, people
from marketplace.clients import Asker
from marketplace.decisions import require
from marketplace.errors import Conflict
from models_catalog import ancestry, policies
from models_catalog.declarations import NOTHING, Declaration, require_stated
from models_catalog.declarations import as_json as declared_json
from models_catalog.models import Acceptance, Artifact, ClauseSet, Download, Grant, LicenseTerms, Order, Release
from models_catalog.models.consent import Purpose
from models_catalog.models.licensing import Credential
from models_catalog.models.orders import Receiver
from models_catalog.services import consent, grants, orders, payments
from models_catalog.services.consent import UNKNOWN, Origin
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
    origin: Origin = UNKNOWN,
    declaration: Declaration = NOTHING,
) -> Grant | Order:
    """Accepts the release's terms for the licensee, by default the user: returns the grant, or for a price the
    order that leads to it, which is paid in the way that `payment` names. Accepting again what is held returns the
    same grant, and ordering again the same open order.

    `terms_hash` must be that of the terms that were shown; `declaration` states what they ask for. Raises Conflict
    (`terms_changed`, `order_open`), Invalid (`bad_payment`, `declaration_missing`, `bad_declaration`) and Denied with
    what `may_license` and `may_price` say, and `use_not_granted` by what was declared.
    Locks the listing and the release, so that nothing withdrawn is licensed."""
    holder = licensee or people.namespace_of(user)
    with transaction.atomic():
        locked = Release.objects.locked(release.pk)
        grants.require_hash(terms_hash, locked.terms.terms_hash)
        decision = policies.may_license(user, locked, now=now, holder=holder)
        if decision.code == "already_licensed":
            return Grant.objects.active(now).covering(locked).get(licensee=holder)
        require(decision)
        said = _Said(user, holder, Purpose.LICENSE, origin, declaration)
        accepted = _order(said, locked, payment=payment, now=now)
    return _opened(accepted)


def start_trial(
    *,
    user: User,
    release: Release,
    terms_hash: str,
    now: datetime,
    licensee: Namespace | None = None,
    origin: Origin = UNKNOWN,
    declaration: Declaration = NOTHING,
) -> Grant:
    """Accepts the release's terms for as long as their trial lasts, without payment; a trial that runs is
    returned as it is. Raises Conflict (`terms_changed`, `trial_used`) and Denied with what `may_try` says. Locks
    as `accept_terms`."""
    holder = licensee or people.namespace_of(user)
    with transaction.atomic():
        locked = Release.objects.locked(release.pk)
        grants.require_hash(terms_hash, locked.terms.terms_hash)
        running = Grant.objects.active(now).covering(locked).filter(licensee=holder, is_trial=True).first()
        if running is not None and policies.may_accept_for(user, holder).allowed:
            return running
        require(policies.may_try(user, locked, now=now, holder=holder))
        acceptance = _accept(_Said(user, holder, Purpose.TRIAL, origin, declaration), locked, now=now)
        return grants.give_trial(acceptance=acceptance, last_end=ancestry.bounds_of(locked).expires_at, now=now)


def renew(
    *,
    user: User,
    grant: Grant,
    terms_hash: str,
    now: datetime,
    payment: str = "",
    origin: Origin = UNKNOWN,
    declaration: Declaration = NOTHING,
) -> Grant | Order:
    """Accepts the grant's terms for another term, which begins where the present one ends: returns the new grant,
    or for a price the order that leads to it. Raises Conflict (`terms_changed`, `not_renewable`, `not_offered`)
    and Denied with what `may_renew` says. Locks as `accept_terms`."""
    with transaction.atomic():
        require(policies.may_renew(user, grant, now=now))
        release = policies.offering(grant.listing, grant.terms)
        if release is None:  # withdrawn since the policy looked
            raise Conflict("not_offered", "The vendor offers no version under these terms any more.")
        locked = Release.objects.locked(release.pk)
        grants.require_hash(terms_hash, locked.terms.terms_hash)
        grant.refresh_from_db()
        require(policies.may_renew(user, grant, now=now))
        said = _Said(user, grant.licensee, Purpose.RENEWAL, origin, declaration)
        accepted = _order(said, locked, payment=payment, now=now)
    return _opened(accepted)


def state(*, user: User, grant: Grant, declaration: Declaration, now: datetime, origin: Origin = UNKNOWN) -> Grant:
    """Records what the licensee states of themselves anew; from now on the grant is judged by that, also where it says
    that the terms allow the use no more. Raises Denied (`not_a_member`), Invalid (`declaration_missing`,
    `bad_declaration`), Conflict (`already_ended`, `nothing_asked`)."""
    require(policies.may_accept_for(user, grant.licensee))
    found = require_stated(declaration, grant.terms.value)
    if found == NOTHING:
        raise Conflict("nothing_asked", "These terms ask for no statement.")
    with transaction.atomic():
        if not Grant.objects.active(now).filter(pk=grant.pk).update(declaration=declared_json(found)):
            raise Conflict("already_ended", "This license has ended already.")
        acceptance = consent.record(
            user=user,
            licensee=grant.licensee,
            listing=grant.listing,
            terms=grant.terms,
            version="",
            purpose=Purpose.STATEMENT,
            origin=origin,
            now=now,
            declaration=found,
        )
        details = {"grant": str(grant.pk), "receipt": str(acceptance.pk), **acceptance.declaration}
        audit.record("license.state", actor=user, namespace=grant.licensee, subject=grant.listing, details=details)
    grant.refresh_from_db()
    return grant


@dataclass(frozen=True, slots=True)
class _Said:
    """Who says yes, for whom, to what, through what, and what they state of themselves."""

    user: User
    holder: Namespace
    purpose: Purpose
    origin: Origin
    declaration: Declaration


def _order(said: _Said, release: Release, *, payment: str, now: datetime) -> Grant | Order:
    require(policies.may_price(release))
    stated = consent.stated(said.declaration, listing=release.listing, terms=release.terms)
    provider = payments.provider_for(release.terms.price_minor, wanted=payment)
    order = orders.place(user=said.user, holder=said.holder, release=release, provider=provider.name, now=now)
    earlier = Acceptance.objects.filter(order=order).first()
    if earlier is None:
        _accept(said, release, now=now, order=order)
    elif earlier.declaration != declared_json(stated):
        text = "Your open order states other facts of you. Cancel it, and order again."
        raise Conflict("order_open", text, extra={"order": str(order.pk)})
    if provider.begin(order):
        return orders.settle(order=order, actor=said.user, received_by=Receiver.NOBODY, now=now)
    return order


def _opened(accepted: Grant | Order) -> Grant | Order:
    """Asks the payment provider for its page, outside the transaction: that may be a call over the network."""
    if isinstance(accepted, Order):
        payments.provider_named(accepted.provider).open(accepted)
    return accepted


def _accept(said: _Said, release: Release, *, now: datetime, order: Order | None = None) -> Acceptance:
    return consent.record(
        user=said.user,
        licensee=said.holder,
        listing=release.listing,
        terms=release.terms,
        version=release.version,
        purpose=said.purpose,
        origin=said.origin,
        now=now,
        order=order,
        declaration=consent.stated(said.declaration, listing=release.listing, terms=release.terms),
    )


def record_downloads(*, release: Release, user: User, asker: Asker, credential: Credential, now: datetime) -> None:
    """Counts every file of a release that is about to be served as one archive, as `record_download` does."""
    with transaction.atomic():
        for artifact in release.artifacts.all():
            record_download(artifact=artifact, user=user, asker=asker, credential=credential, now=now)


def record_download(*, artifact: Artifact, user: User, asker: Asker, credential: Credential, now: datetime) -> None:
    """Counts one file that is about to be served, once a day however often it is begun; the caller has asked
    `may_download` and taken the user's seat."""
    row = Download(
        artifact=artifact,
        user=user,
        client=asker.client,
        is_ci=asker.is_ci,
        credential=credential,
        day=timezone.localdate(now),
    )
    Download.objects.bulk_create([row], ignore_conflicts=True)
