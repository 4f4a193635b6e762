"""Which bytes somebody has sent for a listing. Digests are public, so knowing one gives nobody the bytes."""

from __future__ import annotations

from django.db import models

from marketplace.accounts.models import User
from models_catalog.models.listings import Listing


class SentFile(models.Model):
    """A whole file that a Hub client has sent, to be named by a commit soon after."""

    listing = models.ForeignKey(Listing, on_delete=models.CASCADE, related_name="sent_files")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    sha256 = models.CharField(max_length=64)
    bytes = models.BigIntegerField()
    sent_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["listing", "user", "sha256"], name="models_catalog_sent_file_once"),
        ]

    def __str__(self) -> str:
        return f"{self.sha256} for {self.listing}"
