"""What was answered to a call that carried an Idempotency-Key."""

from __future__ import annotations

from django.db import models

from marketplace.accounts.models.people import User


class IdempotentCall(models.Model):
    """`status` is null while the first call runs; `started_at` is also its lease."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)  # SHA-256 of method, path and body
    status = models.PositiveSmallIntegerField(null=True)
    content_type = models.CharField(max_length=100, blank=True)
    body = models.TextField(blank=True)
    started_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "key"], name="accounts_idempotent_call_once"),
        ]

    def __str__(self) -> str:
        return self.key
