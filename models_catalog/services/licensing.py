"""Accepting terms: grants, orders, access requests, counted downloads."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction

from marketplace.accounts.models import Namespace, User
from marketplace.accounts.services import audit, people
from marketplace.decisions import ALLOW, require
from marketplace.errors import Conflict, Denied, Invalid
from models_catalog import policies, selectors
from models_catalog.models import AccessRequest, Artifact, Download, Grant, LicenseTerms, Order, Release
from models_catalog.models.licensing import OrderStatus, RequestStatus
from models_catalog.terms import Right, Terms, as_json

FREE, MANUAL = "free", "manual"


def terms_row(value: Terms) -> LicenseTerms:
    """Returns the row of these terms; equal terms are one row."""
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
        },
    )
    return row


def licensee_for(user: User, licensee: Namespace | None) -> Namespace:
    """Returns the namespace that will hold the grant. Raises Denied (`not_a_member`)."""
    if licensee is None:
        return people.namespace_of(user)
    if not Namespace.objects.writable_by(user).filter(pk=licensee.pk).exists():
        raise Denied("not_a_member", f"You cannot accept terms for {licensee}.")
    return licensee


def accept_terms(
    *, user: User, release: Release, terms_hash: str, now: datetime, licensee: Namespace | None = None
) -> Grant | Order:
    """Accepts the release's terms: returns the grant, or for a price the order that leads to it.

    `terms_hash` must be that of the terms that were shown. Raises Conflict (`terms_changed`) and what
    `may_license` denies; accepting again what is held returns the same grant."""
    if terms_hash != release.terms.terms_hash:
        raise Conflict("terms_changed", "The terms have changed since you read them. Read and accept them again.")
    holder = licensee_for(user, licensee)
    held = Grant.objects.active(now).filter(licensee=holder, listing=release.listing, terms=release.terms).first()
    if held is not None:
        return held
    decision = policies.may_license(user, release, now=now)
    if decision.code != "already_licensed":  # held by another of the user's namespaces: this one may have its own
        require(decision)
    if release.terms.price_minor:
        return _place_order(user=user, holder=holder, release=release, now=now)
    return _grant(user=user, holder=holder, release=release, now=now)


def _place_order(*, user: User, holder: Namespace, release: Release, now: datetime) -> Order:
    with transaction.atomic():
        order, created = Order.objects.get_or_create(
            buyer=holder,
            listing=release.listing,
            terms=release.terms,
            status=OrderStatus.PENDING,
            defaults={
                "placed_by": user,
                "placed_at": now,
                "amount_minor": release.terms.price_minor,
                "currency": release.terms.currency,
                "provider": MANUAL,
            },
        )
        if created:
            audit.record(
                "order.place", actor=user, namespace=holder, subject=release.listing, details={"order": str(order.pk)}
            )
    return order


def _grant(*, user: User, holder: Namespace, release: Release, now: datetime, order: Order | None = None) -> Grant:
    terms = order.terms if order else release.terms
    value = terms.value
    try:
        with transaction.atomic():
            grant = Grant.objects.create(
                licensee=holder,
                listing=release.listing,
                terms=terms,
                accepted_by=user,
                accepted_at=now,
                accepted_text_sha256=value.text_sha256,
                order=order,
                expires_at=now + timedelta(days=value.term_days) if value.term_days else None,
            )
            audit.record(
                "license.grant",
                actor=user,
                namespace=holder,
                subject=release.listing,
                details={"grant": str(grant.pk), "terms_hash": terms.terms_hash},
            )
    except IntegrityError:  # the same acceptance, sent twice at once
        return Grant.objects.get(licensee=holder, listing=release.listing, terms=terms, revoked_at__isnull=True)
    return grant


def settle_order(*, order: Order, actor: User, now: datetime) -> Grant:
    """Marks the order as paid and grants the licence; settling twice returns the same grant.

    Raises Denied (`not_billing`), Conflict (`order_canceled`)."""
    require(policies.may_bill(actor, order.listing))
    with transaction.atomic():
        settled = Order.objects.filter(pk=order.pk, status=OrderStatus.PENDING).update(
            status=OrderStatus.PAID, settled_by=actor, settled_at=now
        )
        order.refresh_from_db()
        if not settled and order.status != OrderStatus.PAID:
            raise Conflict("order_canceled", "This order was canceled; a new one is needed.")
        if not settled:
            return Grant.objects.get(order=order)
        release = order.listing.latest_release or order.listing.releases.filter(terms=order.terms).latest("id")
        audit.record("order.settle", actor=actor, namespace=order.buyer, subject=order.listing)
        return _grant(user=order.placed_by, holder=order.buyer, release=release, now=now, order=order)


def cancel_order(*, order: Order, actor: User, now: datetime) -> None:
    """Withdraws an unpaid order. Raises Denied (`not_yours`), Conflict (`already_settled`)."""
    if not Namespace.objects.writable_by(actor).filter(pk=order.buyer_id).exists():
        require(policies.may_bill(actor, order.listing))
    with transaction.atomic():
        if not Order.objects.filter(pk=order.pk, status=OrderStatus.PENDING).update(
            status=OrderStatus.CANCELED, settled_by=actor, settled_at=now
        ):
            raise Conflict("already_settled", "This order is settled already.")
        audit.record("order.cancel", actor=actor, namespace=order.buyer, subject=order.listing)


def request_access(*, user: User, release: Release, reason: str, now: datetime) -> AccessRequest:
    """Asks the vendor; asking again while one is pending returns that one. Raises Invalid (`reason_missing`)
    and what `may_license` denies other than the approval itself."""
    decision = policies.may_license(user, release, now=now)
    if decision.allowed:
        raise Conflict("no_approval_needed", "No approval is needed: accept the terms.")
    require(decision if decision.code != "approval_needed" else ALLOW)
    if not reason.strip():
        raise Invalid(
            "reason_missing", "Say what you want the model for, so that the vendor can decide.", field="reason"
        )
    with transaction.atomic():
        request, created = AccessRequest.objects.get_or_create(
            requester=people.namespace_of(user),
            listing=release.listing,
            status=RequestStatus.PENDING,
            defaults={"terms": release.terms, "requested_by": user, "reason": reason.strip()[:2000]},
        )
        if created:
            audit.record("access.request", actor=user, namespace=request.requester, subject=release.listing)
    return request


def decide_request(*, request_id: uuid.UUID, actor: User, approve: bool, answer: str, now: datetime) -> AccessRequest:
    """Approves or rejects; a rejection needs a reason. Raises Invalid (`reason_missing`), Conflict
    (`already_decided`), Denied (`not_the_vendor`)."""
    request = AccessRequest.objects.select_related("listing__namespace", "requester").get(pk=request_id)
    require(policies.may_manage(actor, request.listing))
    if not approve and not answer.strip():
        raise Invalid("reason_missing", "Tell the requester why, so that they know what to change.", field="answer")
    with transaction.atomic():
        if not AccessRequest.objects.filter(pk=request_id, status=RequestStatus.PENDING).update(
            status=RequestStatus.APPROVED if approve else RequestStatus.REJECTED,
            answer=answer.strip()[:500],
            decided_at=now,
        ):
            raise Conflict("already_decided", "This request was decided already.")
        audit.record(
            "access.approve" if approve else "access.reject",
            actor=actor,
            namespace=request.listing.namespace,
            subject=request.requester,
        )
    request.refresh_from_db()
    return request


def record_download(*, artifact: Artifact, user: User, client: str) -> None:
    """Counts one file that is about to be served; the caller has asked `may_download`."""
    Download.objects.create(artifact=artifact, user=user, client=client[:20])


def current_grant(*, user: User, release: Release, now: datetime) -> Grant | None:
    return selectors.active_grant(user, release.listing, now)
