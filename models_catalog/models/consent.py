"""Who accepted which terms, when, for whom and from where: append-only."""

from __future__ import annotations

import uuid
from typing import Any, NoReturn

from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import Q

from marketplace.accounts.models import Namespace, User
from models_catalog.models.licensing import LicenseTerms
from models_catalog.models.orders import Order


class Purpose(models.TextChoices):
    LICENSE = "license", "A license"
    TRIAL = "trial", "A trial"
    RENEWAL = "renewal", "A renewal"
    TRANSFER = "transfer", "A license passed on by its holder"
    STATEMENT = "statement", "What the licensee states of themselves, anew"


class AcceptanceQuerySet(models.QuerySet["Acceptance"]):
    """Rows are written once: a receipt that could be changed would prove nothing."""

    def visible_to(self, user: User | AnonymousUser) -> AcceptanceQuerySet:
        mine = Namespace.objects.of(user)
        return self.filter(Q(licensee__in=mine) | Q(listing__namespace__in=mine)).distinct()

    def update(self, **_fields: Any) -> NoReturn:
        raise TypeError("receipts of consent are never changed")

    def delete(self) -> NoReturn:
        raise TypeError("receipts of consent are never deleted")


class Acceptance(models.Model):
    """A person's yes to terms whose hash they gave back."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    licensee = models.ForeignKey(Namespace, on_delete=models.PROTECT, related_name="+")
    listing = models.ForeignKey("Listing", on_delete=models.PROTECT, related_name="+")
    version = models.CharField(max_length=40, blank=True)  # of the release whose terms were shown
    terms = models.ForeignKey(LicenseTerms, on_delete=models.PROTECT, related_name="+")
    text_sha256 = models.CharField(max_length=64)
    purpose = models.CharField(max_length=10, choices=Purpose.choices)
    order = models.OneToOneField(Order, null=True, on_delete=models.PROTECT, related_name="acceptance")
    client = models.CharField(max_length=10, blank=True)  # page or api
    address_hash = models.CharField(max_length=64, blank=True)  # of the IP address, keyed: tells equal ones alone
    declaration = models.JSONField(default=dict, blank=True)  # declarations.py: what the terms asked for
    accepted_at = models.DateTimeField()

    objects = AcceptanceQuerySet.as_manager()

    class Meta:
        ordering = ["-accepted_at"]
        constraints = [
            models.CheckConstraint(condition=Q(purpose__in=Purpose.values), name="models_catalog_acceptance_purpose"),
        ]

    def __str__(self) -> str:
        return f"{self.user} accepts {self.terms} of {self.listing} for {self.licensee}"
