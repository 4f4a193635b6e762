"""Uploads that are on their way, or whole and waiting to be used."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import F, Q

from marketplace.accounts.models import User


class Upload(models.Model):
    """`offset` is how many bytes are certain to be on the disk: it is written after their fsync."""

    uid = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="uploads")
    filename = models.CharField(max_length=255, blank=True)
    length = models.BigIntegerField()  # bytes of the whole file
    offset = models.BigIntegerField(default=0)
    expected_sha256 = models.CharField(max_length=64, blank=True)  # as the sender says, where it does
    sha256 = models.CharField(max_length=64, blank=True)  # of all bytes, once they are here
    stored_at = models.DateTimeField(null=True, blank=True)  # since when it is a blob
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(length__gt=0, offset__gte=0, offset__lte=F("length")), name="uploads_offset_within_length"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.filename or self.uid} ({self.offset} of {self.length} bytes)"

    @property
    def is_whole(self) -> bool:
        return self.offset == self.length
