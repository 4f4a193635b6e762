"""What a person is told: one row for each reader, with the email copy that is still owed."""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import Q

from marketplace.accounts.models.people import User


class NotificationQuerySet(models.QuerySet["Notification"]):
    def visible_to(self, user: User | AnonymousUser) -> NotificationQuerySet:
        return self.filter(user_id=user.pk) if user.is_authenticated else self.none()

    def unread(self) -> NotificationQuerySet:
        return self.filter(read_at__isnull=True)

    def email_due(self, now: datetime) -> NotificationQuerySet:
        return self.filter(email_due_at__lte=now)


class Notification(models.Model):
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="notifications")
    kind = models.CharField(max_length=60)  # resource.verb, e.g. access.approve
    title = models.CharField(max_length=200)
    body = models.TextField(max_length=2000, blank=True)
    url = models.CharField(max_length=300, blank=True)  # a path of this site
    key = models.CharField(max_length=120, blank=True)  # what is told once is told under a key
    created_at = models.DateTimeField(auto_now_add=True)
    read_at = models.DateTimeField(null=True, blank=True)
    # The email copy: when it is to be tried next; None where none is owed, or it was sent or given up.
    email_due_at = models.DateTimeField(null=True, blank=True)
    email_tries = models.PositiveSmallIntegerField(default=0)
    emailed_at = models.DateTimeField(null=True, blank=True)

    objects = NotificationQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["user", "key"], condition=~Q(key=""), name="accounts_notification_key_once"
            ),
        ]
        indexes = [
            models.Index(fields=["user", "-id"], name="accounts_notification_user"),
            models.Index(fields=["user"], condition=Q(read_at__isnull=True), name="accounts_notification_unread"),
            models.Index(
                fields=["email_due_at"], condition=Q(email_due_at__isnull=False), name="accounts_notification_email"
            ),
        ]

    def __str__(self) -> str:
        return self.title
