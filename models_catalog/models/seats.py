"""Who uses a grant: the seats that members and tokens take, and the keys that software shows."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import Exists, OuterRef, Q

from marketplace.accounts.models import ApiToken, Membership, User
from models_catalog.models.licensing import Grant


class SeatQuerySet(models.QuerySet["Seat"]):
    def taken(self, now: datetime) -> SeatQuerySet:
        """Those that count: not released, and of a member or a working token. Who leaves the organisation, or
        whose token ends, takes up no seat."""
        member = Membership.objects.filter(
            organization=OuterRef("grant__licensee__organization"), user=OuterRef("user_id")
        )
        token_works = Q(token__isnull=True) | (
            Q(token__revoked_at__isnull=True) & (Q(token__expires_at__isnull=True) | Q(token__expires_at__gt=now))
        )
        return self.filter(token_works, released_at__isnull=True).filter(
            Q(grant__licensee__user=models.F("user")) | Exists(member)
        )

    def opening_for(self, user: User) -> SeatQuerySet:
        """To a request with a token: the user's own seats, and that token's. To the user in person, and to a run
        that they launched: all of theirs, for one person takes one seat."""
        token = user.api_token
        return self.filter(Q(token__isnull=True) | Q(token=token), user=user) if token else self.filter(user=user)


class Seat(models.Model):
    """One place of a grant that limits them: a member's, which covers all that they do, or one token's alone."""

    grant = models.ForeignKey(Grant, on_delete=models.PROTECT, related_name="seat_rows")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")  # of a token: whose it is
    token = models.ForeignKey(ApiToken, null=True, blank=True, on_delete=models.CASCADE, related_name="+")
    since = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True)
    released_at = models.DateTimeField(null=True, blank=True)

    objects = SeatQuerySet.as_manager()

    class Meta:
        ordering = ["since", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["grant", "user"],
                condition=Q(released_at__isnull=True, token__isnull=True),
                name="models_catalog_seat_user_once",
            ),
            models.UniqueConstraint(
                fields=["grant", "token"], condition=Q(released_at__isnull=True), name="models_catalog_seat_token_once"
            ),
        ]

    def __str__(self) -> str:
        return f"token {self.token}" if self.token_id else self.user.username


class LicenseKeyQuerySet(models.QuerySet["LicenseKey"]):
    def live(self) -> LicenseKeyQuerySet:
        return self.filter(revoked_at__isnull=True)


class LicenseKey(models.Model):
    """What a program shows to prove the grant that it runs under. The key itself is shown once."""

    grant = models.ForeignKey(Grant, on_delete=models.PROTECT, related_name="keys")
    digest = models.CharField(max_length=64, unique=True)  # HMAC-SHA256, keyed by SECRET_KEY
    hint = models.CharField(max_length=4)  # the last characters, to recognise it by
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    last_validated_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = LicenseKeyQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["grant"], condition=Q(revoked_at__isnull=True), name="models_catalog_license_key_one_live"
            ),
        ]

    def __str__(self) -> str:
        return f"…{self.hint}"
