"""The life of a grant after the yes: given for an order or as a trial, replaced, revoked, passed on.

What an ended grant does to work that runs is no business of this module: policies ask `GrantQuerySet.active`.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

from django.db import transaction
from django.urls import reverse

from marketplace.accounts.models import Namespace, User
from marketplace.accounts.services import audit
from marketplace.accounts.services.notifications import notify
from marketplace.decisions import require
from marketplace.errors import Conflict, Invalid
from marketplace.webhooks.events import EventType
from models_catalog import ancestry, policies
from models_catalog.declarations import NOTHING, Declaration
from models_catalog.models import Acceptance, Grant, GrantTransfer, LicenseKey, Order, Seat
from models_catalog.models.consent import Purpose
from models_catalog.models.licensing import GrantState
from models_catalog.models.transfers import TransferStatus
from models_catalog.services import consent, webhooks
from models_catalog.services.consent import UNKNOWN, Origin

MAX_REASON = 500
# An order may find these in its place, and replaces them.
_MAKES_ROOM = (GrantState.EXPIRED, GrantState.EXPIRING, GrantState.TRIAL)


# Which entry of the audit log webhooks tell of, and as what.
_TOLD = {
    "license.grant": EventType.GRANT_GIVEN,
    "license.renew": EventType.GRANT_GIVEN,
    "license.trial": EventType.GRANT_GIVEN,
    "license.revoke": EventType.GRANT_REVOKED,
    "license.transfer": EventType.GRANT_TRANSFERRED,
}


def give(*, order: Order, now: datetime) -> Grant:
    """Returns the new grant that the paid order is for, inside its transaction. A trial, or a term that is over or
    nearly so, makes room: its seats and keys go over, and what was left of a bought term is added to the new one.
    Raises Conflict (`already_licensed`, `parent_license_ended`)."""
    same = Grant.objects.current().filter(licensee=order.buyer_id, listing=order.listing_id, terms=order.terms_id)
    before = same.select_for_update(of=("self",)).first()
    if before is not None and before.state_at(now) not in _MAKES_ROOM:
        raise Conflict("already_licensed", "The buyer holds this license already. Cancel the order.")
    same.update(superseded_at=now)
    term = timedelta(days=order.terms.value.term_days)
    left = before.expires_at if before and not before.is_trial else None
    last = ancestry.last_end(order)
    if last is not None and last <= now:
        raise Conflict("parent_license_ended", "The vendor's own license of a parent has ended. Cancel the order.")
    ends = (max(now, left or now) + term if term else None, last)
    acceptance = Acceptance.objects.filter(order=order).first()
    grant = Grant.objects.create(
        licensee=order.buyer,
        listing=order.listing,
        terms=order.terms,
        accepted_by=order.placed_by,
        accepted_at=order.placed_at,
        accepted_text_sha256=order.terms.value.text_sha256,
        acceptance=acceptance,
        declaration=acceptance.declaration if acceptance else {},
        order=order,
        expires_at=min(filter(None, ends), default=None),
    )
    if before is not None:
        Seat.objects.filter(grant=before).update(grant=grant)
        LicenseKey.objects.filter(grant=before).update(grant=grant)
    _record("license.renew" if left else "license.grant", grant, actor=order.placed_by, now=now)
    return grant


def give_trial(*, acceptance: Acceptance, last_end: datetime | None, now: datetime) -> Grant:
    """Returns the trial that was accepted, inside the transaction of that. It ends by itself, or with the license
    of a parent (`last_end`)."""
    ends = now + timedelta(days=acceptance.terms.value.trial_days)
    grant = Grant.objects.create(
        licensee=acceptance.licensee,
        listing=acceptance.listing,
        terms=acceptance.terms,
        accepted_by=acceptance.user,
        accepted_at=now,
        accepted_text_sha256=acceptance.text_sha256,
        acceptance=acceptance,
        declaration=acceptance.declaration,
        is_trial=True,
        expires_at=min(ends, last_end or ends),
    )
    _record("license.trial", grant, actor=acceptance.user, now=now)
    return grant


def revoke(*, grant: Grant, actor: User, reason: str, now: datetime) -> None:
    """Ends the grant for a breach. Raises Denied (`not_the_vendor`, `not_revocable`), Invalid (`reason_missing`),
    Conflict (`already_ended`)."""
    require(policies.may_revoke(actor, grant))
    if not reason.strip():
        raise Invalid("reason_missing", "Say which term was broken, and how: the licensee reads it.", field="reason")
    with transaction.atomic():
        end(grant=grant, actor=actor, reason=reason.strip(), now=now)
        Grant.objects.filter(pk=grant.pk).update(is_broken=True)


def end(*, grant: Grant, actor: User | None, reason: str, now: datetime) -> None:
    """Ends the grant inside the caller's transaction; the caller has asked whether that may be (a breach, a
    refund). Raises Conflict (`already_ended`)."""
    ended = Grant.objects.current().filter(pk=grant.pk).update(revoked_at=now, revoked_reason=reason[:MAX_REASON])
    if not ended:
        raise Conflict("already_ended", "This license has ended already.")
    GrantTransfer.objects.open().filter(grant=grant).update(status=TransferStatus.CANCELED, decided_at=now)
    _record("license.revoke", grant, actor=actor, now=now, reason=reason[:MAX_REASON])
    notify(
        kind="license.revoke",
        recipients=[grant.licensee],
        title=f"Your license of {grant.listing} was revoked",
        body=reason[:MAX_REASON],
        url=reverse("grant", args=[grant.pk]),
        actor=actor,
    )


def offer_transfer(*, grant: Grant, actor: User, recipient: Namespace, now: datetime) -> GrantTransfer:
    """Offers the grant to another licensee. Raises Denied (as `may_transfer`), Conflict (`already_ended`,
    `transfer_open`, `already_licensed`), Invalid (`own_model`) where the recipient owns the model."""
    require(policies.may_transfer(actor, grant, now=now))
    if recipient.pk == grant.listing.namespace_id:
        raise Invalid("own_model", f"{recipient} owns this model and needs no license.", field="recipient")
    _require_none(grant, recipient)
    with transaction.atomic():
        Grant.objects.select_for_update(no_key=True).get(pk=grant.pk)
        if GrantTransfer.objects.open().filter(grant=grant).exists():
            raise Conflict("transfer_open", "This license is offered to somebody already. Withdraw that offer first.")
        transfer = GrantTransfer.objects.create(grant=grant, recipient=recipient, offered_by=actor, offered_at=now)
        _record("license.offer_transfer", grant, actor=actor, now=now, recipient=recipient.name)
        notify(
            kind="license.offer_transfer",
            recipients=[recipient],
            title=f"{grant.licensee} offers you its license of {grant.listing}",
            url=reverse("transfer", args=[transfer.pk]),
            actor=actor,
        )
    return transfer


def _require_none(grant: Grant, recipient: Namespace) -> None:
    held = Grant.objects.current().filter(licensee=recipient, listing=grant.listing_id, terms=grant.terms_id)
    if held.exists():
        raise Conflict("already_licensed", f"{recipient} holds, or held, a license of these terms already.")


def accept_transfer(
    *,
    transfer_id: uuid.UUID,
    actor: User,
    terms_hash: str,
    now: datetime,
    origin: Origin = UNKNOWN,
    declaration: Declaration = NOTHING,
) -> Grant:
    """The recipient takes the grant over for what is left of its term; the former holder's seats and keys end.

    Raises Denied (`not_a_member`, `approval_needed`, `use_not_granted`), Invalid (as
    `consent.stated`), Conflict (`already_decided`, `already_ended`,
    `already_licensed`, `terms_changed`)."""
    with transaction.atomic():
        rows = GrantTransfer.objects.select_for_update(of=("self",), no_key=True)
        transfer = rows.select_related("grant__terms", "grant__listing__namespace", "recipient").get(pk=transfer_id)
        former, recipient = transfer.grant, transfer.recipient
        require(policies.may_take_over(actor, former, recipient))
        require_hash(terms_hash, former.terms.terms_hash)
        stated = consent.stated(declaration, listing=former.listing, terms=former.terms)
        _decide(transfer, TransferStatus.ACCEPTED, now=now)
        _require_none(former, recipient)
        if not Grant.objects.active(now).filter(pk=former.pk).update(transferred_at=now):
            raise Conflict("already_ended", "This license has ended already.")
        Seat.objects.filter(grant=former, released_at__isnull=True).update(released_at=now)
        LicenseKey.objects.live().filter(grant=former).update(revoked_at=now)
        acceptance = consent.record(
            user=actor,
            licensee=recipient,
            listing=former.listing,
            terms=former.terms,
            version="",
            purpose=Purpose.TRANSFER,
            origin=origin,
            now=now,
            declaration=stated,
        )
        grant = Grant.objects.create(
            licensee=recipient,
            listing=former.listing,
            terms=former.terms,
            accepted_by=actor,
            accepted_at=now,
            accepted_text_sha256=acceptance.text_sha256,
            acceptance=acceptance,
            declaration=acceptance.declaration,
            transferred_from=former,
            expires_at=former.expires_at,
        )
        _record("license.transfer", former, actor=actor, now=now, recipient=recipient.name)
        notify(
            kind="license.transfer",
            recipients=[former.licensee],
            title=f"{recipient} took over your license of {former.listing}",
            url=reverse("grant", args=[former.pk]),
            actor=actor,
        )
        _record("license.grant", grant, actor=actor, now=now)
    return grant


def withdraw_transfer(*, transfer: GrantTransfer, actor: User, now: datetime) -> None:
    """Either side ends the offer. Raises Denied (`not_a_member`), Conflict (`already_decided`)."""
    if not policies.may_accept_for(actor, transfer.recipient).allowed:
        require(policies.may_accept_for(actor, transfer.grant.licensee))
    with transaction.atomic():
        _decide(transfer, TransferStatus.CANCELED, now=now)
        _record("license.withdraw_transfer", transfer.grant, actor=actor, now=now)


def _decide(transfer: GrantTransfer, status: TransferStatus, *, now: datetime) -> None:
    if not GrantTransfer.objects.open().filter(pk=transfer.pk).update(status=status, decided_at=now):
        raise Conflict("already_decided", "This offer was accepted or withdrawn already.")


def require_hash(given: str, current: str) -> None:
    """Raises Conflict (`terms_changed`, with the hash of the present terms) unless those were read."""
    if given != current:
        raise Conflict(
            "terms_changed",
            "The terms have changed since you read them. Read and accept them again.",
            extra={"terms_hash": current},
        )


def _record(action: str, grant: Grant, *, actor: User | None, now: datetime, **details: str) -> None:
    audit.record(
        action,
        actor=actor,
        namespace=grant.licensee,
        subject=grant.listing,
        details={"grant": str(grant.pk), "terms_hash": grant.terms.terms_hash, **details},
    )
    if event := _TOLD.get(action):
        webhooks.of_grant(event, grant, now=now)
