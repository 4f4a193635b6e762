"""Forms of an acceptance: the box to tick, and what the terms ask a licensee to state of themselves."""

from __future__ import annotations

from typing import Any

from babel.numbers import get_currency_precision
from django import forms

from models_catalog import territories
from models_catalog.declarations import Declaration, asked
from models_catalog.plain_words import money
from models_catalog.terms import Terms


class StatementForm(forms.Form):
    """A field for each fact that a clause of the terms limits; for none of them it has no fields."""

    def __init__(self, *args: Any, terms: Terms, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._terms = terms
        self._unit = 10 ** get_currency_precision(terms.currency)
        made = {"country": self._country, "monthly_users": self._users, "revenue_minor": self._revenue}
        for name in asked(terms):
            self.fields[name] = made[name]()

    def _country(self) -> forms.Field:
        named = ", ".join(territories.name(code) for code in self._terms.denied_territories)
        choices = [("", "Choose"), *sorted(territories.names().items(), key=lambda entry: entry[1])]
        return forms.ChoiceField(choices=choices, label="Country of use", help_text=f"Not allowed in {named}.")

    def _users(self) -> forms.Field:
        help_text = f"The terms allow at most {self._terms.max_monthly_users:,}."
        return forms.IntegerField(min_value=0, label="Users a month", help_text=help_text)

    def _revenue(self) -> forms.Field:
        currency = self._terms.currency
        most = money(self._terms.max_revenue_minor, currency)
        label = f"Your organization's yearly revenue, in whole {currency}"
        return forms.IntegerField(min_value=0, label=label, help_text=f"The terms allow at most {most}.")

    @property
    def declaration(self) -> Declaration:
        """What was stated, of a form that is valid."""
        found = {name: self.cleaned_data[name] for name in asked(self._terms)}
        if "revenue_minor" in found:
            found["revenue_minor"] *= self._unit
        return Declaration(**found)


class AcceptForm(StatementForm):
    terms_hash = forms.CharField(widget=forms.HiddenInput)
    licensee = forms.CharField(widget=forms.HiddenInput, required=False)
    accept = forms.BooleanField(label="I have read these terms and accept them.")

    field_order = ("terms_hash", "licensee", "country", "monthly_users", "revenue_minor", "accept")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.order_fields(self.field_order)
