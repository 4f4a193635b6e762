from __future__ import annotations

from django import forms

from marketplace.accounts.models import Role, Scope


class TokenForm(forms.Form):
    name = forms.CharField(max_length=80, help_text="What will use it, so that you know it again.")
    scopes = forms.MultipleChoiceField(choices=Scope.choices, widget=forms.CheckboxSelectMultiple)
    days = forms.TypedChoiceField(
        choices=[(30, "30 days"), (90, "90 days"), (365, "a year")], coerce=int, initial=90, label="Expires after"
    )


class OrganizationForm(forms.Form):
    name = forms.CharField(max_length=96, help_text="The first half of its models' names, such as acme.")
    display_name = forms.CharField(max_length=120, required=False)


class MemberForm(forms.Form):
    username = forms.CharField(max_length=150)
    role = forms.ChoiceField(
        choices=[*Role.choices, ("", "None: remove the member")], required=False, initial=Role.READER
    )
