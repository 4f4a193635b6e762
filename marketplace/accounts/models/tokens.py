"""API tokens. The secret is shown once; what is kept can find it, not rebuild it."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import Q

from marketplace.accounts.models.people import User


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
    PAYOUTS_READ = "payouts:read", "Read statements and payouts"
    PAYOUTS_WRITE = "payouts:write", "Settle and refund orders of your models, ask for payouts"
    REVIEWS_READ = "reviews:read", "Read your reports and takedowns"
    REVIEWS_WRITE = "reviews:write", "Write reviews, questions, answers, reports and appeals"
    MODERATION_WRITE = "moderation:write", "Decide about reports, as the site's staff"
    PREDICT = "predict", "Predict with models that you may use"


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

    objects = ApiTokenQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} (…{self.hint})"

    def grants(self, scope: str) -> bool:
        """True where a scope of the token covers `scope`; write includes read."""
        resource, _, access = scope.partition(":")
        return scope in self.scopes or (access == "read" and f"{resource}:write" in self.scopes)
