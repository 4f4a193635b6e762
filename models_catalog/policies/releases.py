"""What a vendor may do with listings and releases."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser

from finetuning.engine.spec import CARD_FILE
from marketplace.accounts.models import Namespace, User
from marketplace.accounts.models.people import BILLS, WRITES
from marketplace.decisions import ALLOW, Decision, deny, not_in_this_state
from models_catalog.models import Listing, Release, Takedown
from models_catalog.models.listings import PUBLISHED_ONCE, ReleaseStatus

Person = User | AnonymousUser


def is_vendor(user: Person, listing: Listing) -> bool:
    return Namespace.objects.of(user, roles=WRITES).filter(pk=listing.namespace_id).exists()


def may_manage(user: Person, listing: Listing) -> Decision:
    if is_vendor(user, listing):
        return ALLOW
    return deny("not_the_vendor", f"Only writers of {listing.namespace.name} change this listing.")


def may_discard(user: Person, listing: Listing) -> Decision:
    """May the user delete the listing? What was published once stays, for those who have it."""
    vendor = may_manage(user, listing)
    if not vendor.allowed:
        return vendor
    if listing.releases.filter(status__in=PUBLISHED_ONCE).exists():
        why = "Versions of this model were published, and those who licensed them keep them. Withdraw the versions instead."
        return not_in_this_state("listing_kept", why)
    if listing.releases.filter(status=ReleaseStatus.VERIFYING).exists():
        return not_in_this_state("listing_kept", "A version of this model is being verified. Wait for that first.")
    return ALLOW


def may_edit_release(user: Person, release: Release, *, path: str = "") -> Decision:
    """May the user change the release's files, or the one at `path`?"""
    if not release.is_editable:
        return deny("release_frozen", "A release that was submitted does not change. Create a new version.")
    if release.is_measured and path != CARD_FILE:
        return deny("derivative_frozen", "These files are what this site made and measured: only the card changes.")
    return may_manage(user, release.listing)


def may_state_figures(listing: Listing) -> Decision:
    """May a vendor state the listing's accuracy? Not of a derivative: this site measures that itself."""
    release = listing.latest_release or listing.releases.order_by("-id").first()
    if release is not None and (release.is_measured or release.parent_edges.exists()):
        return deny("measured_here", "The figures of a derivative are those that this site has measured.")
    return ALLOW


def may_submit(user: Person, release: Release) -> Decision:
    if not release.is_editable:
        return deny("release_frozen", "This release is being verified or was published already.")
    if release.is_measured and release.status == ReleaseStatus.REJECTED:
        return deny("derivative_frozen", "These files were refused and cannot change: publish the run's result again.")
    return may_manage(user, release.listing)


def may_publish(user: Person, release: Release) -> Decision:
    if release.status in PUBLISHED_ONCE:
        return deny("release_frozen", "This version was published already and does not change. Create a new version.")
    if release.status != ReleaseStatus.READY:
        return deny("not_verified", "Only a verified release can be published. Submit it for verification first.")
    if Takedown.objects.in_force().filter(listing=release.listing_id).exists():
        return not_in_this_state("taken_down", "This model was taken down. Appeal against that first.")
    return may_manage(user, release.listing)


def may_yank(user: Person, release: Release) -> Decision:
    if release.status != ReleaseStatus.PUBLISHED:
        return deny("not_published", "Only a published release can be withdrawn.")
    return may_manage(user, release.listing)


def may_quarantine(user: Person, release: Release) -> Decision:
    if not (user.is_authenticated and user.is_staff):
        return deny("staff_only", "Only the site's staff quarantine a release. Report it to them.")
    if release.status not in (ReleaseStatus.PUBLISHED, ReleaseStatus.YANKED):
        return deny("not_published", "Only what is or was in the catalog can be quarantined.")
    return ALLOW


def may_lift(user: Person, release: Release) -> Decision:
    if not (user.is_authenticated and user.is_staff):
        return deny("staff_only", "Only the site's staff lift a quarantine.")
    return ALLOW if release.is_quarantined else deny("not_quarantined", "This release is not quarantined.")


def has_obligations(release: Release) -> Decision:
    """Are there documents that go along with the release? Its files must not change any more."""
    if release.status in PUBLISHED_ONCE:
        return ALLOW
    return deny("not_published", "A draft's files still change: its obligations are written once it is published.")


def may_fetch(user: Person, release: Release) -> Decision:
    """May the user have this server fetch the weights that it only lists?"""
    if not (user.is_authenticated and user.is_staff):
        return deny("not_staff", "Only the site's staff fetch weights.")
    if not release.is_remote:
        return deny("on_server", "These weights are on this server already.")
    return ALLOW if release.is_live else deny("not_published", "This release is not published.")


def may_bill(user: Person, listing: Listing) -> Decision:
    """May the user mark orders of this listing as paid?"""
    if user.is_authenticated and user.is_staff:
        return ALLOW
    if Namespace.objects.of(user, roles=BILLS).filter(pk=listing.namespace_id).exists():
        return ALLOW
    return deny("not_billing", "Only the vendor's billing role or the site's staff settle and refund orders.")
