"""The append-only record of every change of rights, money or visibility."""

from __future__ import annotations

from django.db import models

from marketplace.accounts.models.people import Namespace, User


class AuditEvent(models.Model):
    at = models.DateTimeField(auto_now_add=True)
    actor = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    namespace = models.ForeignKey(Namespace, null=True, on_delete=models.PROTECT, related_name="+")
    action = models.CharField(max_length=60)  # resource.verb, e.g. release.yank
    subject = models.CharField(max_length=200)
    details = models.JSONField(default=dict)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["namespace", "-id"], name="accounts_audit_namespace")]

    def __str__(self) -> str:
        return f"{self.action} {self.subject}"
