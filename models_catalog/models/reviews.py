"""What licensees say of a listing, what people ask about it, and the measurements that reviews cite."""

from __future__ import annotations

import uuid

from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import Exists, OuterRef, Q

from marketplace.accounts.models import Namespace, User
from models_catalog.models.licensing import Grant
from models_catalog.models.listings import Listing, Release

LOWEST, HIGHEST = 1, 5
_HIDDEN_WITH_REASON = Q(hidden_at__isnull=True, hidden_reason="") | (Q(hidden_at__isnull=False) & ~Q(hidden_reason=""))


class CitedEvaluationQuerySet(models.QuerySet["CitedEvaluation"]):
    def visible_to(self, user: User | AnonymousUser) -> CitedEvaluationQuerySet:
        """What a review that is there cites, for everybody; and one's own."""
        if user.is_authenticated and user.is_staff:
            return self
        cited = Exists(Review.objects.filter(evaluation=OuterRef("pk"), hidden_at__isnull=True))
        return self.filter(cited | Q(owner__in=Namespace.objects.of(user)))


class CitedEvaluation(models.Model):
    """The public parts of the evaluation of somebody's run, frozen when it is first cited: no name of the data, no
    class, no example. `run_uid` is the run's, which only its owner opens."""

    uid = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    run_uid = models.UUIDField(unique=True)
    release = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="+")
    owner = models.ForeignKey(Namespace, on_delete=models.PROTECT, related_name="+")
    task = models.CharField(max_length=30)
    strategy = models.CharField(max_length=40)
    metric = models.CharField(max_length=40)
    value = models.FloatField()  # as low, high and baseline: a share, 0 to 1
    low = models.FloatField()
    high = models.FloatField()
    baseline = models.FloatField(null=True, blank=True)
    items = models.PositiveIntegerField()
    dataset_sha256 = models.CharField(max_length=64)
    receipt_sha256 = models.CharField(max_length=64, blank=True)
    measured_at = models.DateTimeField()
    cited_at = models.DateTimeField(auto_now_add=True)

    objects = CitedEvaluationQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(value__gte=0, value__lte=1), name="models_catalog_citedevaluation_share"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.metric} {100 * self.value:.1f}% on {self.items} test items"


class ReviewQuerySet(models.QuerySet["Review"]):
    def shown(self) -> ReviewQuerySet:
        return self.filter(hidden_at__isnull=True)


class Review(models.Model):
    """What a namespace that holds or held a license says of a listing. Its vendor may answer and no more."""

    listing = models.ForeignKey(Listing, on_delete=models.PROTECT, related_name="reviews")
    author = models.ForeignKey(Namespace, on_delete=models.PROTECT, related_name="reviews")
    grant = models.ForeignKey(Grant, on_delete=models.PROTECT, related_name="+")
    written_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    rating = models.PositiveSmallIntegerField()
    text = models.TextField(max_length=4000)
    evaluation = models.ForeignKey(
        CitedEvaluation, null=True, blank=True, on_delete=models.PROTECT, related_name="reviews"
    )
    created_at = models.DateTimeField()
    edited_at = models.DateTimeField(null=True, blank=True)
    answer = models.TextField(max_length=4000, blank=True)
    answered_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    answered_at = models.DateTimeField(null=True, blank=True)
    hidden_at = models.DateTimeField(null=True, blank=True)
    hidden_reason = models.CharField(max_length=500, blank=True)

    objects = ReviewQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["listing", "author"], name="models_catalog_review_once"),
            models.CheckConstraint(
                condition=Q(rating__gte=LOWEST, rating__lte=HIGHEST), name="models_catalog_review_rating"
            ),
            models.CheckConstraint(condition=_HIDDEN_WITH_REASON, name="models_catalog_review_hidden_reason"),
            models.CheckConstraint(
                condition=Q(answer="", answered_at__isnull=True) | (~Q(answer="") & Q(answered_at__isnull=False)),
                name="models_catalog_review_answered_at",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.author} on {self.listing}"

    @property
    def is_edited_since_answer(self) -> bool:
        return self.answered_at is not None and self.edited_at is not None and self.edited_at > self.answered_at


class ReviewVersion(models.Model):
    """What a review said before it was edited."""

    review = models.ForeignKey(Review, on_delete=models.CASCADE, related_name="versions")
    rating = models.PositiveSmallIntegerField()
    text = models.TextField(max_length=4000)
    evaluation = models.ForeignKey(CitedEvaluation, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    written_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    written_at = models.DateTimeField()

    class Meta:
        ordering = ["-written_at"]

    def __str__(self) -> str:
        return f"{self.review} until {self.written_at:%Y-%m-%d}"


class QuestionQuerySet(models.QuerySet["Question"]):
    def shown(self) -> QuestionQuerySet:
        return self.filter(hidden_at__isnull=True)


class Question(models.Model):
    """What somebody asks in public about a listing."""

    listing = models.ForeignKey(Listing, on_delete=models.PROTECT, related_name="questions")
    asked_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    text = models.TextField(max_length=2000)
    created_at = models.DateTimeField()
    hidden_at = models.DateTimeField(null=True, blank=True)
    hidden_reason = models.CharField(max_length=500, blank=True)

    objects = QuestionQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=_HIDDEN_WITH_REASON, name="models_catalog_question_hidden_reason"),
        ]

    def __str__(self) -> str:
        return f"Question {self.pk} on {self.listing}"


class Answer(models.Model):
    """Anybody's answer to a question; `is_vendors` as it was when it was written."""

    question = models.ForeignKey(Question, on_delete=models.PROTECT, related_name="answers")
    written_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    is_vendors = models.BooleanField(default=False)
    text = models.TextField(max_length=2000)
    created_at = models.DateTimeField()
    hidden_at = models.DateTimeField(null=True, blank=True)
    hidden_reason = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["created_at"]
        constraints = [
            models.CheckConstraint(condition=_HIDDEN_WITH_REASON, name="models_catalog_answer_hidden_reason"),
        ]

    def __str__(self) -> str:
        return f"Answer {self.pk} to question {self.question_id}"
