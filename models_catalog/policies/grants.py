"""How a grant begins, goes on and ends: trials, renewal, revocation, passing on, asking for access again."""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.models import AnonymousUser
from django.utils import timezone

from marketplace.accounts.models import Namespace, User
from marketplace.decisions import ALLOW, Decision, deny, not_in_this_state
from models_catalog import ancestry
from models_catalog.models import AccessRequest, Grant, LicenseTerms, Listing, Release
from models_catalog.models.licensing import GrantState, RequestStatus
from models_catalog.policies.licenses import is_offered, is_welcome, may_accept_for, may_license
from models_catalog.policies.releases import may_manage
from models_catalog.terms import Revocable

Person = User | AnonymousUser
RENEWABLE = (GrantState.EXPIRING, GrantState.EXPIRED)


def may_try(user: Person, release: Release, *, now: datetime, holder: Namespace | None = None) -> Decision:
    """May the user start the trial of these terms for the holder, by default for themselves?"""
    if not release.terms.value.trial_days:
        return deny("no_trial", "These terms have no trial.")
    decision = may_license(user, release, now=now, holder=holder)
    if not decision.allowed:
        return decision
    holders = Namespace.objects.own(user) if holder is None else Namespace.objects.filter(pk=holder.pk)
    earlier = Grant.objects.covering(release).filter(licensee__in=holders)
    if earlier.filter(is_trial=True).exists():
        return not_in_this_state("trial_used", "There is one trial of these terms, and it was used. Order the license.")
    if earlier.exists():
        return not_in_this_state("trial_used", "A trial comes before a license, and there was one. Order it again.")
    return ALLOW


def may_renew(user: Person, grant: Grant, *, now: datetime) -> Decision:
    for_licensee = may_accept_for(user, grant.licensee)
    if not for_licensee.allowed:
        return for_licensee
    if grant.state_at(now) not in RENEWABLE or grant.is_trial:
        return not_in_this_state("not_renewable", "A license is renewed in the last 14 days of its term, or after it.")
    release = offering(grant.listing, grant.terms)
    if release is None:
        return not_in_this_state("not_offered", "The vendor offers no version under these terms any more.")
    last = ancestry.bounds_of(release).expires_at
    if last is not None and grant.expires_at is not None and now < last <= grant.expires_at:
        text = (
            f"It would add no time: the vendor's own license of a model that this one was made of ends on "
            f"{last:%Y-%m-%d}, and so does yours. Ask the vendor to renew that first."
        )
        return not_in_this_state("renewal_adds_nothing", text)
    return is_offered(user, release, now=now)


def offering(listing: Listing, terms: LicenseTerms) -> Release | None:
    """Returns the newest published release of the listing under these very terms."""
    releases = Release.objects.filter(listing=listing, terms=terms, status="published")
    return releases.select_related("listing__namespace", "terms").order_by("-published_at", "-id").first()


def may_revoke(user: Person, grant: Grant) -> Decision:
    """May the user, as the vendor, end the grant for a breach of its terms?"""
    vendor = may_manage(user, grant.listing)
    if not vendor.allowed:
        return vendor
    if grant.terms.value.revocable_on is Revocable.NEVER:
        return deny("not_revocable", "These terms say that the license is never revoked.")
    if not Grant.objects.current().filter(pk=grant.pk).exists():
        return not_in_this_state("already_ended", "This license has ended already.")
    return ALLOW


def may_transfer(user: Person, grant: Grant, *, now: datetime) -> Decision:
    """May the user offer the grant to another licensee?"""
    if not Namespace.objects.writable_by(user).filter(pk=grant.licensee_id).exists():
        return deny("not_a_member", f"Only writers of {grant.licensee} pass its licenses on.")
    if not grant.terms.value.transferable:
        return deny("not_transferable", "These terms do not let a licensee pass the license on.")
    if grant.is_trial:
        return deny("not_transferable", "A trial is not passed on.")
    if not Grant.objects.active(now).filter(pk=grant.pk).exists():
        return not_in_this_state("already_ended", "This license has ended already.")
    return ALLOW


def may_take_over(user: Person, grant: Grant, recipient: Namespace) -> Decision:
    """May the user accept another's grant for the recipient? Whom the vendor approves is not the holder's to say."""
    for_recipient = may_accept_for(user, recipient)
    if not for_recipient.allowed:
        return for_recipient
    return is_welcome(grant.listing_id, grant.terms, Namespace.objects.filter(pk=recipient.pk))


def may_ask(request: AccessRequest | None, *, now: datetime) -> Decision:
    """May access be asked for again after this answer, the latest one?"""
    waits = request is not None and request.status == RequestStatus.REJECTED
    if request is None or not waits or request.ask_again_at is None or request.ask_again_at <= now:
        return ALLOW
    day = timezone.localtime(request.ask_again_at).strftime("%Y-%m-%d")
    return not_in_this_state("asked_recently", f"The vendor said no; you can ask again from {day} on.")
