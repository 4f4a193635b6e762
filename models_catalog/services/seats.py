"""Seats: taken by the first use, given and freed by the licensee's admins."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from marketplace.accounts.models import ApiToken, Namespace, User
from marketplace.accounts.services import audit
from marketplace.decisions import require
from marketplace.errors import Conflict, Invalid
from models_catalog import policies, selectors
from models_catalog.models import Grant, Release, Seat

LAST_USED_RESOLUTION = timedelta(minutes=1)  # one write a minute is enough to show when it was used


def use(*, user: User, release: Release, now: datetime, holder: Namespace | None = None) -> None:
    """Takes a seat for the user on a grant that covers the release, the holder's or any of theirs, where seats are
    limited and they have none; notes the use at most once a minute. The caller has asked the policy.

    Raises Denied (`no_seat`). Locks the grant, so that of two who want the last seat one gets it. What is one's own takes
    none, but where it is a copy of somebody else's."""
    holders = Namespace.objects.of(user) if holder is None else Namespace.objects.filter(pk=holder.pk)
    if holders.filter(pk=release.listing.namespace_id).exists():
        for copied in selectors.copied_from(release):
            use(user=user, release=copied, now=now, holder=release.listing.namespace)
        return
    if not release.terms.value.seats:
        return
    covering = Grant.objects.active(now).covering(release).filter(licensee__in=holders)
    grants = list(covering.select_related("terms", "licensee").order_by("accepted_at"))
    if grants and not _touch(user, grants, now=now):
        _take_any(user, grants, now=now)


def _touch(user: User, grants: list[Grant], *, now: datetime) -> bool:
    """Returns whether the user, or the token in use, has a seat; notes when it was used."""
    seat = Seat.objects.taken(now).filter(grant__in=grants).opening_for(user).first()
    if seat is None:
        return False
    stale = Q(last_used_at__isnull=True) | Q(last_used_at__lt=now - LAST_USED_RESOLUTION)
    if seat.last_used_at is None or seat.last_used_at < now - LAST_USED_RESOLUTION:
        Seat.objects.filter(stale, pk=seat.pk).update(last_used_at=now)
    return True


def _take_any(user: User, grants: list[Grant], *, now: datetime) -> None:
    for grant in grants:
        with transaction.atomic():
            locked = _locked(grant)
            if _touch(user, [locked], now=now):  # by another request of the same person
                return
            if _is_free(locked, now=now):
                Seat.objects.create(grant=locked, user=user, since=now, last_used_at=now)
                return
    require(policies.no_seat(grants[0]))


def _locked(grant: Grant) -> Grant:
    rows = Grant.objects.select_for_update(of=("self",), no_key=True)
    return rows.select_related("terms", "licensee").get(pk=grant.pk)


def _is_free(grant: Grant, *, now: datetime) -> bool:
    """Looks under the lock. Places of people who left are given up for good: they may come back."""
    held = Seat.objects.filter(grant=grant, released_at__isnull=True)
    taken = set(Seat.objects.taken(now).filter(grant=grant).values_list("pk", flat=True))
    held.exclude(pk__in=taken).update(released_at=now)
    return not grant.seats or len(taken) < grant.seats


def assign(*, grant: Grant, actor: User, username: str, now: datetime, token_id: int | None = None) -> Seat:
    """Gives a member, or one token of a member, a seat; who has one keeps it.

    Raises Denied (`not_an_admin`, `no_seat`), Invalid (`user_unknown`, `token_unknown`), Conflict
    (`seats_unlimited`, `already_ended`)."""
    require(policies.may_administer(actor, grant.licensee))
    member = User.objects.filter(username__iexact=username).first()
    if member is None or not Namespace.objects.of(member).filter(pk=grant.licensee_id).exists():
        raise Invalid("user_unknown", f"{grant.licensee} has no member named {username}.", field="username")
    token = _token(member, token_id, now=now) if token_id else None
    with transaction.atomic():
        locked = _locked(grant)
        if not locked.seats:
            raise Conflict("seats_unlimited", "This license has no limit of seats: every member may use it.")
        if not Grant.objects.active(now).filter(pk=grant.pk).exists():
            raise Conflict("already_ended", "This license has ended already.")
        found = Seat.objects.filter(grant=grant, user=member, token=token, released_at__isnull=True).first()
        if found is not None:
            return found
        if not _is_free(locked, now=now):
            require(policies.no_seat(locked))
        seat = Seat.objects.create(grant=locked, user=member, token=token, since=now)
        _record("seat.assign", seat, actor=actor)
    return seat


def _token(member: User, token_id: int, *, now: datetime) -> ApiToken:
    token = ApiToken.objects.live(now).filter(user=member, pk=token_id).first()
    if token is None:
        raise Invalid("token_unknown", f"{member.username} has no such token.", field="token")
    return token


def release(*, seat: Seat, actor: User, now: datetime) -> None:
    """Frees the seat; who used it takes a free one again when they come back. A member may free their own.
    Raises Denied (`not_an_admin`), Conflict (`already_released`)."""
    if seat.user_id != actor.pk:
        require(policies.may_administer(actor, seat.grant.licensee))
    with transaction.atomic():
        if not Seat.objects.filter(pk=seat.pk, released_at__isnull=True).update(released_at=now):
            raise Conflict("already_released", "This seat was freed already.")
        _record("seat.release", seat, actor=actor)


def _record(action: str, seat: Seat, *, actor: User) -> None:
    details = {"grant": str(seat.grant_id), "seat": str(seat)}
    audit.record(action, actor=actor, namespace=seat.grant.licensee, subject=seat.grant.listing, details=details)
