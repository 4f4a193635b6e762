"""The append-only record of every change of rights, money or visibility."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser
from django.db import models

from marketplace.accounts.models.people import ADMINISTERS, Namespace, User


class AuditEventQuerySet(models.QuerySet["AuditEvent"]):
    def visible_to(self, user: User | AnonymousUser) -> AuditEventQuerySet:
        """What happened in the user's own namespace and in those of the organisations that they administer; to
        the staff everything."""
        if user.is_authenticated and user.is_staff:
            return self
        return self.filter(namespace__in=Namespace.objects.of(user, roles=ADMINISTERS))

    def with_names(self) -> AuditEventQuerySet:
        return self.select_related("actor", "namespace")


class AuditEvent(models.Model):
    at = models.DateTimeField(auto_now_add=True)
    actor = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    namespace = models.ForeignKey(Namespace, null=True, on_delete=models.PROTECT, related_name="+")
    action = models.CharField(max_length=60)  # resource.verb, e.g. release.yank
    subject = models.CharField(max_length=200)
    details = models.JSONField(default=dict)

    objects = AuditEventQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["namespace", "-id"], name="accounts_audit_namespace")]

    def __str__(self) -> str:
        return f"{self.action} {self.subject}"
