"""A grant on its way from one licensee to another."""

from __future__ import annotations

import uuid

from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import Q

from marketplace.accounts.models import Namespace, User
from models_catalog.models.licensing import Grant


class TransferStatus(models.TextChoices):
    OFFERED = "offered", "Waiting for the recipient"
    ACCEPTED = "accepted", "Accepted"
    CANCELED = "canceled", "Withdrawn"


class GrantTransferQuerySet(models.QuerySet["GrantTransfer"]):
    def visible_to(self, user: User | AnonymousUser) -> GrantTransferQuerySet:
        mine = Namespace.objects.of(user)
        return self.filter(Q(recipient__in=mine) | Q(grant__licensee__in=mine)).distinct()

    def open(self) -> GrantTransferQuerySet:
        return self.filter(status=TransferStatus.OFFERED)


class GrantTransfer(models.Model):
    """The holder offers; nothing passes until the recipient has accepted the terms for themselves."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    grant = models.ForeignKey(Grant, on_delete=models.PROTECT, related_name="transfers")
    recipient = models.ForeignKey(Namespace, on_delete=models.PROTECT, related_name="+")
    offered_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    offered_at = models.DateTimeField()
    status = models.CharField(max_length=10, choices=TransferStatus.choices, default=TransferStatus.OFFERED)
    decided_at = models.DateTimeField(null=True, blank=True)

    objects = GrantTransferQuerySet.as_manager()

    class Meta:
        ordering = ["-offered_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["grant"], condition=Q(status="offered"), name="models_catalog_transfer_open_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.grant} to {self.recipient}"
