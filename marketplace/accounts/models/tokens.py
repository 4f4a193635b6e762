"""API tokens. The secret is shown once; what is kept can find it, not rebuild it."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import Q
from django.utils.functional import cached_property

from marketplace.accounts.models import reach
from marketplace.accounts.models.people import User
from marketplace.accounts.models.reach import Reach


class Scope(models.TextChoices):
    MODELS_READ = "models:read", "Read the catalog as you see it"
    MODELS_WRITE = "models:write", "Publish and edit listings and releases"
    LICENSES_READ = "licenses:read", "Read your licenses and orders"
    LICENSES_WRITE = "licenses:write", "Accept terms and place orders"
    DATASETS_READ = "datasets:read", "Read your datasets"
    DATASETS_WRITE = "datasets:write", "Upload and delete datasets"
    RUNS_READ = "runs:read", "Read your runs"
    RUNS_WRITE = "runs:write", "Launch, cancel and publish runs"
    AUDIT_READ = "audit:read", "Read the audit log of what you administer"
    NOTIFICATIONS_READ = "notifications:read", "Read your notifications"
    NOTIFICATIONS_WRITE = "notifications:write", "Mark your notifications as read"
    WEBHOOKS_READ = "webhooks:read", "Read the webhooks of what you administer, and their logs"
    WEBHOOKS_WRITE = "webhooks:write", "Make and change webhooks, replace their secrets, send again"
    PAYOUTS_READ = "payouts:read", "Read statements and payouts"
    PAYOUTS_WRITE = "payouts:write", "Settle and refund orders of your models, ask for payouts"
    REVIEWS_READ = "reviews:read", "Read your reports and takedowns"
    REVIEWS_WRITE = "reviews:write", "Write reviews, questions, answers, reports and appeals"
    MODERATION_WRITE = "moderation:write", "Decide about reports, as the site's staff"
    PREDICT = "predict", "Predict with models that you may use"
    ORGANIZATIONS_READ = "organizations:read", "Read your organisations and their members"
    ORGANIZATIONS_WRITE = "organizations:write", "Create organisations, change their members, leave them"
    TOKENS_READ = "tokens:read", "Read the list of your tokens"
    TOKENS_WRITE = "tokens:write", "Issue tokens that may no more than this one, replace and revoke tokens"


class CapPeriod(models.TextChoices):
    """The time back from now in which what was spent counts."""

    DAY = "day", "in 24 hours"
    WEEK = "week", "in 7 days"
    MONTH = "month", "in 30 days"
    EVER = "ever", "in all"


CAP_DAYS = {CapPeriod.DAY: 1, CapPeriod.WEEK: 7, CapPeriod.MONTH: 30}


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def live(self, now: datetime) -> ApiTokenQuerySet:
        return self.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now), revoked_at__isnull=True)


class ApiToken(models.Model):
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=80)
    digest = models.CharField(max_length=64, unique=True)  # HMAC-SHA256, keyed by SECRET_KEY
    hint = models.CharField(max_length=12)  # last four characters, to recognise it by
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    # Replaced: the secret before this one goes on for a while.
    previous_digest = models.CharField(max_length=64, null=True, blank=True, unique=True)
    previous_ends_at = models.DateTimeField(null=True, blank=True)
    # The tokens that asked for it, or for a new secret of it: who holds one of these may hold this one.
    issued_by = models.ManyToManyField("self", symmetrical=False, blank=True, related_name="issued")
    resources = models.JSONField(default=list)  # as reach.read has them; none are all of its owner's
    # No cap where it is null.
    cap_minor = models.PositiveBigIntegerField(null=True, blank=True)
    cap_currency = models.CharField(max_length=3, blank=True)
    cap_period = models.CharField(max_length=5, choices=CapPeriod.choices, blank=True)

    objects = ApiTokenQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(cap_minor__isnull=True, cap_period="", cap_currency="")
                | Q(cap_minor__isnull=False, cap_period__in=CapPeriod.values) & ~Q(cap_currency=""),
                name="accounts_apitoken_cap_whole",
            ),
            models.CheckConstraint(
                condition=Q(previous_digest__isnull=True) | Q(previous_ends_at__isnull=False),
                name="accounts_apitoken_previous_ends",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} (…{self.hint})"

    @cached_property
    def reach(self) -> Reach | None:
        """What it is limited to; None where that is everything of its owner's."""
        return reach.read(self.resources) if self.resources else None

    def grants(self, scope: str) -> bool:
        """True where a scope of the token covers `scope`; write includes read."""
        resource, _, access = scope.partition(":")
        return scope in self.scopes or (access == "read" and f"{resource}:write" in self.scopes)


class EarlierSecret(models.Model):
    """A secret that a token had: it opens nothing, and whoever reports it as leaked ends the token."""

    token = models.ForeignKey(ApiToken, on_delete=models.CASCADE, related_name="earlier_secrets")
    digest = models.CharField(max_length=64, unique=True)

    def __str__(self) -> str:
        return f"of {self.token}"


class Spend(models.Model):
    """What was done with a token that costs money: as much as it may cost at most, until it is known."""

    token = models.ForeignKey(ApiToken, on_delete=models.CASCADE, related_name="spends")
    subject = models.CharField(max_length=60, unique=True)  # `order UUID` or `run UUID`
    amount_minor = models.PositiveBigIntegerField()
    currency = models.CharField(max_length=3)
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["token", "at"], name="accounts_spend_token_at")]

    def __str__(self) -> str:
        return self.subject
