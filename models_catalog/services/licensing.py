"""Accepting terms: grants, orders, access requests, counted downloads."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

from django.db import transaction

from marketplace.accounts.models import Namespace, User
from marketplace.accounts.services import audit, people
from marketplace.decisions import ALLOW, require
from marketplace.errors import Conflict, Invalid
from models_catalog import policies
from models_catalog.models import AccessRequest, Artifact, Download, Grant, LicenseTerms, Order, Release
from models_catalog.models.licensing import OrderStatus, RequestStatus
from models_catalog.services import payments
from models_catalog.terms import Right, Terms, as_json


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


def accept_terms(
    *, user: User, release: Release, terms_hash: str, now: datetime, licensee: Namespace | None = None
) -> Grant | Order:
    """Accepts the release's terms for the licensee, by default the user: returns the grant, or for a price the
    order that leads to it. Accepting again what is held returns the same grant.

    `terms_hash` must be that of the terms that were shown. Raises Conflict (`terms_changed`) and Denied with
    what `may_license` says. Locks the listing and the release, so that nothing withdrawn is licensed."""
    holder = licensee or people.namespace_of(user)
    with transaction.atomic():
        locked = Release.objects.locked(release.pk)
        if terms_hash != locked.terms.terms_hash:
            raise Conflict("terms_changed", "The terms have changed since you read them. Read and accept them again.")
        decision = policies.may_license(user, locked, now=now, holder=holder)
        if decision.code == "already_licensed":
            return Grant.objects.active(now).covering(locked).get(licensee=holder)
        require(decision)
        provider = payments.provider_for(locked.terms.price_minor)
        order = _place_order(user=user, holder=holder, release=locked, provider=provider.name, now=now)
        return _settle(order=order, actor=user, now=now) if provider.begin(order) else order


def _place_order(*, user: User, holder: Namespace, release: Release, provider: str, now: datetime) -> Order:
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
            "provider": provider,
        },
    )
    if created:
        details = {"order": str(order.pk)}
        audit.record("order.place", actor=user, namespace=holder, subject=release.listing, details=details)
    return order


def settle_order(*, order: Order, actor: User, now: datetime) -> Grant:
    """Marks the order as paid and grants the licence; settling twice returns the same grant.

    Raises Denied (`not_billing`), Conflict (`order_canceled`, `already_licensed`; `grant_ended` where the order
    was paid and its licence is over)."""
    require(policies.may_bill(actor, order.listing))
    with transaction.atomic():
        row = Order.objects.select_for_update(of=("self",)).get(pk=order.pk)
        if row.status == OrderStatus.CANCELED:
            raise Conflict("order_canceled", "This order was canceled; a new one is needed.")
        if row.status == OrderStatus.PENDING:
            return _settle(order=row, actor=actor, now=now)
        grant = Grant.objects.active(now).filter(order=row).first()
        if grant is None:
            raise Conflict("grant_ended", "The license of this order has ended; a new order is needed.")
        return grant


def _settle(*, order: Order, actor: User, now: datetime) -> Grant:
    """Pays the locked order and grants what it is for; an expired grant makes room for the new one."""
    same = Grant.objects.filter(
        licensee=order.buyer_id,
        listing=order.listing_id,
        terms=order.terms_id,
        revoked_at__isnull=True,
        superseded_at__isnull=True,
    )
    if same.active(now).exists():
        raise Conflict("already_licensed", "The buyer holds this license already. Cancel the order.")
    same.update(superseded_at=now)
    Order.objects.filter(pk=order.pk, status=OrderStatus.PENDING).update(
        status=OrderStatus.PAID, settled_by=actor, settled_at=now
    )
    audit.record("order.settle", actor=actor, namespace=order.buyer, subject=order.listing)
    term = timedelta(days=order.terms.value.term_days)
    grant = Grant.objects.create(
        licensee=order.buyer,
        listing=order.listing,
        terms=order.terms,
        accepted_by=order.placed_by,
        accepted_at=order.placed_at,
        accepted_text_sha256=order.terms.value.text_sha256,
        order=order,
        expires_at=now + term if term else None,
    )
    details = {"grant": str(grant.pk), "terms_hash": order.terms.terms_hash}
    audit.record("license.grant", actor=order.placed_by, namespace=order.buyer, subject=order.listing, details=details)
    return grant


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


def request_access(
    *, user: User, release: Release, reason: str, now: datetime, licensee: Namespace | None = None
) -> AccessRequest:
    """Asks the vendor to license the licensee, by default the user; asking again while one is pending returns
    that one. Raises Invalid (`reason_missing`), Conflict (`no_approval_needed`) and Denied with what
    `may_license` says other than the approval itself."""
    holder = licensee or people.namespace_of(user)
    decision = policies.may_license(user, release, now=now, holder=holder)
    if decision.allowed:
        raise Conflict("no_approval_needed", "No approval is needed: accept the terms.")
    require(decision if decision.code != "approval_needed" else ALLOW)
    if not reason.strip():
        raise Invalid(
            "reason_missing", "Say what you want the model for, so that the vendor can decide.", field="reason"
        )
    with transaction.atomic():
        request, created = AccessRequest.objects.get_or_create(
            requester=holder,
            listing=release.listing,
            terms=release.terms,
            status=RequestStatus.PENDING,
            defaults={"requested_by": user, "reason": reason.strip()[:2000]},
        )
        if created:
            audit.record("access.request", actor=user, namespace=holder, subject=release.listing)
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
