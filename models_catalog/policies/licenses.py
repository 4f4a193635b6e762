"""What a licensee may do with a release, and a vendor on the strength of another's license."""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.models import AnonymousUser
from django.db.models import Exists

from marketplace.accounts.models import Namespace, User
from marketplace.accounts.models.people import NamespaceQuerySet
from marketplace.decisions import ALLOW, Decision, deny
from models_catalog import ancestry, declarations, selectors
from models_catalog.models import Grant, LicenseTerms, Release
from models_catalog.models.licensing import AccessRequest, RequestStatus
from models_catalog.models.lineage import Relation
from models_catalog.models.listings import ReleaseStatus
from models_catalog.plain_words import WORDS
from models_catalog.policies.law import decide, may_use_as_declared
from models_catalog.policies.releases import may_manage
from models_catalog.policies.seats import NEEDS_SEAT, may_sit
from models_catalog.terms import Answer, Approval, Right
from models_catalog.verdict import Effective, Node, judge_use

Person = User | AnonymousUser


def may_license(user: Person, release: Release, *, now: datetime, holder: Namespace | None = None) -> Decision:
    """May the user accept these terms now for the holder, by default for themselves?"""
    if not user.is_authenticated:
        return deny("sign_in", "Sign in to license this model.")
    holders = _holders(user, holder)
    if holder is not None and not (for_holder := may_accept_for(user, holder)).allowed:
        return for_holder
    if holders.filter(pk=release.listing.namespace_id).exists():
        return deny("own_model", "This model is yours: you need no license for it.")
    # A trial is no reason against buying what was tried.
    if Grant.objects.active(now).covering(release).filter(licensee__in=holders, is_trial=False).exists():
        return deny("already_licensed", "You hold this license already.")
    offered = is_offered(user, release, now=now)
    return offered if not offered.allowed else is_welcome(release.listing_id, release.terms, holders)


def is_offered(user: Person, release: Release, *, now: datetime) -> Decision:
    """Can anybody license the release now, for the first time or for another term?"""
    if release.is_quarantined:
        return _quarantined(release)
    if release.status == ReleaseStatus.YANKED:
        return deny("release_withdrawn", "The vendor has withdrawn this release, so it cannot be licensed any more.")
    if not release.is_live:
        return deny("not_published", "This release is not published.")
    return parents_hold(ancestry.bounds_of(release, user=user), now=now)


def parents_hold(bound: Effective, *, now: datetime) -> Decision:
    """Does every license still run under which the vendor made this?"""
    if bound.expires_at is None or bound.expires_at > now or bound.expires_with is None:
        return ALLOW
    name = bound.expires_with.name
    return deny("parent_license_ended", f"The vendor's own license of {name} has ended: ask them to renew it.")


def is_welcome(listing_id: int, terms: LicenseTerms, holders: NamespaceQuerySet) -> Decision:
    """Has the vendor approved one of the holders, where these terms ask for that or where one of them broke an
    earlier license of the listing? An approval is of one licensee and of these terms, and none outlasts a breach."""
    approved = AccessRequest.objects.filter(
        requester__in=holders, listing=listing_id, terms=terms, status=RequestStatus.APPROVED
    )
    broken = Grant.objects.filter(licensee__in=holders, listing=listing_id, is_broken=True)
    last = broken.order_by("-revoked_at").values_list("revoked_at", flat=True).first()
    if last is not None and not approved.filter(decided_at__gt=last).exists():
        why = "The vendor ended a license of this model for a breach. Request access and say what has changed."
        return deny("approval_needed", why)
    if terms.value.approval is Approval.MANUAL and not approved.exists():
        return deny("approval_needed", "The vendor approves each licensee. Request access and say what for.")
    return ALLOW


def may_accept_for(user: Person, licensee: Namespace) -> Decision:
    if Namespace.objects.writable_by(user).filter(pk=licensee.pk).exists():
        return ALLOW
    return deny("not_a_member", f"Only writers of {licensee} accept terms for it.")


def _holders(user: Person, holder: Namespace | None) -> NamespaceQuerySet:
    return Namespace.objects.own(user) if holder is None else Namespace.objects.filter(pk=holder.pk)


def may_download(user: Person, release: Release, *, now: datetime) -> Decision:
    """May the user have the files? Members use what their organisation owns or holds; withdrawn releases still
    serve those who licensed them: purchased means kept. What is quarantined is served to nobody."""
    if release.is_quarantined:
        return _quarantined(release)
    if release.is_remote:
        return _NOT_HERE
    members = Namespace.objects.of(user)
    in_catalog = release.status in (ReleaseStatus.PUBLISHED, ReleaseStatus.YANKED)
    if not in_catalog and not members.filter(pk=release.listing.namespace_id).exists():
        return deny("not_published", "This release is not published.")
    return _is_licensed(user, release, Right.USE, holders=members, now=now)


def _quarantined(release: Release) -> Decision:
    reason = release.quarantine_reason.rstrip(".")
    return deny("quarantined", f"This release is quarantined until the site's staff have looked into it: {reason}.")


_NOT_HERE = deny("not_on_server", "These weights are not on this server yet. Ask its operator to fetch them.")


def may_predict(user: Person, release: Release, *, now: datetime) -> Decision:
    if not release.manifest_sha256:  # served under its revision, which publication sets
        return deny("not_published", "This release is not published.")
    allowed = may_download(user, release, now=now)
    if allowed.allowed and not release.labels:
        return deny("no_classes", "This model names no classes, so it has nothing to answer: fine-tune it first.")
    return allowed


def may_fine_tune(user: Person, release: Release, *, now: datetime, holder: Namespace | None = None) -> Decision:
    """May the user fine-tune the release for the holder, by default for themselves? The result will be the
    holder's, so it is the holder who must own the model or hold the grant."""
    if release.is_quarantined:
        return _quarantined(release)
    if release.is_remote:
        return _NOT_HERE
    if release.status == ReleaseStatus.YANKED:
        reason = f" Reason: {release.yanked_reason}" if release.yanked_reason else ""
        return deny("release_withdrawn", f"The vendor has withdrawn this release; choose another version.{reason}")
    if not release.is_live:
        return deny("not_published", "Only a published release can be fine-tuned: its files no longer change.")
    return _may_work(user, release, Right.FINE_TUNE, now=now, holder=holder)


def can_be_tuned(release: Release) -> Decision:
    """Does the engine tune models of this task and framework?"""
    if release.listing.targets:
        return ALLOW
    kind = f"{release.listing.get_framework_display()} models for {release.listing.task.replace('-', ' ')}"
    return deny("not_tunable_yet", f"This site does not fine-tune {kind} yet. Choose another model.")


def may_fine_tune_for_some(user: Person, release: Release, *, now: datetime) -> Decision:
    """May the user fine-tune the release for themselves, or else for an organisation that they write for? Nobody
    is sent for a license of what cannot be tuned at all."""
    tunable = can_be_tuned(release)
    if not tunable.allowed:
        return tunable
    own = may_fine_tune(user, release, now=now)
    if own.allowed or own.code != "no_license":
        return own
    writes_for = Namespace.objects.writable_by(user)
    organization = selectors.organizations_covering(release, now=now).filter(pk__in=writes_for).first()
    if organization is None:
        return own
    decision = may_fine_tune(user, release, now=now, holder=organization)
    return _through(organization) if decision.allowed else decision


def may_declare_parent(user: Person, parent: Release, *, relation: str, now: datetime, holder: Namespace) -> Decision:
    """May the holder offer a release that was made from `parent`, or that is its very weights?"""
    if not parent.is_live:
        return deny("not_published", "Only a published release can be declared as a parent.")
    for right in _NEEDED.get(Relation(relation), (Right.FINE_TUNE, Right.SHARE_DERIVATIVES)):
        allowed = _may_work(user, parent, right, now=now, holder=holder, takes_seat=False)
        if not allowed.allowed:
            return allowed
    return ALLOW


# What was done elsewhere needs the same rights as what this site does: of a fine-tune, adapter or merge both of them.
_NEEDED = {
    Relation.COPY: (Right.REDISTRIBUTE,),
    Relation.QUANTIZED: (Right.SHARE_DERIVATIVES,),
    Relation.DISTILLED: (Right.TRAIN_OTHER_MODELS, Right.SHARE_DERIVATIVES),
}


def may_share_derivative(user: Person, release: Release, *, now: datetime, holder: Namespace | None = None) -> Decision:
    """May the user publish what the holder has fine-tuned from the release?"""
    if release.is_quarantined:
        return _quarantined(release)
    return _may_work(user, release, Right.SHARE_DERIVATIVES, now=now, holder=holder)


def may_use_derivative(user: Person, release: Release, *, now: datetime, holder: Namespace) -> Decision:
    """May the user use what the holder has fine-tuned from the release, and never published? It is used under the
    holder's license of the release."""
    if release.is_quarantined:
        return _quarantined(release)
    return _may_work(user, release, Right.USE, now=now, holder=holder)


def _may_work(
    user: Person,
    release: Release,
    right: Right,
    *,
    now: datetime,
    holder: Namespace | None,
    takes_seat: bool = True,
) -> Decision:
    if holder is not None and not Namespace.objects.of(user).filter(pk=holder.pk).exists():
        return deny("not_a_member", f"Only members of {holder} work with what it holds.")
    whom = f" for {holder}" if holder is not None and holder.organization_id else ""
    holders = _holders(user, holder)
    return _is_licensed(user, release, right, holders=holders, now=now, whom=whom, takes_seat=takes_seat)


# What reaches others for good; a trial is for finding out, and ends.
_PASSED_ON = frozenset({Right.REDISTRIBUTE, Right.SUBLICENSE, Right.SHARE_DERIVATIVES, Right.SELL_DERIVATIVES})


def _is_licensed(
    user: Person,
    release: Release,
    right: Right,
    *,
    holders: NamespaceQuerySet,
    now: datetime,
    whom: str = "",
    takes_seat: bool = True,
) -> Decision:
    """Does one of the holders own the listing, or hold a grant that covers the release, gives the right and has a
    seat for the user?"""
    if holders.filter(pk=release.listing.namespace_id).exists():
        return _owns(user, release, right, now=now, takes_seat=takes_seat)
    grants = Grant.objects.active(now).filter(listing=release.listing_id, licensee__in=holders)
    covering = list(grants.covering(release).select_related("terms", "licensee"))
    declared = [_as_declared(release, grant) for grant in covering]
    if declared and not any(decision.allowed for decision in declared):
        return declared[0]
    covering = [grant for grant, decision in zip(covering, declared, strict=True) if decision.allowed]
    answers = {grant.terms.value.answer(right) for grant in covering}
    name, words = release.terms.name, WORDS[right].lower()
    if Answer.ALLOW in answers and right in _PASSED_ON and all(grant.is_trial for grant in covering):
        return deny("trial_only", f"A trial does not reach this: {words}. Order the license first.")
    if Answer.ALLOW in answers:
        lets = _lets_its_licensees(release, right, user=user, holders=holders, now=now)
        if lets.allowed and takes_seat and right in NEEDS_SEAT and user.is_authenticated:
            seat = may_sit(user, covering, now=now)
            return lets if seat.allowed else seat
        return lets
    if Answer.ASK in answers:
        return deny("needs_approval", f"“{name}” asks for the vendor's consent: {words}.")
    if answers:
        return deny("use_not_granted", f"“{name}” of {release.listing} does not allow: {words}.")
    if grants.exists():
        return deny("no_license", f"Your license is of other terms: version {release.version} needs its own.")
    return deny("no_license", f"License {release.listing}{whom} first.")


def _owns(user: Person, release: Release, right: Right, *, now: datetime, takes_seat: bool) -> Decision:
    """What is one's own needs no license, but where it is the very weights of somebody else's model: to work with those
    is to use that model, whatever they are called here."""
    owner = Namespace.objects.filter(pk=release.listing.namespace_id)
    for copied in selectors.copied_from(release):
        decision = _is_licensed(user, copied, right, holders=owner, now=now, takes_seat=takes_seat)
        if not decision.allowed:
            return decision
    return ALLOW


def _as_declared(release: Release, grant: Grant) -> Decision:
    """Asks again what was asked at acceptance: a licensee may have stated other facts since. A grant from before
    anything was asked has nothing to be judged by."""
    return may_use_as_declared(str(release.listing), grant.terms.value, declarations.from_json(grant.declaration))


def _lets_its_licensees(
    release: Release, right: Right, *, user: Person, holders: NamespaceQuerySet, now: datetime
) -> Decision:
    """Do all that the release was made of let its licensees do this? A licensee needs a license of some of them
    too: of what an adapter adapts, and of what says so itself."""
    bound = ancestry.bounds_of(release, user=user)
    decision = decide(judge_use(Node(ancestry.CHILD, str(release), release.terms.value), bound, right))
    if not decision.allowed:
        return decision
    names = _missing_parents(bound, holders, now=now)
    if not names:
        return ALLOW
    return deny("parent_license_needed", f"Whoever uses {release} needs a license of {', '.join(names)} too.")


def licenses_needed_too(user: Person, release: Release, *, now: datetime, holder: Namespace | None = None) -> list[str]:
    """Returns of which parents a licensee of the release needs a license as well, and the holder, by default the user,
    has none: to be known before anything is paid."""
    return _missing_parents(ancestry.bounds_of(release, user=user), _holders(user, holder), now=now)


def _missing_parents(bound: Effective, holders: NamespaceQuerySet, *, now: datetime) -> list[str]:
    needed = {number: node for node in bound.own_grants if (number := ancestry.release_of(node))}
    if not needed:
        return []
    held = Grant.objects.active(now).covering().filter(licensee__in=holders)
    missing = Release.objects.filter(pk__in=needed).exclude(listing__namespace__in=holders).exclude(Exists(held))
    return [needed[pk].name for pk in missing.values_list("pk", flat=True)]


def _through(organization: Namespace) -> Decision:
    why = f"{organization} may use it, and you as its member: what you make of it is {organization}'s."
    return Decision(allowed=True, code="held_by_organization", why=why)


def actions(user: Person, release: Release, *, now: datetime) -> dict[str, Decision]:
    """Every button of the model page, for HTML and JSON alike; an allowed one may have a `why` that says whose
    license it stands on (`held_by_organization`)."""
    license_ = may_license(user, release, now=now)
    organization = selectors.organizations_covering(release, now=now).of(user).first() if license_.allowed else None
    return {
        "license": _through(organization) if organization else license_,
        "download": may_download(user, release, now=now),
        "fine_tune": may_fine_tune_for_some(user, release, now=now),
        "predict": may_predict(user, release, now=now),
        "manage": may_manage(user, release.listing),
    }
