"""Terms as rows, and who accepted them: grants, requests, downloads. Orders are in orders.py."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import Count, Exists, OuterRef, Q, Subquery
from django.utils import timezone

from marketplace.accounts.models import Namespace, User
from models_catalog import plain_words
from models_catalog import terms as values

if TYPE_CHECKING:
    from models_catalog.models.listings import Release, ReleaseQuerySet

EXPIRING_SOON = timedelta(days=14)  # how long before its end a grant says so, and can be renewed
_ANSWERS = [(answer.value, answer.value.capitalize()) for answer in values.Answer]


class ClauseSet(models.Model):
    """The clauses that say what may be done, which many terms share. Apart from the terms, whose rows hold whole
    license texts: a search reads these few, and finds the terms by their index."""

    sha256 = models.CharField(max_length=64, unique=True)
    clauses = models.JSONField()

    def __str__(self) -> str:
        return self.sha256[:12]


class LicenseTerms(models.Model):
    """An immutable set of terms. `document` is the truth; the other columns are for search and facets."""

    terms_hash = models.CharField(max_length=64, unique=True)
    name = models.CharField(max_length=120)
    license_id = models.CharField(max_length=60)
    kind = models.CharField(max_length=20)
    document = models.JSONField()
    commercial_use = models.CharField(max_length=5, choices=_ANSWERS)
    fine_tune = models.CharField(max_length=5, choices=_ANSWERS)
    share_derivatives = models.CharField(max_length=5, choices=_ANSWERS)
    sell_derivatives = models.CharField(max_length=5, choices=_ANSWERS)
    host_as_service = models.CharField(max_length=5, choices=_ANSWERS)
    manual_approval = models.BooleanField(default=False)
    price_minor = models.PositiveBigIntegerField(default=0)
    currency = models.CharField(max_length=3)
    clause_set = models.ForeignKey(ClauseSet, null=True, on_delete=models.PROTECT, related_name="terms")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name

    @property
    def value(self) -> values.Terms:
        return values.from_json(self.document)

    @property
    def plain(self) -> plain_words.PlainWords:
        return plain_words.in_plain_words(self.value)


class GrantState(models.TextChoices):
    """What a grant's columns say at a time; `GrantQuerySet.in_state` and `Grant.state_at` are the two readers."""

    ACTIVE = "active", "Active"
    TRIAL = "trial", "Trial"
    EXPIRING = "expiring", "Expiring soon"
    EXPIRED = "expired", "Expired"
    REVOKED = "revoked", "Revoked"
    RENEWED = "renewed", "Renewed"
    TRANSFERRED = "transferred", "Transferred"


class GrantQuerySet(models.QuerySet["Grant"]):
    def visible_to(self, user: User | AnonymousUser) -> GrantQuerySet:
        mine = Namespace.objects.of(user)
        return self.filter(Q(licensee__in=mine) | Q(listing__namespace__in=mine)).distinct()

    def current(self) -> GrantQuerySet:
        """Neither revoked nor passed on nor replaced by a newer one; it may have expired."""
        return self.filter(revoked_at__isnull=True, superseded_at__isnull=True, transferred_at__isnull=True)

    def counted(self) -> GrantQuerySet:
        """What a number of licenses means: each licensee's once, however often renewed or passed on; no trials."""
        return self.current().filter(is_trial=False)

    def active(self, now: datetime) -> GrantQuerySet:
        return self.current().filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now))

    def in_state(self, state: str, now: datetime) -> GrantQuerySet:
        ended = {
            GrantState.REVOKED.value: "revoked_at",
            GrantState.TRANSFERRED.value: "transferred_at",
            GrantState.RENEWED.value: "superseded_at",
        }
        if column := ended.get(state):
            return self.filter(**{f"{column}__isnull": False})
        if state == GrantState.EXPIRED:
            return self.current().filter(expires_at__lte=now)
        soon = Q(expires_at__lte=now + EXPIRING_SOON)
        if state == GrantState.TRIAL:
            return self.active(now).filter(is_trial=True)
        bought = self.active(now).filter(is_trial=False)
        return bought.filter(soon) if state == GrantState.EXPIRING else bought.exclude(soon)

    def covering(self, release: Release | None = None) -> GrantQuerySet:
        """Those that open the release: of its listing and of its very terms, so that other terms of a later
        version are accepted apart. In a subquery, without a release: of the outer row's."""
        if release is None:
            return self.filter(listing=OuterRef("listing_id"), terms=OuterRef("terms_id"))
        return self.filter(listing=release.listing_id, terms=release.terms_id)

    def opening(self, releases: ReleaseQuerySet) -> GrantQuerySet:
        """Those that open one of the releases, as `covering` says."""
        return self.filter(Exists(releases.filter(listing=OuterRef("listing_id"), terms=OuterRef("terms_id"))))

    def held_by(self, user: User | AnonymousUser) -> GrantQuerySet:
        return self.filter(licensee__in=Namespace.objects.of(user))


class Grant(models.Model):
    """A licence that was accepted: terms frozen at that time, for a person's or organisation's namespace."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    licensee = models.ForeignKey(Namespace, on_delete=models.PROTECT, related_name="grants")
    listing = models.ForeignKey("Listing", on_delete=models.PROTECT, related_name="grants")
    terms = models.ForeignKey(LicenseTerms, on_delete=models.PROTECT, related_name="grants")
    accepted_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    accepted_at = models.DateTimeField()
    accepted_text_sha256 = models.CharField(max_length=64)
    acceptance = models.ForeignKey("Acceptance", null=True, on_delete=models.PROTECT, related_name="grants")
    # A trial has no order, nor has what another licensee passed on.
    order = models.OneToOneField("Order", null=True, on_delete=models.PROTECT, related_name="grant")
    is_trial = models.BooleanField(default=False)
    declaration = models.JSONField(default=dict, blank=True)  # declarations.py: what its licensee stated last
    expires_at = models.DateTimeField(null=True, blank=True)
    expiry_told_at = models.DateTimeField(null=True, blank=True)  # when its holder was told that it ends soon
    end_told_at = models.DateTimeField(null=True, blank=True)  # when programs were told that its term is over
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_reason = models.CharField(max_length=500, blank=True)
    is_broken = models.BooleanField(default=False)  # revoked by the vendor for a breach, not for a refund
    superseded_at = models.DateTimeField(null=True, blank=True)  # a newer one took its place
    transferred_at = models.DateTimeField(null=True, blank=True)
    transferred_from = models.OneToOneField(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="transferred_to"
    )

    objects = GrantQuerySet.as_manager()

    class Meta:
        ordering = ["-accepted_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["licensee", "listing", "terms"],
                condition=Q(revoked_at__isnull=True, superseded_at__isnull=True, transferred_at__isnull=True),
                name="models_catalog_grant_once",
            ),
            models.UniqueConstraint(
                fields=["licensee", "listing", "terms"],
                condition=Q(is_trial=True),
                name="models_catalog_grant_trial_once",
            ),
            models.CheckConstraint(
                condition=Q(is_trial=False) | Q(expires_at__isnull=False), name="models_catalog_grant_trial_ends"
            ),
            models.CheckConstraint(
                condition=Q(is_trial=True) | Q(order__isnull=False) | Q(transferred_from__isnull=False),
                name="models_catalog_grant_has_origin",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.licensee} holds {self.listing} under {self.terms}"

    @property
    def is_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timezone.now()

    def state_at(self, now: datetime) -> GrantState:
        if self.revoked_at:
            return GrantState.REVOKED
        if self.transferred_at:
            return GrantState.TRANSFERRED
        if self.superseded_at:
            return GrantState.RENEWED
        if self.expires_at and self.expires_at <= now:
            return GrantState.EXPIRED
        if self.is_trial:
            return GrantState.TRIAL
        is_soon = self.expires_at is not None and self.expires_at <= now + EXPIRING_SOON
        return GrantState.EXPIRING if is_soon else GrantState.ACTIVE

    @property
    def state(self) -> GrantState:
        return self.state_at(timezone.now())

    @property
    def days_left(self) -> int | None:
        """Whole days until it ends, rounded up, at least 0; None for one without end."""
        if self.expires_at is None:
            return None
        return max(0, -(-(self.expires_at - timezone.now()) // timedelta(days=1)))

    @property
    def seats(self) -> int:
        """How many members and tokens may use it at a time; 0 is no limit."""
        return int(self.terms.document.get("seats", 0))


class RequestStatus(models.TextChoices):
    PENDING = "pending", "Waiting for the vendor"
    APPROVED = "approved", "Approved"
    REJECTED = "rejected", "Rejected"
    CANCELED = "canceled", "Withdrawn"


class AccessRequestQuerySet(models.QuerySet["AccessRequest"]):
    def visible_to(self, user: User | AnonymousUser) -> AccessRequestQuerySet:
        """Of those who ask, and of the vendor's members who decide."""
        return self.filter(
            Q(requester__in=Namespace.objects.of(user)) | Q(listing__namespace__in=Namespace.objects.writable_by(user))
        )

    def made_by(self, user: User | AnonymousUser) -> AccessRequestQuerySet:
        return self.filter(requester__in=Namespace.objects.of(user))

    def put_to(self, user: User | AnonymousUser) -> AccessRequestQuerySet:
        """Those that the user, as a writer of the vendor, may decide."""
        return self.filter(listing__namespace__in=Namespace.objects.writable_by(user))

    def with_place(self) -> AccessRequestQuerySet:
        """Adds `place`: the number of this request among those of its listing that wait, 1 for the next one."""
        ahead = AccessRequest.objects.filter(
            listing=OuterRef("listing_id"), status=RequestStatus.PENDING, created_at__lte=OuterRef("created_at")
        )
        number = ahead.order_by().values("listing").annotate(number=Count("pk")).values("number")
        return self.annotate(place=Subquery(number, output_field=models.IntegerField()))


class AccessRequest(models.Model):
    """Asks a vendor for terms that need their approval."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    requester = models.ForeignKey(Namespace, on_delete=models.PROTECT, related_name="access_requests")
    listing = models.ForeignKey("Listing", on_delete=models.CASCADE, related_name="access_requests")
    terms = models.ForeignKey(LicenseTerms, on_delete=models.PROTECT, related_name="+")
    requested_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    reason = models.TextField(max_length=2000)
    status = models.CharField(max_length=10, choices=RequestStatus.choices, default=RequestStatus.PENDING)
    answer = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    ask_again_at = models.DateTimeField(null=True, blank=True)  # of a rejection: from when on one may ask again

    objects = AccessRequestQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["requester", "listing", "terms"],
                condition=Q(status="pending"),
                name="models_catalog_access_request_pending_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.requester} asks for {self.listing}"


class Credential(models.TextChoices):
    SESSION = "session", "Signed in"
    TOKEN = "token", "API token"


class Download(models.Model):
    """One file served to somebody: the licence's proof and the vendor's statistics. Of all the times that a file
    is asked for in a day, by one person in one way, the first has a `day`; only that is counted."""

    artifact = models.ForeignKey("Artifact", on_delete=models.PROTECT, related_name="downloads")
    user = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    client = models.CharField(max_length=20)  # marketplace.clients.Client
    is_ci = models.BooleanField(default=False)
    credential = models.CharField(max_length=12, choices=Credential.choices, blank=True, default="")
    at = models.DateTimeField(auto_now_add=True)
    day = models.DateField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["artifact", "day", "user", "client", "is_ci", "credential"],
                name="models_catalog_download_once_a_day",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.artifact} at {self.at:%Y-%m-%d}"
