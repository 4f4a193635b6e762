"""What a listing's drafts were after each commit, for a while: its writers may pin a revision that they pushed."""

from __future__ import annotations

from django.db import models

from marketplace.accounts.models import User
from models_catalog.models.listings import Listing, Release


class Commit(models.Model):
    """`files` is {path: [sha256, bytes]}: the garbage collector finds the digests there."""

    listing = models.ForeignKey(Listing, on_delete=models.CASCADE, related_name="commits")
    release = models.ForeignKey(Release, on_delete=models.CASCADE, related_name="commits")
    revision = models.CharField(max_length=64)
    title = models.CharField(max_length=200, blank=True)
    description = models.CharField(max_length=1000, blank=True)
    author = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    files = models.JSONField(default=dict)
    made_at = models.DateTimeField()

    class Meta:
        ordering = ["-made_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["listing", "revision"], name="models_catalog_commit_once"),
        ]

    def __str__(self) -> str:
        return f"{self.listing}@{self.revision[:8]}"
