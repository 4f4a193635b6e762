"""Reports, takedowns and appeals. Taking down a release or a listing is its quarantine; a review, a question or an
answer is hidden. Every step is on record, and those whom it concerns are told why."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet
from django.urls import reverse

from marketplace.accounts.models import Namespace, User
from marketplace.accounts.services import audit, people
from marketplace.accounts.services.notifications import notify
from marketplace.decisions import require
from marketplace.errors import Conflict, Invalid
from marketplace.webhooks.events import EventType
from models_catalog import policies
from models_catalog.models import Answer, Listing, Question, Release, Report, Review, Takedown
from models_catalog.models.listings import ReleaseStatus
from models_catalog.models.moderation import ReportReason, ReportStatus, Subject, TakedownStatus, kind_of, subject_of
from models_catalog.services import quarantine, reviews, webhooks
from models_catalog.services.limits import require_pace

MAX_REPORT, MAX_DECISION, MAX_REASON = 4000, 500, 300  # characters


def owner_of(subject: Subject) -> Namespace:
    """Returns whose it is: who is told of a takedown and may appeal."""
    if isinstance(subject, Listing):
        return subject.namespace
    if isinstance(subject, Release):
        return subject.listing.namespace
    if isinstance(subject, Review):
        return subject.author
    return people.namespace_of(subject.asked_by if isinstance(subject, Question) else subject.written_by)


def report(*, user: User, subject: Subject, reason: str, text: str, now: datetime) -> Report:
    """Reports something to the staff, in private; reporting again while that is open returns the same report.

    Raises Denied (`sign_in`), Invalid (`bad_reason`, `empty_text`, `text_too_long`), TooMany (`too_many_posts`)."""
    require(policies.may_post(user))
    if reason not in ReportReason.values:
        raise Invalid("bad_reason", f"reason is one of {', '.join(ReportReason.values)}.", field="reason")
    words = reviews.required_text(text, most=MAX_REPORT)
    about: dict[str, Any] = {kind_of(subject): subject}
    with transaction.atomic():
        require_pace(Report.objects.filter(reporter=user), user=user, now=now)
        row, created = Report.objects.get_or_create(
            reporter=user,
            status=ReportStatus.OPEN,
            **about,
            defaults={"reason": reason, "text": words, "created_at": now},
        )
        if created:
            audit.record("report.create", actor=user, namespace=None, subject=row, details={"reason": reason})
            notify(
                kind="report.create",
                recipients=User.objects.filter(is_staff=True, is_active=True),
                title=f"A report about {subject}",
                url=reverse("report", args=[row.uid]),
                actor=user,
            )
    return row


def dismiss(*, actor: User, report: Report, decision: str, now: datetime) -> None:
    """Closes a report without an act. Raises Denied (`staff_only`), Invalid (`reason_missing`), Conflict
    (`already_decided`)."""
    require(policies.may_moderate(actor))
    words = _decision(decision, field="decision", most=MAX_DECISION)
    with transaction.atomic():
        fields = {"status": ReportStatus.DISMISSED, "decided_by": actor, "decided_at": now, "decision": words}
        if not Report.objects.decide(report.pk, **fields):
            raise Conflict("already_decided", "This report was decided already.")
        audit.record("report.dismiss", actor=actor, namespace=None, subject=report, details={"decision": words})
        _tell_reporter(report, f"Your report about {subject_of(report)} was dismissed", words, actor)


def take_down(*, actor: User, subject: Subject, reason: str, legal_basis: str, now: datetime) -> Takedown:
    """Takes the subject down and upholds every open report about it; its owner is told why and may appeal.

    Raises Denied (`staff_only`), Invalid (`reason_missing`), Conflict (`already_taken_down`, `not_published`).
    Locks the listing."""
    require(policies.may_moderate(actor))
    why = _decision(reason, field="reason", most=MAX_REASON)
    basis = _decision(legal_basis, field="legal_basis", most=MAX_REASON)
    owner, about = owner_of(subject), {kind_of(subject): subject}
    with transaction.atomic():
        _lock(subject)
        if Takedown.objects.in_force().filter(**about).exists():
            raise Conflict("already_taken_down", "This was taken down already.")
        row = Takedown.objects.create(
            owner=owner, reason=why, legal_basis=basis, taken_down_by=actor, taken_down_at=now, **about
        )
        row.quarantined.set(_put_away(actor, subject, why, now))
        upheld = list(Report.objects.filter(status=ReportStatus.OPEN, **about))
        for report in upheld:
            fields = {"status": ReportStatus.UPHELD, "decided_by": actor, "decided_at": now, "decision": why}
            Report.objects.decide(report.pk, takedown=row, **fields)
            _tell_reporter(report, f"{subject} was taken down after your report", why, actor)
        details = {"reason": why, "legal_basis": basis, "reports": [str(report.uid) for report in upheld]}
        audit.record("takedown.begin", actor=actor, namespace=owner, subject=subject, details=details)
        _tell_owner(row, f"{subject} was taken down", f"{why} Legal basis: {basis}", actor)
        webhooks.of_takedown(EventType.TAKEDOWN_BEGUN, row, status=row.status, now=now)
    return row


def appeal(*, user: User, takedown: Takedown, text: str, now: datetime) -> None:
    """Appeals, once. Raises Denied (`not_the_owner`), Invalid (`empty_text`), Conflict (`already_appealed`)."""
    require(policies.may_appeal(user, takedown))
    words = reviews.required_text(text, most=MAX_REPORT)
    with transaction.atomic():
        fields = {"appeal": words, "appealed_by": user, "appealed_at": now}
        if not Takedown.objects.transition(takedown.pk, to=TakedownStatus.APPEALED, **fields):
            raise Conflict("already_appealed", "This takedown was appealed against or lifted meanwhile.")
        audit.record("takedown.appeal", actor=user, namespace=takedown.owner, subject=subject_of(takedown))
        notify(
            kind="takedown.appeal",
            recipients=User.objects.filter(is_staff=True, is_active=True),
            title=f"{takedown.owner} appeals against the takedown of {subject_of(takedown)}",
            url=reverse("takedown", args=[takedown.uid]),
            actor=user,
        )


def confirm(*, actor: User, takedown: Takedown, decision: str, now: datetime) -> None:
    """Rejects the appeal, with a reason. Raises Denied (`staff_only`), Invalid (`reason_missing`), Conflict
    (`already_decided`)."""
    words = _settle(actor, takedown, TakedownStatus.CONFIRMED, decision, now)
    _tell_owner(takedown, f"Your appeal about {subject_of(takedown)} was rejected", words, actor)


@transaction.atomic
def lift(*, actor: User, takedown: Takedown, decision: str, now: datetime) -> None:
    """Lifts the takedown, on appeal or without one, and brings the subject back. Raises as `confirm`. Locks the
    listing."""
    words = _settle(actor, takedown, TakedownStatus.LIFTED, decision, now)
    _bring_back(actor, takedown, now)
    _tell_owner(takedown, f"{subject_of(takedown)} is back", words, actor)


@transaction.atomic
def _settle(actor: User, takedown: Takedown, to: TakedownStatus, decision: str, now: datetime) -> str:
    require(policies.may_moderate(actor))
    words = _decision(decision, field="decision", most=MAX_DECISION)
    fields = {"decision": words, "decided_by": actor, "decided_at": now}
    if not Takedown.objects.transition(takedown.pk, to=to, **fields):
        raise Conflict("already_decided", "There is no open appeal here, or the takedown was lifted already.")
    verb = "takedown.confirm" if to == TakedownStatus.CONFIRMED else "takedown.lift"
    details = {"decision": words}
    audit.record(verb, actor=actor, namespace=takedown.owner, subject=subject_of(takedown), details=details)
    webhooks.of_takedown(EventType.TAKEDOWN_DECIDED, takedown, status=to, now=now)
    return words


def _decision(text: str, *, field: str, most: int) -> str:
    words = text.strip()[:most]
    if not words:
        raise Invalid("reason_missing", "Say why: those whom it concerns read it.", field=field)
    return words


def _lock(subject: Subject) -> None:
    listing = subject if isinstance(subject, Listing) else None
    if isinstance(subject, Release | Review | Question):
        listing = subject.listing
    if isinstance(subject, Answer):
        listing = subject.question.listing
    assert listing is not None  # noqa: S101 - the five kinds above are all
    Listing.objects.select_for_update(of=("self",), no_key=True).get(pk=listing.pk)


def _put_away(actor: User, subject: Subject, why: str, now: datetime) -> list[Release]:
    """Hides the subject and returns the releases that were quarantined for it."""
    if isinstance(subject, Release):
        quarantine.quarantine(user=actor, release=subject, reason=why, now=now)
        return [subject]
    if isinstance(subject, Listing):
        served = subject.releases.filter(status__in=(ReleaseStatus.PUBLISHED, ReleaseStatus.YANKED))
        releases = list(served.select_related("listing__namespace"))
        for release in releases:
            quarantine.quarantine(user=actor, release=release, reason=why, now=now)
        return releases
    _row(subject).update(hidden_at=now, hidden_reason=why)
    if isinstance(subject, Review):
        reviews.count(subject.listing)
    return []


def _row(post: Subject) -> QuerySet[Any]:
    rows: QuerySet[Any] = type(post)._default_manager.filter(pk=post.pk)  # noqa: SLF001 - Django's public name for it
    return rows


def _bring_back(actor: User, takedown: Takedown, now: datetime) -> None:
    subject = subject_of(takedown)
    _lock(subject)
    if isinstance(subject, Listing | Release):
        for release in takedown.quarantined.select_related("listing__namespace"):
            if other := _other_holder(release, takedown):
                other.quarantined.add(release)
            elif release.is_quarantined:
                quarantine.lift(user=actor, release=release, now=now)
        return
    _row(subject).update(hidden_at=None, hidden_reason="")
    if isinstance(subject, Review):
        reviews.count(subject.listing)


def _other_holder(release: Release, takedown: Takedown) -> Takedown | None:
    """Returns another takedown, of the release or of its listing, that keeps it quarantined."""
    others = Takedown.objects.in_force().exclude(pk=takedown.pk)
    return others.filter(Q(release=release) | Q(listing=release.listing_id)).first()


def _tell_owner(takedown: Takedown, title: str, body: str, actor: User) -> None:
    url = reverse("takedown", args=[takedown.uid])
    notify(kind="takedown.decide", recipients=[takedown.owner], title=title, body=body, url=url, actor=actor)


def _tell_reporter(report: Report, title: str, body: str, actor: User) -> None:
    url = reverse("report", args=[report.uid])
    notify(kind="report.decide", recipients=[report.reporter], title=title, body=body, url=url, actor=actor)
