"""Who may say that an order is paid, and to whom; who sees the books."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser

from marketplace.accounts.models import Namespace, User
from marketplace.accounts.models.people import BILLS
from marketplace.decisions import ALLOW, Decision, deny
from models_catalog.models import Listing, Release
from models_catalog.models.orders import Receiver

Person = User | AnonymousUser


def receiver_for(user: Person, listing: Listing) -> Receiver:
    """Whose account the money reached, where the user says no more than that it did."""
    is_vendor = Namespace.objects.of(user, roles=BILLS).filter(pk=listing.namespace_id).exists()
    return Receiver.VENDOR if is_vendor else Receiver.SITE


def may_be_paid(release: Release) -> Decision:
    """May an order of the release be paid? One that was withdrawn since may: who ordered it was offered it."""
    if release.is_quarantined:
        why = release.quarantine_reason.rstrip(".")
        return deny("quarantined", f"This release is quarantined until the site's staff have looked into it: {why}.")
    return ALLOW


def may_receive(user: Person, receiver: str) -> Decision:
    """May the user say that this site was paid? A vendor who could would be paid out what nobody had paid."""
    if receiver == Receiver.SITE and not (user.is_authenticated and user.is_staff):
        return deny("not_staff", "Only the site's staff say that this site was paid.")
    return ALLOW


def may_pay_out(user: Person) -> Decision:
    """May the user make payouts of every vendor's balance, and say that they were sent?"""
    if user.is_authenticated and user.is_staff:
        return ALLOW
    return deny("not_staff", "Only the site's staff send payouts.")


def may_collect(user: Person) -> Decision:
    """May the user say that a vendor has paid this site what they owed? Royalties are paid out of it."""
    if user.is_authenticated and user.is_staff:
        return ALLOW
    return deny("not_staff", "Only the site's staff say that this site was paid.")


def may_attend(user: Person) -> Decision:
    """May the user see the payments that need the staff, and say what was done about one?"""
    if user.is_authenticated and user.is_staff:
        return ALLOW
    return deny("not_staff", "Only the site's staff look after payments.")


def may_see_books(user: Person, namespace: Namespace) -> Decision:
    """May the user read the namespace's statements, and ask for its balance to be paid out?"""
    if user.is_authenticated and user.is_staff:
        return ALLOW
    if Namespace.objects.of(user, roles=BILLS).filter(pk=namespace.pk).exists():
        return ALLOW
    return deny("not_billing", f"Only the billing role of {namespace} or the site's staff see its statements.")
