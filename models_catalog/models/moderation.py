"""Reports of what should not be here, what the staff decided, and the owner's appeal."""

from __future__ import annotations

import uuid
from functools import reduce
from operator import or_
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import Q

from marketplace.accounts.models import Namespace, User
from models_catalog.models.listings import Listing, Release
from models_catalog.models.reviews import Answer, Question, Review

Subject = Listing | Release | Review | Question | Answer
SUBJECTS = ("listing", "release", "review", "question", "answer")


def _exactly_one() -> Q:
    """Exactly one of the subject's columns is set."""
    return reduce(or_, (Q(**{f"{name}__isnull": name != one for name in SUBJECTS}) for one in SUBJECTS))


def kind_of(subject: Subject) -> str:
    """Returns which of SUBJECTS it is."""
    return type(subject).__name__.lower()


def subject_of(row: Report | Takedown) -> Subject:
    """Returns what a report or takedown is about."""
    found: Subject = next(filter(None, (getattr(row, name) for name in SUBJECTS)))
    return found


class ReportReason(models.TextChoices):
    MALWARE = "malware", "It is malicious, or does what it hides"
    COPYRIGHT = "copyright", "It infringes my rights, or somebody's I act for"
    LICENSE = "license", "It breaks the license of what it was made from"
    PERSONAL_DATA = "personal_data", "It holds or reveals personal data"
    ILLEGAL = "illegal", "It is against the law"
    MISLEADING = "misleading", "It is false or misleading"
    ABUSE = "abuse", "It insults, threatens or harasses"
    SPAM = "spam", "It is advertising or spam"
    OTHER = "other", "Something else"


class ReportStatus(models.TextChoices):
    OPEN = "open", "Open"
    DISMISSED = "dismissed", "Dismissed"
    UPHELD = "upheld", "Taken down"


class ReportQuerySet(models.QuerySet["Report"]):
    def visible_to(self, user: User | AnonymousUser) -> ReportQuerySet:
        """One's own, and for the staff all: a report is private."""
        if not user.is_authenticated:
            return self.none()
        return self if user.is_staff else self.filter(reporter=user)

    def decide(self, pk: int, **fields: Any) -> bool:
        """Compare-and-swap out of `open`: False where somebody else decided it."""
        return self.filter(pk=pk, status=ReportStatus.OPEN).update(**fields) == 1


class Report(models.Model):
    """Somebody says in private that a thing should not be here."""

    uid = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    reporter = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    listing = models.ForeignKey(Listing, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    release = models.ForeignKey(Release, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    review = models.ForeignKey(Review, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    question = models.ForeignKey(Question, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    answer = models.ForeignKey(Answer, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    reason = models.CharField(max_length=20, choices=ReportReason.choices)
    text = models.TextField(max_length=4000)
    status = models.CharField(max_length=10, choices=ReportStatus.choices, default=ReportStatus.OPEN)
    created_at = models.DateTimeField()
    decided_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField(null=True, blank=True)
    decision = models.CharField(max_length=500, blank=True)
    takedown = models.ForeignKey("Takedown", null=True, blank=True, on_delete=models.PROTECT, related_name="reports")

    objects = ReportQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=_exactly_one(), name="models_catalog_report_one_subject"),
            models.CheckConstraint(
                condition=Q(status="open", decided_at__isnull=True)
                | Q(status="dismissed", decided_at__isnull=False, takedown__isnull=True)
                | Q(status="upheld", decided_at__isnull=False, takedown__isnull=False),
                name="models_catalog_report_status",
            ),
            *(
                models.UniqueConstraint(
                    fields=["reporter", name], condition=Q(status="open"), name=f"models_catalog_report_{name}_once"
                )
                for name in SUBJECTS
            ),
        ]
        indexes = [models.Index(fields=["status", "-id"], name="models_catalog_report_queue")]

    def __str__(self) -> str:
        return f"Report {str(self.uid)[:8]}"


class TakedownStatus(models.TextChoices):
    IN_FORCE = "in_force", "In force"
    APPEALED = "appealed", "Appealed"
    CONFIRMED = "confirmed", "Confirmed on appeal"
    LIFTED = "lifted", "Lifted"


# status -> where it may come from; transition() below is the only writer of `status`. One appeal: what was
# confirmed can only be lifted by the staff.
TAKEDOWN_SOURCES: dict[str, tuple[str, ...]] = {
    TakedownStatus.IN_FORCE: (),
    TakedownStatus.APPEALED: (TakedownStatus.IN_FORCE,),
    TakedownStatus.CONFIRMED: (TakedownStatus.APPEALED,),
    TakedownStatus.LIFTED: (TakedownStatus.IN_FORCE, TakedownStatus.APPEALED, TakedownStatus.CONFIRMED),
}


class TakedownQuerySet(models.QuerySet["Takedown"]):
    def visible_to(self, user: User | AnonymousUser) -> TakedownQuerySet:
        """Those of one's own things, and for the staff all."""
        if not user.is_authenticated:
            return self.none()
        return self if user.is_staff else self.filter(owner__in=Namespace.objects.of(user))

    def in_force(self) -> TakedownQuerySet:
        """Those that were not lifted."""
        return self.exclude(status=TakedownStatus.LIFTED)

    def transition(self, pk: int, *, to: str, **fields: Any) -> bool:
        """Compare-and-swap of the status: False where the row was not in a state that leads to `to`."""
        return self.filter(pk=pk, status__in=TAKEDOWN_SOURCES[to]).update(status=to, **fields) == 1


class Takedown(models.Model):
    """A thing that the staff took down, why and on what legal basis; and its owner's one appeal."""

    uid = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(Namespace, on_delete=models.PROTECT, related_name="takedowns")
    listing = models.ForeignKey(Listing, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    release = models.ForeignKey(Release, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    review = models.ForeignKey(Review, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    question = models.ForeignKey(Question, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    answer = models.ForeignKey(Answer, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    status = models.CharField(max_length=10, choices=TakedownStatus.choices, default=TakedownStatus.IN_FORCE)
    # Releases that this quarantined: those that were quarantined before stay so when it is lifted.
    quarantined = models.ManyToManyField(Release, blank=True, related_name="+")
    reason = models.CharField(max_length=300)
    legal_basis = models.CharField(max_length=300)
    taken_down_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    taken_down_at = models.DateTimeField()
    appeal = models.TextField(max_length=4000, blank=True)
    appealed_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    appealed_at = models.DateTimeField(null=True, blank=True)
    decision = models.CharField(max_length=500, blank=True)
    decided_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField(null=True, blank=True)

    objects = TakedownQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=_exactly_one(), name="models_catalog_takedown_one_subject"),
            models.CheckConstraint(
                condition=~Q(reason="") & ~Q(legal_basis=""), name="models_catalog_takedown_has_reason"
            ),
            models.CheckConstraint(
                condition=Q(status="in_force", appealed_at__isnull=True, decided_at__isnull=True)
                | Q(status="appealed", appealed_at__isnull=False, decided_at__isnull=True)
                | Q(status="confirmed", appealed_at__isnull=False, decided_at__isnull=False)
                | Q(status="lifted", decided_at__isnull=False),
                name="models_catalog_takedown_status",
            ),
            models.CheckConstraint(
                condition=Q(appealed_at__isnull=True, appeal="") | (Q(appealed_at__isnull=False) & ~Q(appeal="")),
                name="models_catalog_takedown_appeal",
            ),
            *(
                models.UniqueConstraint(
                    fields=[name], condition=~Q(status="lifted"), name=f"models_catalog_takedown_{name}_once"
                )
                for name in SUBJECTS
            ),
        ]

    def __str__(self) -> str:
        return f"Takedown {str(self.uid)[:8]}"
