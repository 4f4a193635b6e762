"""Who may use a grant whose seats are limited, and who gives the seats out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.contrib.auth.models import AnonymousUser
from django.db.models import Count

from marketplace.accounts.models import Membership, Namespace, User
from marketplace.accounts.models.people import ADMINISTERS
from marketplace.decisions import ALLOW, Decision, deny
from models_catalog.models import Grant, Seat
from models_catalog.terms import Right

# Using the weights takes a seat; offering to others what was made of them does not.
NEEDS_SEAT = frozenset({Right.USE, Right.FINE_TUNE})
MAX_NAMED = 3


def may_sit(user: User, grants: Sequence[Grant], *, now: datetime) -> Decision:
    """Is one of the grants open to the user: without a limit, with a seat of theirs, or with one that is free?
    A free one is taken by `seats.use`, when the use begins."""
    limited = [grant for grant in grants if grant.seats]
    if len(limited) < len(grants):
        return ALLOW
    taken = Seat.objects.taken(now).filter(grant__in=limited)
    if taken.opening_for(user).exists():
        return ALLOW
    number = dict(taken.order_by().values_list("grant").annotate(Count("pk")))
    if any(number.get(grant.pk, 0) < grant.seats for grant in limited):
        return ALLOW
    return no_seat(limited[0])


def no_seat(grant: Grant) -> Decision:
    """The refusal, with the names of those who can do something about it."""
    one = grant.seats == 1
    seats = "The one seat" if one else f"All {grant.seats} seats"
    verb = "is" if one else "are"
    return deny("no_seat", f"{seats} of {grant.licensee}'s license {verb} taken. Ask {_admins(grant)} to free one.")


def _admins(grant: Grant) -> str:
    if grant.licensee.organization_id is None:
        return f"{grant.licensee}"
    members = Membership.objects.filter(organization=grant.licensee.organization_id, role__in=ADMINISTERS)
    names = list(members.order_by("-role", "user__username").values_list("user__username", flat=True)[:MAX_NAMED])
    return " or ".join(names)


def may_administer(user: User | AnonymousUser, licensee: Namespace) -> Decision:
    """May the user give out and free the licensee's seats, and make its license keys?"""
    if Namespace.objects.of(user, roles=ADMINISTERS).filter(pk=licensee.pk).exists():
        return ALLOW
    return deny("not_an_admin", f"Only owners and admins of {licensee} do this.")


def may_use_grant(user: User | AnonymousUser, grant: Grant) -> Decision:
    """Is the user one of those whom the grant is for?"""
    if Namespace.objects.of(user).filter(pk=grant.licensee_id).exists():
        return ALLOW
    return deny("not_a_member", f"Only members of {grant.licensee} have this.")
