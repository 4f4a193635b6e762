"""Forms of tokens and organisations."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from babel.numbers import get_currency_precision
from django import forms

from marketplace.accounts.models import ApiToken, CapPeriod, Role, Scope
from marketplace.accounts.services.tokens import MAX_OVERLAP_HOURS, OVERLAP_HOURS, Cap

_CAP_HELP = "Orders and runs that would cost more are refused. Empty: no cap."
MAX_CAP = 10**10


class CapForm(forms.Form):
    """The part of a token's form that says how much may be spent with it."""

    cap = forms.DecimalField(
        min_value=0, max_value=MAX_CAP, decimal_places=2, required=False, label="Spend cap", help_text=_CAP_HELP
    )
    currency = forms.RegexField(r"^[A-Z]{3}$", initial="EUR", required=False, max_length=3, label="Currency of the cap")
    period = forms.ChoiceField(choices=CapPeriod.choices, initial=CapPeriod.MONTH, label="Counts what was spent")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("cap") is not None and not cleaned.get("currency"):
            self.add_error("currency", "A cap is in a currency, such as EUR.")
        return cleaned

    def wanted_cap(self) -> Cap | None:
        """Returns the cap in minor units; None where none is wanted."""
        amount, currency = self.cleaned_data["cap"], self.cleaned_data["currency"]
        if amount is None:
            return None
        minor = int(amount.scaleb(get_currency_precision(currency)))
        return Cap(minor, currency, CapPeriod(self.cleaned_data["period"]))


class TokenForm(CapForm):
    name = forms.CharField(max_length=80, help_text="What will use it, so that you know it again.")
    scopes = forms.MultipleChoiceField(choices=Scope.choices, widget=forms.CheckboxSelectMultiple)
    resources = forms.CharField(
        required=False,
        max_length=10_000,
        widget=forms.Textarea(attrs={"rows": 2}),
        label="Only for",
        help_text="Vendors (acme), models (acme/net) and datasets (datasets/ID), one in each line. Empty: all that is yours.",
    )
    days = forms.TypedChoiceField(
        choices=[(30, "30 days"), (90, "90 days"), (365, "a year")], coerce=int, initial=90, label="Expires after"
    )
    field_order = ["name", "scopes", "days", "resources", "cap", "currency", "period"]


class TokenChangeForm(CapForm):
    name = forms.CharField(max_length=80)
    field_order = ["name", "cap", "currency", "period"]

    @staticmethod
    def values_of(token: ApiToken) -> dict[str, Any]:
        if token.cap_minor is None:
            return {"name": token.name}
        amount = Decimal(token.cap_minor).scaleb(-get_currency_precision(token.cap_currency))
        return {"name": token.name, "cap": amount, "currency": token.cap_currency, "period": token.cap_period}


class TokenRotationForm(forms.Form):
    overlap_hours = forms.IntegerField(
        min_value=0,
        max_value=MAX_OVERLAP_HOURS,
        initial=OVERLAP_HOURS,
        label="Hours for which the earlier secret goes on",
        help_text="0 ends it at once, for one that others have seen.",
    )


class OrganizationForm(forms.Form):
    name = forms.CharField(max_length=96, help_text="The first half of its models' names, such as acme.")
    display_name = forms.CharField(max_length=120, required=False)


class MemberForm(forms.Form):
    username = forms.CharField(max_length=150)
    role = forms.ChoiceField(
        choices=[*Role.choices, ("", "None: remove the member")], required=False, initial=Role.READER
    )
