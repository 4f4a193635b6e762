"""Shapes of the API's money: quotes, orders, statements, payouts. Amounts are integers in minor units."""

from __future__ import annotations

from typing import Any

from django.urls import reverse
from rest_framework import serializers

from marketplace.inputs import Input
from models_catalog.api.serializers import DecisionOutput
from models_catalog.models import Order
from models_catalog.models.orders import OrderStatus, Receiver
from models_catalog.terms import CURRENCIES
from models_catalog.validation import MAX_PRICE_MINOR


class ShareOutput(serializers.Serializer[Any]):
    listing = serializers.CharField(source="title")
    amount_minor = serializers.IntegerField()


class SplitOutput(serializers.Serializer[Any]):
    royalties = ShareOutput(source="shares", many=True)
    fee_minor = serializers.IntegerField()
    seller_minor = serializers.IntegerField()


class QuoteGrantOutput(serializers.Serializer[Any]):
    licensee = serializers.CharField()
    term_days = serializers.IntegerField(help_text="0 is without end")
    seats = serializers.IntegerField(help_text="0 is without limit")
    renews_by_order = serializers.BooleanField()
    expires_at = serializers.DateTimeField(allow_null=True)


class RoyaltyOutput(serializers.Serializer[Any]):
    """What one model is due of a price: the larger of its percentage, in hundredths of a percent, and its floor."""

    listing = serializers.CharField(source="title")
    royalty_bps = serializers.IntegerField(source="bps")
    floor_minor = serializers.IntegerField()
    currency = serializers.CharField()


class QuoteOutput(serializers.Serializer[Any]):
    listing = serializers.CharField(source="release.listing")
    version = serializers.CharField(source="release.version")
    terms_hash = serializers.CharField(source="release.terms.terms_hash")
    price_minor = serializers.IntegerField()
    tax_minor = serializers.IntegerField()
    total_minor = serializers.IntegerField()
    currency = serializers.CharField()
    payments = serializers.ListField(child=serializers.CharField())
    also_needed = serializers.ListField(
        child=serializers.CharField(), help_text="Models of which a licensee needs a license too, and you have none"
    )
    declare = serializers.ListField(
        child=serializers.CharField(), help_text="What the terms ask a licensee to state: fields of `declaration`"
    )
    grant = QuoteGrantOutput(source="*")
    license = DecisionOutput()
    price = DecisionOutput()
    royalties = RoyaltyOutput(many=True, help_text="What each sale of a derivative would owe, to all ancestors")
    split = SplitOutput(allow_null=True, help_text="Where the price goes; for the vendor's billing role alone")


class OrderOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=OrderStatus.choices)
    listing = serializers.CharField()
    buyer = serializers.CharField(source="buyer.name")
    terms_hash = serializers.CharField(source="terms.terms_hash")
    amount_minor = serializers.IntegerField()
    currency = serializers.CharField()
    provider = serializers.CharField()
    received_by = serializers.ChoiceField(choices=Receiver.choices)
    checkout_url = serializers.CharField(help_text="Where to pay; empty where nothing is paid online")
    placed_at = serializers.DateTimeField()
    settled_at = serializers.DateTimeField(allow_null=True)
    refunded_at = serializers.DateTimeField(allow_null=True)
    refund_reason = serializers.CharField()
    grant = serializers.SerializerMethodField()
    url = serializers.SerializerMethodField()

    def get_grant(self, order: Order) -> str | None:
        return str(order.grant.pk) if hasattr(order, "grant") else None

    def get_url(self, order: Order) -> str:
        return reverse("order", args=[order.pk])


class SettleInput(Input):
    received_by = serializers.ChoiceField(choices=["vendor", "site"], required=False)


class RefundInput(Input):
    reason = serializers.CharField(max_length=300)
    amount_minor = serializers.IntegerField(
        min_value=0, max_value=MAX_PRICE_MINOR, required=False, help_text="The whole amount, if it is given at all"
    )


class StatementOutput(serializers.Serializer[Any]):
    currency = serializers.CharField()
    opening = serializers.IntegerField()
    sales = serializers.IntegerField()
    refunds = serializers.IntegerField()
    royalties_in = serializers.IntegerField()
    royalties_out = serializers.IntegerField()
    fees = serializers.IntegerField()
    paid_directly = serializers.IntegerField(help_text="What buyers paid the vendor and not this site")
    payouts = serializers.IntegerField()
    collected = serializers.IntegerField(help_text="What the vendor paid this site of what they owed it")
    closing = serializers.IntegerField(help_text="What this site owes the vendor; negative: what it is owed")


class MonthOutput(serializers.Serializer[Any]):
    namespace = serializers.CharField()
    month = serializers.CharField()
    months = serializers.ListField(child=serializers.CharField())
    statements = StatementOutput(many=True)


class LineOutput(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    event = serializers.CharField()
    purpose = serializers.CharField()
    order = serializers.CharField()
    model = serializers.CharField()
    in_minor = serializers.IntegerField()
    out_minor = serializers.IntegerField()
    currency = serializers.CharField()


class PayoutInput(Input):
    currency = serializers.ChoiceField(choices=CURRENCIES)
    minimum_minor = serializers.IntegerField(min_value=1, max_value=MAX_PRICE_MINOR, required=False, default=1)
    namespace = serializers.CharField(
        max_length=96, required=False, help_text="Its balance alone, which its billing role may ask for"
    )


class PayoutSentInput(Input):
    reference = serializers.CharField(max_length=120, required=False, allow_blank=True, default="")


class DebtInput(Input):
    currency = serializers.ChoiceField(choices=CURRENCIES)
    amount_minor = serializers.IntegerField(min_value=1)
    reference = serializers.CharField(max_length=40, help_text="Of the transfer; what has one is posted once")


class PayoutOutput(serializers.Serializer[Any]):
    namespace = serializers.CharField(source="namespace.name")
    amount_minor = serializers.IntegerField()


class PayoutBatchOutput(serializers.Serializer[Any]):
    """`payouts` are those that the reader may see."""

    id = serializers.UUIDField()
    currency = serializers.CharField()
    minimum_minor = serializers.IntegerField()
    status = serializers.CharField()
    created_at = serializers.DateTimeField()
    closed_at = serializers.DateTimeField(allow_null=True)
    reference = serializers.CharField()
    payouts = PayoutOutput(many=True, source="shown_payouts")
