"""A program that asks to be let in by somebody at a browser (RFC 8628)."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import Q

from marketplace.accounts.models.people import User


class DeviceState(models.TextChoices):
    PENDING = "pending", "Waits for somebody"
    APPROVED = "approved", "Let in, and has not fetched its token"
    DENIED = "denied", "Refused"
    USED = "used", "Has its token"


SOURCES: dict[str, tuple[str, ...]] = {
    DeviceState.APPROVED: (DeviceState.PENDING,),
    DeviceState.DENIED: (DeviceState.PENDING,),
    DeviceState.USED: (DeviceState.APPROVED,),
}


class DeviceLoginQuerySet(models.QuerySet["DeviceLogin"]):
    def waiting(self, now: datetime) -> DeviceLoginQuerySet:
        return self.filter(state=DeviceState.PENDING, expires_at__gt=now)

    def transition(self, pk: int, *, to: str, now: datetime, **fields: object) -> bool:
        """Compare-and-swap of the state, while the login has not expired: False where another one was faster."""
        return self.filter(pk=pk, state__in=SOURCES[to], expires_at__gt=now).update(state=to, **fields) == 1


class DeviceLogin(models.Model):
    """No secret is in it: the token is made when the program fetches it."""

    digest = models.CharField(max_length=64, unique=True)  # of the device code, keyed by SECRET_KEY
    user_code = models.CharField(max_length=8, unique=True)  # without its hyphen
    program = models.CharField(max_length=200, blank=True)  # its User-Agent: what it says of itself
    address = models.GenericIPAddressField(null=True)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    interval_seconds = models.PositiveSmallIntegerField()  # between two polls; grows with those that come too soon
    polled_at = models.DateTimeField(null=True)
    state = models.CharField(max_length=10, choices=DeviceState.choices, default=DeviceState.PENDING)
    user = models.ForeignKey(User, null=True, on_delete=models.CASCADE, related_name="+")  # who decided
    scopes = models.JSONField(default=list)
    days = models.PositiveSmallIntegerField(default=0)  # for which the token will live

    objects = DeviceLoginQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(state__in=DeviceState.values), name="accounts_devicelogin_state"),
            models.CheckConstraint(
                condition=Q(state="pending") | Q(user__isnull=False), name="accounts_devicelogin_decided_by_somebody"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user_code[:4]}-{self.user_code[4:]}"
