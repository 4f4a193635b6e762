"""The form of the terms builder: money and percents as people write them, turned into clauses."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from babel.numbers import get_currency_precision
from django import forms

from models_catalog.plain_words import WORDS
from models_catalog.terms import (
    CURRENCIES,
    Answer,
    Approval,
    Attribution,
    Billing,
    DerivativeTerms,
    DownstreamGrant,
    Revocable,
    Right,
    Terms,
)
from models_catalog.uses import WORDS as USES
from models_catalog.validation import LENGTHS, LIMITS

_ANSWERS = [(Answer.ALLOW, "Yes"), (Answer.ASK, "Ask me"), (Answer.DENY, "No")]
_CREDIT = [
    (Attribution.NONE, "None"),
    (Attribution.NOTICE, "Keep the notices"),
    (Attribution.DISPLAY, "Visible credit"),
]
_OFFSPRING = [
    (DerivativeTerms.FREE, "Any license"),
    (DerivativeTerms.CARRY_RESTRICTIONS, "Any that carries these restrictions"),
    (DerivativeTerms.SAME_OR_COMPATIBLE, "The same or a compatible license"),
    (DerivativeTerms.SAME, "The same license"),
]
_DOWNSTREAM = [
    (DownstreamGrant.COVERED, "No: the derivative's license covers them"),
    (DownstreamGrant.ROYALTY, "No: my royalty covers them"),
    (DownstreamGrant.OWN_GRANT_REQUIRED, "Yes, a license of this model too"),
]
_MONEY = {"price": "price_minor", "royalty_floor": "royalty_floor_minor", "max_revenue": "max_revenue_minor"}
_WHOLE = ("term_days", "seats", "trial_days", "royalty_depth", "max_monthly_users")
_FLAGS = ("include_text", "state_changes", "pass_to_users", "network_source", "research_only", "transferable")
_CHOICES = ("attribution", "derivative_terms", "currency", "billing", "approval", "downstream_grant", "revocable_on")
_TEXTS = ("name", "attribution_text", "name_prefix")
# Where a clause's error stands in the form.
FIELDS = {**{clause: field for field, clause in _MONEY.items()}, "royalty_bps": "royalty"}


def _amount(label: str, **given: Any) -> forms.DecimalField:
    return forms.DecimalField(min_value=0, max_digits=16, decimal_places=2, required=False, label=label, **given)


def _number(name: str, label: str) -> forms.IntegerField:
    return forms.IntegerField(min_value=0, max_value=LIMITS[name], required=False, label=label)


def _flag(label: str) -> forms.BooleanField:
    return forms.BooleanField(required=False, label=label)


class TermsForm(forms.Form):
    version = forms.CharField(max_length=40, label="For version")
    name = forms.CharField(max_length=LENGTHS["name"], label="Name of the terms")
    price = _amount("Price")
    currency = forms.ChoiceField(choices=[(code, code) for code in CURRENCIES])
    billing = forms.ChoiceField(choices=[(Billing.ONE_TIME, "Once"), (Billing.PER_PERIOD, "For each term")])
    term_days = _number("term_days", "Lasts, in days")
    trial_days = _number("trial_days", "Trial, in days")
    seats = _number("seats", "Seats")
    approval = forms.ChoiceField(
        choices=[(Approval.AUTOMATIC, "Whoever accepts the terms"), (Approval.MANUAL, "Whom I approve")],
        label="Who gets a license",
    )
    transferable = _flag("A license can be passed on")
    revocable_on = forms.ChoiceField(
        choices=[(Revocable.BREACH, "Only for a breach"), (Revocable.NEVER, "Never")], label="A license is taken back"
    )
    royalty = forms.DecimalField(
        min_value=0, max_digits=5, decimal_places=2, required=False, label="Royalty, % of a derivative's price"
    )
    royalty_floor = _amount("At least, for each sale")
    royalty_depth = _number("royalty_depth", "For how many generations")
    downstream_grant = forms.ChoiceField(choices=_DOWNSTREAM, label="Licensees of a derivative need my license")
    attribution = forms.ChoiceField(choices=_CREDIT, label="Credit")
    attribution_text = forms.CharField(
        max_length=LENGTHS["attribution_text"], required=False, widget=forms.Textarea(attrs={"rows": 2})
    )
    derivative_terms = forms.ChoiceField(choices=_OFFSPRING, label="A derivative is under")
    name_prefix = forms.CharField(max_length=LENGTHS["name_prefix"], required=False, label="Its name begins with")
    include_text = _flag("Pass on the license text")
    state_changes = _flag("Say what was changed")
    pass_to_users = _flag("Bind one's own users to the bans")
    network_source = _flag("Publish weights and configuration of what is served")
    prohibited_uses = forms.MultipleChoiceField(
        choices=list(USES.items()), required=False, widget=forms.CheckboxSelectMultiple, label="Not to be used for"
    )
    research_only = _flag("For research only")
    denied_territories = forms.CharField(
        max_length=1000, required=False, label="Not in these countries", help_text="Two-letter codes, such as KP IR."
    )
    max_monthly_users = _number("max_monthly_users", "Users a month at most")
    max_revenue = _amount("Yearly revenue at most")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for right in Right:
            field = forms.ChoiceField(choices=_ANSWERS, label=WORDS[right])
            self.fields[f"right_{right.value}"] = field

    def groups(self) -> list[tuple[str, list[forms.BoundField]]]:
        """Returns the form's fields under their headings."""
        rights = [f"right_{right.value}" for right in Right]
        titles = {
            "The offer": ("version", "name", "price", "currency", "billing", "term_days", "trial_days", "seats"),
            "Licensees": ("approval", "transferable", "revocable_on"),
            "They may": rights,
            "They must": ("attribution", "attribution_text", "derivative_terms", "name_prefix", *_FLAGS[:4]),
            "They may not": (
                "prohibited_uses",
                "research_only",
                "denied_territories",
                "max_monthly_users",
                "max_revenue",
            ),
            "Royalty": ("royalty", "royalty_floor", "royalty_depth", "downstream_grant"),
        }
        return [(title, [self[name] for name in names]) for title, names in titles.items()]

    @property
    def clauses(self) -> dict[str, Any]:
        """What the valid form states, as the API would."""
        given = self.cleaned_data
        digits = get_currency_precision(given["currency"])
        return {
            **{name: given[name] for name in (*_TEXTS, *_CHOICES, *_FLAGS, "prohibited_uses")},
            **{name: given[name] or 0 for name in _WHOLE},
            **{clause: _whole((given[field] or Decimal(0)).scaleb(digits)) for field, clause in _MONEY.items()},
            "royalty_bps": _whole((given["royalty"] or Decimal(0)) * 100),
            "denied_territories": given["denied_territories"].upper().replace(",", " ").split(),
            "rights": {right.value: given[f"right_{right.value}"] for right in Right},
        }


def _whole(value: Decimal) -> int | float:
    """A fraction of the smallest unit stays one, so that it is refused and not rounded."""
    return int(value) if value == value.to_integral_value() else float(value)


def initial(terms: Terms) -> dict[str, Any]:
    """Returns what the form shows of the terms."""
    digits = get_currency_precision(terms.currency)
    money = {field: Decimal(getattr(terms, clause)).scaleb(-digits) for field, clause in _MONEY.items()}
    numbers = {name: getattr(terms, name) for name in _WHOLE}
    return {
        **{name: getattr(terms, name) for name in (*_TEXTS, *_CHOICES, *_FLAGS)},
        **{name: value or None for name, value in {**money, **numbers}.items()},
        "royalty": Decimal(terms.royalty_bps) / 100 or None,
        "prohibited_uses": list(terms.prohibited_uses),
        "denied_territories": " ".join(terms.denied_territories),
        **{f"right_{right.value}": terms.answer(right) for right in Right},
    }
