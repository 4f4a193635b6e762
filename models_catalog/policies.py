"""What may be done with listings and releases: a Decision each, asked by pages, API and services alike."""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.models import AnonymousUser

from marketplace.accounts.models import Namespace, User
from marketplace.accounts.models.people import BILLS, WRITES
from marketplace.decisions import ALLOW, Decision, all_of, deny
from models_catalog import selectors
from models_catalog.derivation import PRICE, widenings
from models_catalog.models import Listing, Release
from models_catalog.models.licensing import AccessRequest, RequestStatus
from models_catalog.models.listings import ReleaseStatus
from models_catalog.terms import WORDS, Answer, Approval, Right, Terms

Person = User | AnonymousUser


def is_vendor(user: Person, listing: Listing) -> bool:
    return Namespace.objects.of(user, roles=WRITES).filter(pk=listing.namespace_id).exists()


def may_manage(user: Person, listing: Listing) -> Decision:
    if is_vendor(user, listing):
        return ALLOW
    return deny("not_the_vendor", f"Only writers of {listing.namespace.name} change this listing.")


def may_edit_release(user: Person, release: Release) -> Decision:
    if not release.is_editable:
        return deny("release_frozen", "A release that was submitted does not change. Create a new version.")
    return may_manage(user, release.listing)


def may_publish(user: Person, release: Release) -> Decision:
    if release.status != ReleaseStatus.READY:
        return deny("not_verified", "Only a verified release can be published. Submit it for verification first.")
    return may_manage(user, release.listing)


def may_yank(user: Person, release: Release) -> Decision:
    if release.status != ReleaseStatus.PUBLISHED:
        return deny("not_published", "Only a published release can be withdrawn.")
    return may_manage(user, release.listing)


def may_license(user: Person, release: Release, *, now: datetime) -> Decision:
    """May the user accept these terms now?"""
    if not user.is_authenticated:
        return deny("sign_in", "Sign in to license this model.")
    if not release.is_live:
        return deny("release_withdrawn", "The vendor has withdrawn this release, so it cannot be licensed any more.")
    if is_vendor(user, release.listing):
        return deny("own_model", "This model is yours: you need no license for it.")
    grant = selectors.active_grant(user, release.listing, now)
    if grant is not None and grant.terms_id == release.terms_id:
        return deny("already_licensed", "You hold this license already.")
    if release.terms.value.approval is Approval.MANUAL and not _approved(user, release):
        return deny("approval_needed", "The vendor approves each licensee. Request access and say what for.")
    return ALLOW


def _approved(user: Person, release: Release) -> bool:
    return AccessRequest.objects.filter(
        requester__in=Namespace.objects.of(user),
        listing=release.listing,
        terms=release.terms_id,
        status=RequestStatus.APPROVED,
    ).exists()


def _holds(user: Person, release: Release, right: Right, *, now: datetime) -> Decision:
    """Does the user hold a grant of the listing, or own it, whose terms give the right?"""
    if is_vendor(user, release.listing):
        return ALLOW
    grant = selectors.active_grant(user, release.listing, now)
    if grant is None:
        return deny("no_license", f"License {release.listing} first.")
    answer = grant.terms.value.answer(right)
    if answer is Answer.ALLOW:
        return ALLOW
    if answer is Answer.ASK:
        return deny("needs_approval", f"“{grant.terms.name}” asks for the vendor's consent: {WORDS[right].lower()}.")
    return deny("use_not_granted", f"“{grant.terms.name}” of {release.listing} does not allow: {WORDS[right].lower()}.")


def is_served(user: Person, release: Release) -> Decision:
    """Withdrawn releases still serve those who licensed them: purchased means kept."""
    if release.status in (ReleaseStatus.PUBLISHED, ReleaseStatus.YANKED) or is_vendor(user, release.listing):
        return ALLOW
    return deny("not_published", "This release is not published.")


def may_download(user: Person, release: Release, *, now: datetime) -> Decision:
    if release.is_remote:
        return deny("not_on_server", "These weights are not on this server yet. Ask its operator to fetch them.")
    return all_of(lambda: is_served(user, release), lambda: _holds(user, release, Right.USE, now=now))


def may_predict(user: Person, release: Release, *, now: datetime) -> Decision:
    return may_download(user, release, now=now)


def may_fine_tune(user: Person, release: Release, *, now: datetime) -> Decision:
    if release.is_remote:
        return deny("not_on_server", "These weights are not on this server yet. Ask its operator to fetch them.")
    if release.status == ReleaseStatus.YANKED:
        reason = f" Reason: {release.yanked_reason}" if release.yanked_reason else ""
        return deny("release_withdrawn", f"The vendor has withdrawn this release; choose another version.{reason}")
    return all_of(lambda: is_served(user, release), lambda: _holds(user, release, Right.FINE_TUNE, now=now))


def may_share_derivative(user: Person, release: Release, *, now: datetime) -> Decision:
    """May the user publish what was fine-tuned from the release?"""
    return _holds(user, release, Right.SHARE_DERIVATIVES, now=now)


def may_carry(child: Terms, parent: Terms) -> Decision:
    """May a derivative of `parent` be offered under `child`?"""
    clauses = widenings(child, parent)
    if not clauses:
        return ALLOW
    code = "price_not_allowed" if clauses == [PRICE] else "terms_too_wide"
    return deny(code, f"The parent's “{parent.name}” does not let a derivative: {'; '.join(clauses)}.")


def may_bill(user: Person, listing: Listing) -> Decision:
    """May the user mark orders of this listing as paid?"""
    if user.is_authenticated and user.is_staff:
        return ALLOW
    if Namespace.objects.of(user, roles=BILLS).filter(pk=listing.namespace_id).exists():
        return ALLOW
    return deny("not_billing", "Only the vendor's billing role or the site's staff settle orders.")


def actions(user: Person, release: Release, *, now: datetime) -> dict[str, Decision]:
    """Every button of the model page, for HTML and JSON alike."""
    return {
        "license": may_license(user, release, now=now),
        "download": may_download(user, release, now=now),
        "fine_tune": may_fine_tune(user, release, now=now),
        "predict": may_predict(user, release, now=now),
        "manage": may_manage(user, release.listing),
    }
