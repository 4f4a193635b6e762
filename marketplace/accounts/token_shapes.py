"""Shapes of tokens in the API."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from marketplace.accounts.models import ApiToken, CapPeriod, Scope
from marketplace.accounts.models.reach import DATASETS
from marketplace.accounts.services import spending
from marketplace.accounts.services.tokens import MAX_OVERLAP_HOURS, MAX_RESOURCES, OVERLAP_HOURS, Cap
from marketplace.inputs import Input

MAX_REPORTED = 100
MAX_DAYS = 366
_RESOURCES_HELP = (
    f"What it is limited to: a vendor (`acme`), a model (`acme/net`), a dataset (`{DATASETS}ID`); none are all"
)


class CapInput(Input):
    amount_minor = serializers.IntegerField(min_value=0, max_value=10**12)
    currency = serializers.RegexField(r"^[A-Z]{3}$", help_text="Such as EUR; nothing is converted")
    period = serializers.ChoiceField(choices=CapPeriod.choices, help_text="The time back from now that counts")


class TokenInput(Input):
    name = serializers.CharField(max_length=80)
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=Scope.choices), min_length=1, max_length=50)
    days = serializers.IntegerField(min_value=1, max_value=MAX_DAYS, default=90, help_text="Until it ends")
    resources = serializers.ListField(
        child=serializers.CharField(max_length=200), default=list, max_length=MAX_RESOURCES, help_text=_RESOURCES_HELP
    )
    spend_cap = CapInput(required=False, allow_null=True, default=None)


class TokenChange(Input):
    name = serializers.CharField(max_length=80, required=False)
    spend_cap = CapInput(required=False, allow_null=True, help_text="null takes it away")


class TokenRotation(Input):
    overlap_hours = serializers.IntegerField(
        default=OVERLAP_HOURS,
        help_text=f"For how long the earlier secret goes on, at most {MAX_OVERLAP_HOURS}; 0 ends it at once",
    )


class LeakedInput(Input):
    credentials = serializers.ListField(
        child=serializers.CharField(max_length=500), min_length=1, max_length=MAX_REPORTED
    )


class LeakedOutput(serializers.Serializer[Any]):
    detail = serializers.CharField(help_text="The same whether there are such tokens or not")


class CapOutput(serializers.Serializer[Any]):
    amount_minor = serializers.IntegerField(source="cap_minor")
    currency = serializers.CharField(source="cap_currency")
    period = serializers.ChoiceField(source="cap_period", choices=CapPeriod.choices)
    spent_minor = serializers.SerializerMethodField(help_text="Of it, now; what may still come to be included")

    def get_spent_minor(self, token: ApiToken) -> int:
        return spending.spent_minor(token, now=timezone.now())


class TokenOutput(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    hint = serializers.CharField(help_text="Its last characters")
    scopes = serializers.ListField(child=serializers.CharField())
    resources = serializers.ListField(child=serializers.CharField(), help_text=_RESOURCES_HELP)
    spend_cap = serializers.SerializerMethodField()
    spent = serializers.SerializerMethodField(help_text="All that was spent with it, in minor units by currency")
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    previous_ends_at = serializers.DateTimeField(allow_null=True, help_text="Until when the secret before it goes on")

    @extend_schema_field(CapOutput(allow_null=True))
    def get_spend_cap(self, token: ApiToken) -> dict[str, Any] | None:
        return None if token.cap_minor is None else dict(CapOutput(token).data)

    def get_spent(self, token: ApiToken) -> dict[str, int]:
        return spending.spent_by_currency(token)


class TokenWithSecret(TokenOutput):
    secret = serializers.CharField(help_text="Shown this once")


def cap_of(fields: dict[str, Any] | None) -> Cap | None:
    return Cap(fields["amount_minor"], fields["currency"], CapPeriod(fields["period"])) if fields else None
