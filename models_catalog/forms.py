"""Forms of the catalog's pages: types and lengths only; rules are the services'."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, cast

from babel.numbers import get_currency_precision
from django import forms

from marketplace.accounts.models import Namespace, User
from models_catalog.cards import MAX_CARD_BYTES
from models_catalog.models.lineage import Relation
from models_catalog.models.listings import FRAMEWORKS, TASKS
from models_catalog.models.moderation import ReportReason
from models_catalog.presets import CURRENCIES, OFFERS

LICENSES = [(key, terms.name) for key, terms in OFFERS.items()]


CHANNELS = 3  # red, green, blue


def in_minor_units(form: forms.Form, fields: dict[str, Any], name: str) -> dict[str, Any]:
    """Returns the fields with the amount `name` as `<name>_minor`, in minor units of their `currency`; left empty it
    is 0, and without a currency it is in the one that the form began with. A fraction that the currency does not
    have is the field's error."""
    if name not in fields or "currency" not in fields:
        return fields
    currency = fields["currency"] or form.get_initial_for_field(form.fields["currency"], "currency")
    minor = (fields.pop(name) or Decimal(0)).scaleb(get_currency_precision(currency))
    if minor != int(minor):
        form.add_error(name, f"{currency} has no such fraction. Give a whole amount.")
        return fields
    return {**fields, "currency": currency, f"{name}_minor": int(minor)}


class SeatForm(forms.Form):
    """`member` is `USER:` or `USER:TOKEN`."""

    member = forms.ChoiceField(label="Give a seat to")

    def __init__(self, *args: Any, choices: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["member"].choices = choices  # type: ignore[attr-defined]  # ChoiceField's


class TransferForm(forms.Form):
    recipient = forms.CharField(
        max_length=96, label="Pass it on to", help_text="The name of a person or an organization on this site."
    )


class PaymentForm(forms.Form):
    """The way to pay, where there is more than one."""

    payment = forms.ChoiceField(label="How you pay", widget=forms.RadioSelect)

    def __init__(self, *args: Any, ways: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["payment"].choices = ways  # type: ignore[attr-defined]  # ChoiceField's
        self.fields["payment"].initial = ways[0][0]


class PayoutForm(forms.Form):
    currency = forms.ChoiceField(choices=[(code, code) for code in CURRENCIES])
    minimum = forms.DecimalField(
        min_value=Decimal("0.01"), max_digits=12, decimal_places=2, initial=50, label="Least amount that is paid out"
    )
    namespace = forms.ModelChoiceField(
        Namespace.objects.none(), to_field_name="name", label="Balance of", empty_label=None
    )

    def __init__(self, *args: Any, namespaces: list[Namespace], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if namespaces:
            choice = cast("forms.ModelChoiceField[Namespace]", self.fields["namespace"])
            choice.queryset = Namespace.objects.filter(pk__in=[row.pk for row in namespaces]).order_by("name")
        else:
            del self.fields["namespace"]  # the staff collect every balance

    def clean(self) -> dict[str, Any]:
        return in_minor_units(self, dict(super().clean() or {}), "minimum")


class DebtForm(forms.Form):
    """What a vendor has paid this site; `currencies` are those in which they owe it something."""

    currency = forms.ChoiceField()
    amount = forms.DecimalField(min_value=Decimal("0.01"), max_digits=12, decimal_places=2)
    reference = forms.CharField(
        max_length=40, label="Reference of the transfer", help_text="What has one is recorded once."
    )

    def __init__(self, *args: Any, currencies: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["currency"].choices = [(code, code) for code in currencies]  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        return in_minor_units(self, dict(super().clean() or {}), "amount")


class ReferenceForm(forms.Form):
    reference = forms.CharField(max_length=120, required=False, label="Reference of the transfer")


class AccessRequestForm(forms.Form):
    licensee = forms.CharField(widget=forms.HiddenInput, required=False)
    reason = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 4}), max_length=2000, label="What do you want the model for?"
    )


class ListingForm(forms.Form):
    namespace = forms.ModelChoiceField(Namespace.objects.none(), to_field_name="name", label="Publish as")
    name = forms.CharField(max_length=96, help_text="Letters, digits, '-', '_' and '.'.")
    title = forms.CharField(max_length=120)
    summary = forms.CharField(max_length=300, required=False)
    task = forms.ChoiceField(choices=TASKS)
    framework = forms.ChoiceField(choices=FRAMEWORKS, initial="timm")
    architecture = forms.CharField(max_length=100, help_text="The framework's own name, such as tf_efficientnet_lite0.")
    accuracy = forms.FloatField(min_value=0, max_value=1, required=False, help_text="Published metric, 0 to 1.")
    accuracy_metric = forms.CharField(max_length=80, required=False, label="Which metric")
    accuracy_source = forms.CharField(max_length=300, required=False, label="Its source")

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["namespace"].queryset = Namespace.objects.writable_by(user)  # type: ignore[attr-defined]  # ModelChoiceField's


class ReleaseForm(forms.Form):
    version = forms.CharField(max_length=40, initial="1.0")
    license = forms.ChoiceField(choices=LICENSES)
    price = forms.DecimalField(
        min_value=0, max_value=10_000_000, decimal_places=2, required=False, help_text="Empty for free."
    )
    currency = forms.ChoiceField(choices=[(code, code) for code in CURRENCIES], required=False)
    notes = forms.CharField(max_length=300, required=False, label="What is new")

    def clean(self) -> dict[str, Any]:
        return in_minor_units(self, dict(super().clean() or {}), "price")


class ParentForm(forms.Form):
    """A release that a draft was made from."""

    listing = forms.CharField(max_length=200, label="Made from", help_text="vendor/model, as in the catalog.")
    parent_version = forms.CharField(max_length=40, required=False, label="Its version", help_text="Empty: the newest.")
    relation = forms.ChoiceField(
        choices=[(value, title) for value, title in Relation.choices if value != Relation.TRAINED_ON], label="How"
    )


class ArtifactForm(forms.Form):
    """One file, checked; without the page's script a request may carry more, which the view takes too."""

    file = forms.FileField(label="Files", required=False)
    upload = forms.UUIDField(required=False, widget=forms.HiddenInput)  # of a file that came in pieces before
    path = forms.CharField(
        max_length=200,
        required=False,
        label="Path in the release",
        help_text="For a single file that is to have another name than its own.",
    )


class CardForm(forms.Form):
    text = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 14}), max_length=MAX_CARD_BYTES, label="Card (Markdown)"
    )


class ConfigForm(forms.Form):
    labels = forms.CharField(widget=forms.Textarea(attrs={"rows": 6}), help_text="One class a line, in order.")
    size = forms.IntegerField(min_value=16, max_value=1024, initial=224, label="Input size in pixels")
    mean = forms.CharField(initial="0.485 0.456 0.406")
    std = forms.CharField(initial="0.229 0.224 0.225")
    interpolation = forms.ChoiceField(choices=[(name, name) for name in ("bicubic", "bilinear", "nearest", "lanczos")])
    crop_fraction = forms.FloatField(min_value=0.5, max_value=1, initial=0.875)

    def _three(self, name: str) -> list[float]:
        try:
            values = [float(part) for part in self.cleaned_data[name].replace(",", " ").split()]
        except ValueError as error:
            raise forms.ValidationError("Three numbers, please.") from error
        if len(values) != CHANNELS:
            raise forms.ValidationError("Three numbers, please: red, green, blue.")
        return values

    def clean_mean(self) -> list[float]:
        return self._three("mean")

    def clean_std(self) -> list[float]:
        return self._three("std")


class ReasonForm(forms.Form):
    reason = forms.CharField(max_length=300)


class WordsForm(forms.Form):
    """A question, an answer, an appeal."""

    text = forms.CharField(widget=forms.Textarea(attrs={"rows": 4}), max_length=4000)

    def __init__(self, *args: Any, label: str = "", most: int = 4000, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["text"].label = label
        self.fields["text"].widget.attrs["maxlength"] = most


class ReportForm(forms.Form):
    reason = forms.ChoiceField(choices=ReportReason.choices, label="What is wrong with it?")
    text = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 5}),
        max_length=4000,
        label="What should the staff know?",
        help_text="Only the site's staff read this.",
    )


class TakedownForm(forms.Form):
    reason = forms.CharField(max_length=300, label="Reason", help_text="The owner reads it, and so do licensees.")
    legal_basis = forms.CharField(
        max_length=300, label="Legal basis", help_text="The law, or the clause of the license or of the site's rules."
    )


class DecisionForm(forms.Form):
    decision = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 3}), max_length=500, label="Reason of your decision"
    )
