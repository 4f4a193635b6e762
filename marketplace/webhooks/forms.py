from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import F

from marketplace.accounts.models import Namespace, User
from marketplace.accounts.models.people import ADMINISTERS
from marketplace.webhooks.events import EventType
from marketplace.webhooks.models import MAX_URL
from marketplace.webhooks.services.endpoints import MAX_OVERLAP_HOURS, OVERLAP_HOURS

_CHOICES = [(value, f"{value}: {title}") for value, title in EventType.choices]


class ChangeForm(forms.Form):
    url = forms.CharField(
        max_length=MAX_URL, label="Address", help_text="Where your program listens, such as https://example.com/hooks."
    )
    description = forms.CharField(
        max_length=120, required=False, help_text="What it is for, so that you know it again."
    )
    events = forms.MultipleChoiceField(
        choices=_CHOICES,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="Choose none to be told of all of them.",
    )


class EndpointForm(ChangeForm):
    namespace = forms.ModelChoiceField(Namespace.objects.none(), empty_label=None, label="Of", to_field_name="name")
    field_order = ["namespace", "url", "description", "events"]

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        own = Namespace.objects.of(user, roles=ADMINISTERS).order_by(F("organization").asc(nulls_first=True), "name")
        self.fields["namespace"].queryset = own  # type: ignore[attr-defined]  # of a ModelChoiceField


class RotationForm(forms.Form):
    overlap_hours = forms.IntegerField(
        min_value=0,
        max_value=MAX_OVERLAP_HOURS,
        initial=OVERLAP_HOURS,
        label="Hours for which the earlier secret signs too",
        help_text="0 ends it at once, for one that others have seen.",
    )
