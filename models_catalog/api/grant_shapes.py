"""Shapes of licenses in the API: grants, their seats and keys, requests for access, transfers."""

from __future__ import annotations

from typing import Any

from django.urls import reverse
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from marketplace.inputs import Input
from models_catalog.models import AccessRequest, Grant, GrantTransfer, Seat
from models_catalog.models.licensing import GrantState, RequestStatus
from models_catalog.services.access import ASK_AGAIN_DAYS, MAX_ANSWER, MAX_ASK_AGAIN_DAYS
from models_catalog.validation import LIMITS

MAX_SCOPE_TEXT = 200
MAX_ENTITLEMENTS = 50


class DeclarationInput(Input):
    """What the terms limit, and therefore ask for (the quote's `declare`)."""

    country = serializers.CharField(max_length=2, required=False, help_text="Of use: ISO 3166-1 alpha-2")
    monthly_users = serializers.IntegerField(required=False, min_value=0, max_value=LIMITS["max_monthly_users"])
    revenue_minor = serializers.IntegerField(
        required=False,
        min_value=0,
        max_value=LIMITS["max_revenue_minor"],
        help_text="Yearly, of the licensee's organization, in minor units of the terms' currency",
    )


class GrantInput(Input):
    terms_hash = serializers.RegexField("^[0-9a-f]{64}$")
    declaration = DeclarationInput(required=False)
    licensee = serializers.CharField(max_length=96, required=False)
    payment = serializers.CharField(
        max_length=20, required=False, default="", help_text="How a price is paid: one of the quote's `payments`"
    )
    trial = serializers.BooleanField(default=False, help_text="Start the trial that the terms offer, without payment")


class TermsHashInput(Input):
    terms_hash = serializers.RegexField("^[0-9a-f]{64}$")
    declaration = DeclarationInput(required=False)


class RenewalInput(TermsHashInput):
    payment = serializers.CharField(
        max_length=20, required=False, default="", help_text="How a price is paid: one of the quote's `payments`"
    )


class GrantOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=GrantState.choices, source="state")
    licensee = serializers.CharField(source="licensee.name")
    listing = serializers.CharField()
    terms_hash = serializers.CharField(source="terms.terms_hash")
    accepted_by = serializers.CharField(source="accepted_by.username")
    accepted_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    days_left = serializers.IntegerField(allow_null=True)
    is_trial = serializers.BooleanField()
    seats = serializers.IntegerField(help_text="How many the terms allow; 0 is no limit")
    revoked_reason = serializers.CharField()
    order = serializers.UUIDField(source="order_id", allow_null=True)
    url = serializers.SerializerMethodField()

    def get_url(self, grant: Grant) -> str:
        return reverse("grant", args=[grant.pk])


class GrantDetailOutput(GrantOutput):
    terms = serializers.CharField(source="terms.name")
    rights = serializers.DictField(source="terms.document.rights", child=serializers.CharField())
    declaration = serializers.DictField(help_text="What its licensee stated last, where the terms ask for it")
    seats_taken = serializers.IntegerField()
    key_hint = serializers.CharField(help_text="The last characters of the license key; empty without one")


class SeatInput(Input):
    username = serializers.CharField(max_length=150)
    token = serializers.IntegerField(required=False, min_value=1, help_text="Of one token of theirs alone")


class SeatOutput(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    username = serializers.CharField(source="user.username")
    token = serializers.SerializerMethodField()
    since = serializers.DateTimeField()
    last_used_at = serializers.DateTimeField(allow_null=True)

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_token(self, seat: Seat) -> str | None:
        return str(seat.token) if seat.token else None


class KeyOutput(serializers.Serializer[Any]):
    key = serializers.CharField(help_text="Shown this once")
    hint = serializers.CharField()


class ReasonInput(Input):
    reason = serializers.CharField(max_length=500)


class RecipientInput(Input):
    recipient = serializers.CharField(max_length=96, help_text="The namespace that is to hold the license")


class TransferOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    status = serializers.CharField()
    grant = serializers.UUIDField(source="grant_id")
    listing = serializers.CharField(source="grant.listing")
    holder = serializers.CharField(source="grant.licensee.name")
    recipient = serializers.CharField(source="recipient.name")
    terms_hash = serializers.CharField(source="grant.terms.terms_hash")
    offered_at = serializers.DateTimeField()
    url = serializers.SerializerMethodField()

    def get_url(self, transfer: GrantTransfer) -> str:
        return reverse("transfer", args=[transfer.pk])


class KeyScopeInput(Input):
    product = serializers.CharField(max_length=MAX_SCOPE_TEXT, required=False, default="", help_text="namespace/name")
    version = serializers.CharField(max_length=MAX_SCOPE_TEXT, required=False, default="")
    checksum = serializers.CharField(max_length=MAX_SCOPE_TEXT, required=False, default="", help_text="SHA-256")
    entitlements = serializers.ListField(
        child=serializers.CharField(max_length=MAX_SCOPE_TEXT),
        required=False,
        default=list,
        max_length=MAX_ENTITLEMENTS,
    )
    user = serializers.CharField(max_length=MAX_SCOPE_TEXT, required=False, default="", help_text="A username")


class KeyMetaInput(Input):
    key = serializers.CharField(max_length=MAX_SCOPE_TEXT)
    scope = KeyScopeInput(required=False)


class ValidateKeyInput(Input):
    meta = KeyMetaInput()


class ValidationOutput(serializers.Serializer[Any]):
    valid = serializers.BooleanField()
    detail = serializers.CharField()
    code = serializers.CharField()
    meta = serializers.DictField()
    data = serializers.DictField(allow_null=True)  # type: ignore[assignment]  # Keygen's name; a declared field is no attribute


class AccessRequestInput(Input):
    listing = serializers.RegexField(r"^[^/\s]+/[^/\s]+$", help_text="namespace/name")
    reason = serializers.CharField(max_length=2000)
    licensee = serializers.CharField(max_length=96, required=False)


class ApprovalInput(Input):
    answer = serializers.CharField(max_length=MAX_ANSWER, required=False, default="", allow_blank=True)


class RejectionInput(Input):
    reason = serializers.CharField(max_length=MAX_ANSWER)
    ask_again_days = serializers.IntegerField(
        min_value=0,
        max_value=MAX_ASK_AGAIN_DAYS,
        default=ASK_AGAIN_DAYS,
        help_text="After how many days they may ask again; 0 for at once",
    )


class AccessRequestOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=RequestStatus.choices)
    listing = serializers.CharField()
    requester = serializers.CharField(source="requester.name")
    requested_by = serializers.CharField(source="requested_by.username")
    terms_hash = serializers.CharField(source="terms.terms_hash")
    reason = serializers.CharField()
    answer = serializers.CharField()
    place = serializers.SerializerMethodField(help_text="Its number among those of its listing that wait")
    created_at = serializers.DateTimeField()
    decided_at = serializers.DateTimeField(allow_null=True)
    ask_again_at = serializers.DateTimeField(allow_null=True)
    url = serializers.SerializerMethodField()

    @extend_schema_field(serializers.IntegerField(allow_null=True))
    def get_place(self, request: AccessRequest) -> int | None:
        return getattr(request, "place", None) if request.status == RequestStatus.PENDING else None

    def get_url(self, request: AccessRequest) -> str:
        return reverse("access_request", args=[request.pk])
