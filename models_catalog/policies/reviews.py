"""Who may review, ask, answer, report, and decide about reports."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser

from marketplace.accounts.models import Namespace, User
from marketplace.decisions import ALLOW, Decision, deny, not_in_this_state
from models_catalog.models import Grant, Listing, Review, Takedown
from models_catalog.models.moderation import TAKEDOWN_SOURCES, TakedownStatus

Person = User | AnonymousUser


def may_review(user: Person, listing: Listing, *, author: Namespace) -> Decision:
    """May the user review the listing in the author's name? Only who holds or held a license of it, and never
    its vendor's own people, under whatever name."""
    if not user.is_authenticated:
        return deny("sign_in", "Sign in to review this model.")
    if not Namespace.objects.writable_by(user).filter(pk=author.pk).exists():
        return deny("not_a_member", f"Only writers of {author} review in its name.")
    if Namespace.objects.of(user).filter(pk=listing.namespace_id).exists():
        return deny("own_model", "This model is yours or your organization's: others review it.")
    if not Grant.objects.filter(listing=listing, licensee=author).exists():
        return deny("no_license", f"Only who holds or held a license of {listing} reviews it.")
    taken_down = Review.objects.filter(listing=listing, author=author, hidden_at__isnull=False)
    if taken_down.exists():
        return not_in_this_state("taken_down", "Your review was taken down. Appeal against that; it cannot be edited.")
    return ALLOW


def may_post(user: Person) -> Decision:
    return ALLOW if user.is_authenticated else deny("sign_in", "Sign in to write here.")


def may_moderate(user: Person) -> Decision:
    if user.is_authenticated and user.is_staff:
        return ALLOW
    return deny("staff_only", "Only the site's staff decide about reports.")


def may_appeal(user: Person, takedown: Takedown) -> Decision:
    """May the user appeal? Once, in the owner's name."""
    if not Namespace.objects.writable_by(user).filter(pk=takedown.owner_id).exists():
        return deny("not_the_owner", f"Only writers of {takedown.owner} appeal against this.")
    if takedown.status not in TAKEDOWN_SOURCES[TakedownStatus.APPEALED]:
        return not_in_this_state("already_appealed", "One appeal is possible, and only while the takedown is in force.")
    return ALLOW
